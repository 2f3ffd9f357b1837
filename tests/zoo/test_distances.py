"""Behavioural distance on the zoo: vLLM judges every checkpoint's samples by every other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ptharness_zoo import CHECKPOINTS, MANIFEST

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")

NAMES = ("base", "sft", "narrow", "nudge", "sft-again")
OPTIONS = ("--tasks", "arith_rev,arith_rot", "--documents", "24", "--samples", "2")


def measure(out: Path, *options: str) -> tuple[dict[str, Any], str]:
    words = [sys.executable, "-m", "ptharness", "distances", str(MANIFEST), "-o", str(out)]
    done = subprocess.run(
        [*words, "--checkpoints", ",".join(NAMES), *OPTIONS, *options, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    out = tmp_path_factory.mktemp("distances")
    found, told = measure(out)
    return out, found, told


Measured = tuple[Path, dict[str, Any], str]


def pooled(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    rows = [row for row in found["distances"] if row["scope"] == "pooled"]
    return {(row["source"], row["target"]): row for row in rows}


def test_what_was_planted_shows_in_the_matrix(measured: Measured) -> None:
    at = pooled(measured[1])
    assert len(at) == len(NAMES) * (len(NAMES) - 1)
    nats = {pair: row["nats_per_token"] for pair, row in at.items()}
    # The same weights twice, and five small steps.
    assert nats["sft", "sft-again"] == pytest.approx(0.0, abs=1e-6)
    assert abs(nats["nudge", "sft"]) < 0.01
    # sft learned rot, which base cannot do; narrow forgot rev.
    assert nats["sft", "base"] > 1
    assert nats["narrow", "sft"] > 0.5
    # It has a direction.
    assert abs(nats["base", "sft"] - nats["sft", "base"]) > 0.1
    assert {at[p]["relation"] for p in at if p[0] == "sft"} >= {"child", "parent"}
    for row in at.values():
        assert (
            row["nats_per_token_ci_low"] <= row["nats_per_token"] <= row["nats_per_token_ci_high"]
        )
        assert row["samples"] == 2 * 24 * 2


def test_all_pairs_cost_one_swap_for_each_checkpoint(measured: Measured) -> None:
    told = measured[2]
    assert told.count("cold load") == 1
    # Once for its samples, once to judge those of all others; the first is in the engine already.
    assert told.count("swap load") == 2 * len(NAMES) - 1


def test_what_is_judged_is_kept(measured: Measured) -> None:
    again, told = measure(measured[0])
    assert again["distances"] == measured[1]["distances"]
    assert told.count("nothing to generate") == 2


def test_a_log_ratio_is_that_of_transformers(measured: Measured) -> None:
    """One text of sft, judged by base: its stored tokens through both models."""
    import pandas as pd
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    divergent = pd.read_parquet(measured[0] / "zoo" / "divergent.parquet")
    row = divergent[(divergent.source == "sft") & (divergent.task == "arith_rot")].iloc[0]
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINTS / "sft")
    context = tokenizer(row.prompt, add_special_tokens=False)["input_ids"]
    rest = tokenizer.convert_tokens_to_ids(list(row.tokens))
    for name, stored in (("sft", row.source_logprobs_nats), ("base", row.target_logprobs_nats)):
        model = AutoModelForCausalLM.from_pretrained(CHECKPOINTS / name, dtype=torch.float32)
        with torch.inference_mode():
            logits = model(torch.tensor([context + rest])).logits[0]
        logprobs = logits.log_softmax(-1)[len(context) - 1 : -1]
        expected = logprobs[range(len(rest)), rest].numpy()
        assert np.abs(expected - np.asarray(stored)).max() < 1e-3
    assert row.nats > 1
