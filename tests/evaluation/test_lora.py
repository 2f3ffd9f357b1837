"""Adapters through a whole run: side by side, alone where they fail, and in the real vLLM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from ptharness_zoo import CHECKPOINTS

import ptharness
from ptharness.evaluation import Request, run
from ptharness.observer import Observer
from ptharness.plugins import load_plugins
from ptharness.results import Results
from tests.conftest import write_lora
from tests.engines.lora import make_adapter, merge
from tests.evaluation.conftest import PLUGIN, Toys

SIDE = Path(__file__).with_name("side_plugin.py")
GRPO = "grpo: {path: checkpoints/grpo, parent: sft, method: grpo, step: 3}"
ADAPTERS = ("one", "two", "three")
DOCUMENTS = 100


@pytest.fixture
def lora(toys: Toys) -> Toys:
    """The toy lineage with three adapters on sft in grpo's place."""
    for number, name in enumerate(ADAPTERS):
        write_lora(toys.folder / "checkpoints" / name, "sft", float(number))
    return toys


def evaluated(lora: Toys, name: str = "side", **engine: Any) -> tuple[Results, list[list[str]]]:
    """The results of a run, and what the engine wrote of it."""
    entries = "\n  ".join(
        f"{one}: {{adapter: checkpoints/{one}, parent: sft, method: sft}}" for one in ADAPTERS
    )
    path = lora.manifest(GRPO, entries, name=name, **engine)
    log = lora.folder / "checkpoints" / "side.log"
    log.unlink(missing_ok=True)
    plugins = load_plugins([PLUGIN, SIDE])
    results = run(Request(path, lora.out), plugins, Observer())[0]
    said = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return results, said


def failures(results: Results) -> set[tuple[str, str]]:
    return {(failure["checkpoint"], failure["stage"]) for failure in results.run["failures"]}


def test_adapters_on_one_base_are_asked_in_turn(lora: Toys) -> None:
    results, said = evaluated(lora)
    assert failures(results) == set()
    assert results.samples.groupby("checkpoint", observed=True).size().to_dict() == dict.fromkeys(
        ("base", "sft", *ADAPTERS), DOCUMENTS * 20
    )
    assert [words for words in said if words[0] == "load"] == [["load", *ADAPTERS]]
    assert [load["how"] for load in results.run["engine_loads"]] == [
        "cold", "swap", "adapter", "adapter", "adapter",
    ]  # fmt: skip
    asked = [name for word, name in said[1:] if word == "ask"]
    # Two at a time, as many as the engine takes side by side, and the third once they are done.
    assert set(asked[: 4 * DOCUMENTS]) == {"one", "two"}
    assert asked[4 * DOCUMENTS :] == ["three"] * 2 * DOCUMENTS
    turns = [name for name, before in zip(asked, ["", *asked], strict=False) if name != before]
    assert len(turns) > 8


def test_side_by_side_draws_what_each_draws_alone(lora: Toys) -> None:
    """An engine that takes one at a time makes the same of the same manifest."""
    together = evaluated(lora)[0].samples
    shutil.rmtree(lora.out)
    results, said = evaluated(lora, "fake")
    assert said == []
    assert failures(results) == set()
    columns = ["checkpoint", "item", "sample", "completion", "correct", "seed"]
    alone = results.samples
    assert alone[columns].astype(str).equals(together[columns].astype(str))
    drawn = alone[alone.checkpoint.isin(ADAPTERS)].groupby("checkpoint", observed=True)
    assert len({tuple(texts) for _, texts in drawn.completion}) == len(ADAPTERS)


def test_what_its_files_show_fails_before_anything_starts(lora: Toys) -> None:
    adapter = write_lora(lora.folder / "checkpoints" / "one", "sft", use_dora=True)
    (lora.folder / "checkpoints" / "two" / "adapter_config.json").unlink()
    results, said = evaluated(lora)
    assert [words for words in said if words[0] == "load"] == [["load", "three"]]
    told = {failure["checkpoint"]: failure["message"] for failure in results.run["failures"]}
    assert told.keys() == {"one", "two"}
    assert f"{adapter / 'adapter_config.json'}: use_dora: True: DoRA" in told["one"]
    assert "adapter_config.json: missing" in told["two"]


def test_a_refused_adapter_fails_alone(lora: Toys) -> None:
    results, said = evaluated(lora, refuse="one")
    assert failures(results) == {("one", "checkpoint")}
    assert set(results.samples.checkpoint) == {"base", "sft", "two", "three"}
    assert ["ask", "one"] not in said
    again, said = evaluated(lora)
    assert failures(again) == set()
    assert said[0] == ["load", "one"], "what is done is not asked again"


def test_an_adapter_that_kills_the_engine_fails_alone(lora: Toys) -> None:
    results, _ = evaluated(lora, crash_on="two")
    assert failures(results) == {("two", "generation")}
    assert set(results.samples.checkpoint) == {"base", "sft", "one", "three"}


def test_adapters_that_cannot_be_loaded_together_are_loaded_singly(lora: Toys) -> None:
    results, said = evaluated(lora, crash_together=True)
    assert failures(results) == set()
    loads = [words[1:] for words in said if words[0] == "load"]
    assert loads == [list(ADAPTERS), ["one"], ["two"], ["three"]]


def test_an_engine_without_adapters_says_so_for_each(lora: Toys) -> None:
    results, _ = evaluated(lora, "plain")
    assert failures(results) == {(name, "checkpoint") for name in ADAPTERS}
    message = results.run["failures"][0]["message"]
    assert "engine 'plain' serves no adapters; merge it into its base" in message
    assert set(results.samples.checkpoint) == {"base", "sft"}


@pytest.mark.vllm
def test_vllm_serves_a_lineage_with_adapters(tmp_path: Path) -> None:
    """Base, sft and two adapters on sft: the tables hold what the merged weights give."""
    pytest.importorskip("vllm")
    sft = CHECKPOINTS / "sft"
    checkpoints: dict[str, Any] = {
        "base": {"path": str(CHECKPOINTS / "base")},
        "sft": {"path": str(sft), "parent": "base", "method": "sft"},
    }
    for seed, name in enumerate(("narrow", "wide"), 1):
        rank, scale = 4 * seed, 0.1
        make_adapter(tmp_path / name, sft, seed=seed, rank=rank, scale=scale)
        merge(tmp_path / name, sft, tmp_path / f"{name}-merged")
        checkpoints[name] = {"adapter": name, "parent": "sft", "method": "sft"}
        checkpoints[f"{name}-merged"] = {
            "path": f"{name}-merged", "parent": "sft", "method": "sft",
        }  # fmt: skip
    manifest = {
        "lineage": "adapters",
        "checkpoints": checkpoints,
        "evaluate": {"tasks": ["arith_rot", "arith_add_choice"]},
        "engine": {"name": "vllm", "dtype": "float32"},
    }
    path = tmp_path / "lineage.yaml"
    path.write_text(yaml.safe_dump(manifest))
    results = ptharness.evaluate(path, tmp_path / "out", limit=24)
    assert results.run["failures"] == []
    loads = {load["checkpoint"]: load for load in results.run["engine_loads"]}
    assert {name: load["how"] for name, load in loads.items()} == {
        "base": "cold", "sft": "swap", "narrow-merged": "swap", "wide-merged": "swap",
        "narrow": "adapter", "wide": "adapter",
    }  # fmt: skip
    assert all(load["verified"] for load in loads.values())
    samples = results.samples.set_index(["checkpoint", "task", "item"]).sort_index()
    for name in ("narrow", "wide"):
        ours, its = samples.loc[name], samples.loc[f"{name}-merged"]
        assert ours.completion.equals(its.completion)
        choices = ours.choice_logprobs_nats.dropna()
        assert len(choices) == 24
        for item, values in choices.items():
            expected = its.loc[item].choice_logprobs_nats
            assert list(values) == pytest.approx(list(expected), abs=1e-4)
    texts = {
        name: tuple(samples.loc[(name, "arith_rot")].completion)
        for name in ("sft", "narrow", "wide")
    }
    assert len(set(texts.values())) == 3, "the adapters must differ for this to show anything"
