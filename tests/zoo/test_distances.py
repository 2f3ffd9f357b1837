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


Measured = tuple[Path, dict[str, Any], str]
Found = dict[tuple[str, str], dict[str, Any]]


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


def sampled(measured: Measured) -> Found:
    """The same from log-ratios of the tokens drawn, of what is stored."""
    found, told = measure(measured[0], "--method", "sampled")
    assert told.count("nothing to generate") == 2
    return pooled(found)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    out = tmp_path_factory.mktemp("distances")
    found, told = measure(out)
    return out, found, told


def pooled(found: dict[str, Any]) -> Found:
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
    for pair, row in at.items():
        low, high = row["nats_per_token_ci_low"], row["nats_per_token_ci_high"]
        if set(pair) == {"sft", "sft-again"}:
            assert (low, high) == (None, None), "the same everywhere"
        else:
            assert low <= row["nats_per_token"] <= high
        assert row["samples"] == 2 * 24 * 2


def test_all_pairs_cost_one_swap_for_each_checkpoint(measured: Measured) -> None:
    told = measured[2]
    assert told.count("cold load") == 1
    # Once for its samples, once to judge those of all; the first is in the engine already, and
    # what sft says of them is what sft-again would.
    assert told.count("swap load") == 2 * len(NAMES) - 2


def test_what_is_judged_is_kept(measured: Measured) -> None:
    again, told = measure(measured[0])
    assert again["distances"] == measured[1]["distances"]
    assert told.count("nothing to generate") == 2


def test_exact_sums_are_within_the_error_of_sampled_ones(measured: Measured) -> None:
    exact, drawn = pooled(measured[1]), sampled(measured)
    assert exact.keys() == drawn.keys()
    errors = {}
    for pair, row in exact.items():
        assert (row["method"], drawn[pair]["method"]) == ("exact", "sampled")
        assert row["samples"] == drawn[pair]["samples"]
        errors[pair] = row["nats_per_token_stderr"], drawn[pair]["nats_per_token_stderr"]
        difference = row["nats_per_token"] - drawn[pair]["nats_per_token"]
        assert abs(difference) <= 3 * errors[pair][1] + 1e-7
        assert row["nats_per_token"] >= 0
    assert errors["nudge", "sft"][0] < errors["nudge", "sft"][1] / 10
    assert sum(own for own, _ in errors.values()) < sum(other for _, other in errors.values())


def test_an_exact_sum_is_that_of_transformers(measured: Measured) -> None:
    """All texts of sft on a task, over the whole vocabulary, by sft and by base."""
    import pyarrow.parquet as pq
    import torch
    from transformers import AutoModelForCausalLM

    sets = map(pq.read_table, measured[0].rglob("units/prompts/*/*.parquet"))
    (texts,) = [t for t in sets if b'"sft-arith_rot"' in t.schema.metadata[b"header"]]
    models = [
        AutoModelForCausalLM.from_pretrained(CHECKPOINTS / name, dtype=torch.float32)
        for name in ("sft", "base")
    ]
    nats = tokens = 0.0
    for row in texts.select(["prompt_token_ids", "continuation_token_ids"]).to_pylist():
        context, rest = row["prompt_token_ids"], row["continuation_token_ids"]
        with torch.inference_mode():
            ids = torch.tensor([context + rest])
            source, target = (m(ids).logits[0].double().log_softmax(-1) for m in models)
        visited = slice(len(context) - 1, len(context) + len(rest) - 1)
        nats += float((source.exp() * (source - target))[visited].sum())
        tokens += len(rest)
    (found,) = [
        row
        for row in measured[1]["distances"]
        if (row["source"], row["target"], row["task"]) == ("sft", "base", "arith_rot")
    ]
    assert texts.num_rows == found["samples"] == 48
    assert found["nats_per_token"] == pytest.approx(nats / tokens, abs=1e-3)


def test_a_log_ratio_is_that_of_transformers(measured: Measured) -> None:
    """One text of sft, judged by base: its stored tokens through both models."""
    import pandas as pd
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    judged = pd.read_parquet(measured[0] / "zoo" / "token_likelihoods.parquet")
    row = (
        judged[(judged.source == "sft") & (judged.task == "arith_rot")].sort_values("nats").iloc[-1]
    )
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
