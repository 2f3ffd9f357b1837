"""Distances between vocabularies: the zoo's `base` with its tokens renumbered says the same text
just as likely, in other tokens."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ptharness_zoo import CHECKPOINTS

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")

SPECIAL = 5
"""Tokens of the zoo that keep their numbers."""

MANIFEST = f"""\
lineage: vocabularies
checkpoints:
  base: {{path: {json.dumps(str(CHECKPOINTS / "base"))}}}
  renumbered: {{path: renumbered}}
  sft: {{path: {json.dumps(str(CHECKPOINTS / "sft"))}, parent: base, method: sft}}
evaluate: {{tasks: [arith_rev, arith_rot], samples: 2, temperature: 1.0, max_tokens: 40}}
engine: {{name: vllm, dtype: float32}}
"""


def renumber(source: Path, target: Path) -> None:
    """Copy a checkpoint with the ids of its tokens, and the rows of its embedding, reversed."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    size = len(tokenizer["model"]["vocab"])
    moved = [*range(SPECIAL), *reversed(range(SPECIAL, size))]
    vocabulary = {text: moved[number] for text, number in tokenizer["model"]["vocab"].items()}
    tokenizer["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda pair: pair[1]))
    (target / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = load_file(source / "model.safetensors")
    rows = weights["model.embed_tokens.weight"]
    weights["model.embed_tokens.weight"] = rows[[*moved, *range(size, len(rows))]].contiguous()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("vocabularies")
    renumber(CHECKPOINTS / "base", folder / "renumbered")
    (folder / "lineage.yaml").write_text(MANIFEST)
    words = [sys.executable, "-m", "ptharness", "distances", "lineage.yaml", "--json"]
    done = subprocess.run(
        [*words, "--documents", "24", "--samples", "2"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=folder,
    )
    return folder / "results" / "vocabularies", json.loads(done.stdout)


def at(found: dict[str, Any], source: str, target: str) -> dict[str, Any]:
    (row,) = [
        row
        for row in found["distances"]
        if (row["source"], row["target"], row["scope"]) == (source, target, "pooled")
    ]
    return row


def test_there_is_no_divergence_between_vocabularies(
    measured: tuple[Path, dict[str, Any]],
) -> None:
    for pair in (("sft", "renumbered"), ("renumbered", "sft"), ("base", "renumbered")):
        row = at(measured[1], *pair)
        assert row["method"] is None
        assert row["nats_per_token"] is None
        assert row["nats_per_sequence"] is None
        assert row["reason"] == "another vocabulary: its tokens are not these"
        assert row["samples"] == 2 * 24 * 2


def test_the_same_text_is_as_likely_in_other_tokens(measured: tuple[Path, dict[str, Any]]) -> None:
    inside, across = at(measured[1], "sft", "base"), at(measured[1], "sft", "renumbered")
    assert inside["method"] == "exact"
    assert inside["excess_bits_per_byte"] > 1
    for name in ("source_bits_per_byte", "target_bits_per_byte", "excess_bits_per_byte"):
        assert across[name] == pytest.approx(inside[name], rel=1e-4)
    ends = "excess_bits_per_byte_ci_low", "excess_bits_per_byte_ci_high"
    assert across[ends[0]] < across["excess_bits_per_byte"] < across[ends[1]]
    same = at(measured[1], "base", "renumbered")
    assert same["excess_bits_per_byte"] == pytest.approx(0, abs=1e-4)
    assert same["source_bits_per_byte"] > 0.1


def test_bits_per_byte_are_those_of_the_text(measured: tuple[Path, dict[str, Any]]) -> None:
    """The tokens of sft's samples under base, as they are stored, over the bytes that they are."""
    tokens = pd.read_parquet(measured[0] / "token_likelihoods.parquet")
    assert set(zip(tokens.source, tokens.target, strict=True)) == {("sft", "base")}
    values = []
    for _, rows in tokens.groupby("task"):
        nats = size = 0.0
        for row in rows.itertuples():
            # One byte is one token here, and the last one ends the sequence.
            kept = [i for i, token in enumerate(row.tokens) if token != "<eos>"]
            nats -= float(row.target_logprobs_nats[kept].sum())
            size += len("".join(row.tokens[kept]).encode())
        values.append(nats / size)
    found = at(measured[1], "sft", "base")["target_bits_per_byte"]
    assert found == pytest.approx(sum(values) / len(values) / math.log(2), rel=1e-5)
