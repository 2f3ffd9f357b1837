"""Which pairs are measured exactly, and what is refused: with the fake engine."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ptharness.distances import DistanceSettings, Method, measure_distances
from ptharness.engines.fake import FakeEngine
from ptharness.errors import EngineError
from ptharness.evaluation import Request
from ptharness.observer import Observer
from ptharness.plugins import load_plugins
from ptharness.results import Results
from ptharness.testing.tiny_models import write_tokenizer
from tests.evaluation.conftest import PLUGIN, Toys


@pytest.fixture(autouse=True)
def tokenizers(toys: Toys) -> None:
    for name in ("base", "sft", "grpo"):
        write_tokenizer(toys.folder / "checkpoints" / name)


def pad(toys: Toys, **tokens: int) -> None:
    """Say in the checkpoints' configs how many tokens they predict."""
    for name, count in tokens.items():
        path = toys.folder / "checkpoints" / name / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": count}))


def measure(toys: Toys, method: Method = "auto", **narrowed: Any) -> list[dict[str, Any]]:
    request = Request(toys.folder / "lineage.yaml", toys.out, **narrowed)
    settings = DistanceSettings(documents=4, samples=2, method=method)
    _, rows, failures = measure_distances(request, settings, load_plugins([PLUGIN]), Observer())
    assert not failures
    return rows


def test_each_pair_is_measured_as_exactly_as_it_can_be(toys: Toys) -> None:
    pad(toys, base=128, sft=128, grpo=130)
    rows = measure(toys)
    method = {(row["source"], row["target"]): row["method"] for row in rows}
    assert method == {
        pair: "exact" if "grpo" not in pair else "sampled"
        for pair in (
            *(("base", "sft"), ("base", "grpo"), ("sft", "base")),
            *(("sft", "grpo"), ("grpo", "base"), ("grpo", "sft")),
        )
    }
    for row in rows:
        assert row["samples"] == 4 * 2
        assert row["method"] == "sampled" or row["nats_per_token"] > 0
    before = toys.units("generation")
    assert {row["method"] for row in measure(toys, "sampled")} == {"sampled"}
    assert toys.units("generation") == before, "what is sampled is stored with what is exact"


def test_what_was_not_measured_again_stays(toys: Toys) -> None:
    toys.manifest("tasks: [toy]", "tasks: [toy, toy_two]")
    toys.task("toy_two", prompt="another {}")

    def places(*tables: str) -> list[set[tuple[str, ...]]]:
        names = {"distances": ["scope"], "token_likelihoods": ["sample"]}
        return [
            {
                tuple(map(str, row))
                for row in Results(toys.out / "toys")
                .read(table)[["source", "target", "task", *names[table]]]
                .itertuples(index=False)
            }
            for table in tables
        ]

    toys.run()
    measure(toys)
    every = places("distances", "token_likelihoods")
    assert len(every[0]) == 6 * 3
    assert {task for *_, task, _ in every[1]} == {"toy", "toy_two"}
    measure(toys, tasks=("toy",))
    assert places("distances", "token_likelihoods") == every
    measure(toys, checkpoints=("base", "sft"))
    assert places("distances", "token_likelihoods") == every


def test_a_checkpoint_that_cannot_be_loaded_is_named_once(toys: Toys) -> None:
    toys.manifest(fail_on="sft")
    request = Request(toys.folder / "lineage.yaml", toys.out)
    _, rows, failures = measure_distances(
        request, DistanceSettings(documents=4, samples=2), load_plugins([PLUGIN]), Observer()
    )
    assert [failure.checkpoint for failure in failures] == ["sft"]
    assert {(row["source"], row["target"]) for row in rows} == {("base", "grpo"), ("grpo", "base")}


def test_what_the_fake_engine_says_may_be_beyond_the_vocabulary(toys: Toys) -> None:
    pad(toys, base=20, sft=20, grpo=20)
    assert {row["method"] for row in measure(toys)} == {"exact"}


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ({}, "names no vocab_size"),
        ({"base": 128, "sft": 130, "grpo": 128}, "base and sft: .* 128 tokens .* 130"),
        ({"base": 5000, "sft": 5000, "grpo": 5000}, "5,000 tokens are too large.* 1,024 at most"),
    ],
)
def test_exact_sums_that_cannot_be_had_are_refused(
    toys: Toys, tokens: dict[str, int], told: str
) -> None:
    pad(toys, **tokens)
    with pytest.raises(EngineError, match=f"{told}.*; choose the method auto or sampled"):
        measure(toys, "exact")
    assert not toys.units("generation"), "it is said before anything is generated"


def test_texts_that_another_vocabulary_cannot_spell_are_left_out(toys: Toys) -> None:
    folder = toys.folder / "checkpoints" / "grpo" / "tokenizer.json"
    content = json.loads(folder.read_text())
    without = {token: i for token, i in content["model"]["vocab"].items() if token not in "4a"}
    content["model"]["vocab"] = without
    folder.write_text(json.dumps(content))
    rows = {(row["source"], row["target"]): row for row in measure(toys)}
    row = rows["sft", "grpo"]
    assert (row["method"], row["nats_per_token"]) == (None, None)
    assert row["excess_bits_per_byte_ci_low"] < row["excess_bits_per_byte_ci_high"]
    left_out = 4 * 2 - row["samples"]
    assert 0 < left_out < 8
    assert row["reason"].endswith(
        f"; {left_out} texts are left out, which the target's tokenizer cannot spell"
    )
    assert rows["grpo", "sft"]["samples"] == 8
    assert rows["sft", "base"]["method"] == "sampled"


def test_where_no_text_can_be_spelled_nothing_is_told_of_it(toys: Toys) -> None:
    path = toys.folder / "checkpoints" / "grpo" / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {t: i for t, i in vocabulary.items() if len(t) > 1}
    path.write_text(json.dumps(content))
    (row,) = [r for r in measure(toys) if (r["source"], r["target"]) == ("sft", "grpo")]
    assert (row["samples"], row["target_bits_per_byte"]) == (0, None)
    assert "8 texts are left out" in row["reason"]


def test_an_engine_without_distributions_is_named(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    pad(toys, base=128, sft=128, grpo=128)
    monkeypatch.setattr(
        FakeEngine, "capabilities", replace(FakeEngine.capabilities, distributions=0)
    )
    with pytest.raises(EngineError, match="the fake engine gives no distributions"):
        measure(toys, "exact")
