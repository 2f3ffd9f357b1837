"""The main job with the fake engine: what is kept, what is done again, what fails alone."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ptharness.errors import StoreError
from ptharness.executors.base import UnitFailed, WorkerRestarted
from ptharness.observer import Observer
from ptharness.scoring import ScoringPool
from ptharness.worker import Loaded, UnitDone
from tests.evaluation.conftest import Toys


class Recorder(Observer):
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def event(self, event: Any) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def test_lineage_goes_in_tables_come_out(toys: Toys) -> None:
    results = toys.run()
    assert results.run["failures"] == []
    samples = results.samples
    assert len(samples) == 3 * 100 * 20
    assert samples.groupby("checkpoint", observed=True).correct.mean().between(0.4, 0.6).all()
    assert set(samples.loc[samples.checkpoint == "grpo", "provenance"]) == {"on_policy"}
    assert set(samples.loc[samples.checkpoint == "grpo", "step"]) == {3}
    assert not samples.duplicated(["checkpoint", "item", "sample"]).any()
    assert [load["how"] for load in results.run["engine_loads"]] == ["cold", "swap", "swap"]


def test_rerun_does_nothing_and_starts_no_process(toys: Toys) -> None:
    toys.run()
    before = {p: p.stat().st_mtime_ns for p in toys.out.rglob("*") if p.is_file()}
    recorder = Recorder()
    toys.run(recorder)
    assert recorder.events == []
    assert {p: p.stat().st_mtime_ns for p in toys.out.rglob("*") if p.is_file()} == before


def test_more_samples_add_only_new_blocks(toys: Toys) -> None:
    first = toys.run(samples=16)
    before = toys.units("generation")
    kept = first.samples.set_index(["checkpoint", "item", "sample"]).completion
    grown = toys.run(samples=48)
    after = toys.units("generation")
    assert before.items() <= after.items(), "no stored block is made again"
    assert len(after) == 3 * len(before)
    now = grown.samples.set_index(["checkpoint", "item", "sample"]).completion
    pd.testing.assert_series_equal(now.loc[kept.index], kept)
    assert now.groupby("checkpoint").nunique().min() > kept.groupby("checkpoint").nunique().max()


def test_limit_moves_no_boundary(toys: Toys) -> None:
    limited = toys.run(limit=70).samples
    before = toys.units("generation")
    assert limited.item.nunique() == 70
    full = toys.run().samples
    new = toys.units("generation").keys() - before.keys()
    assert len(new) == 3 * 2, "only the last, short shard is drawn anew, in both blocks"
    merged = full.merge(limited, on=["checkpoint", "item", "sample"])
    assert len(merged) == 3 * 70 * 20
    assert (merged.completion_x == merged.completion_y).all()


def test_changed_scorer_scores_again_without_generating(toys: Toys) -> None:
    toys.task(gold="42")
    right = toys.run().samples
    generated, scored = toys.units("generation"), toys.units("score")
    toys.task(gold="7")
    recorder = Recorder()
    wrong = toys.run(recorder).samples
    assert recorder.of(UnitDone) == []
    assert toys.units("generation") == generated
    assert len(toys.units("score")) == 2 * len(scored)
    assert right.correct.mean() > 0.4
    assert wrong.correct.mean() < 0.1


def test_replicates_differ_and_parents_are_independent(toys: Toys) -> None:
    toys.manifest(
        "evaluate:",
        "  again: {path: checkpoints/sft, parent: base, method: sft, replicate: 1}\nevaluate:",
    )
    samples = toys.run().samples
    wide = samples.pivot(index=["item", "sample"], columns="checkpoint", values="completion")
    seeds = samples.pivot(index=["item", "sample"], columns="checkpoint", values="seed")
    assert (wide["sft"] == wide["again"]).mean() < 0.4
    assert not (seeds["sft"] == seeds["again"]).any()
    assert not (seeds["base"] == seeds["sft"]).any()


def test_an_unusable_checkpoint_fails_alone(toys: Toys) -> None:
    (toys.folder / "checkpoints/sft/model.safetensors").write_bytes(b"short")
    results = toys.run()
    [failure] = results.run["failures"]
    assert failure["checkpoint"] == "sft"
    assert "not a whole safetensors file" in failure["message"]
    assert set(results.samples.checkpoint) == {"base", "grpo"}


def dangling(folder: Path) -> None:
    (folder / "more.safetensors").symlink_to(folder / "nowhere.safetensors")


def header_is_a_list(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]")


def end_is_text(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": "</s>"}')


def tokenizer_is_a_list(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("[]")


@pytest.mark.parametrize("spoil", [dangling, header_is_a_list, end_is_text, tokenizer_is_a_list])
def test_whatever_is_odd_about_a_checkpoint_concerns_it_alone(
    toys: Toys, spoil: Callable[[Path], None]
) -> None:
    spoil(toys.folder / "checkpoints/sft")
    results = toys.run(limit=2)
    [failure] = results.run["failures"]
    assert failure["checkpoint"] == "sft"
    assert "checkpoints/sft" in failure["message"]
    assert set(results.samples.checkpoint) == {"base", "grpo"}


def test_a_disk_that_cannot_be_written_ends_the_run_at_once(toys: Toys) -> None:
    """No other engine would do better: nothing is retried."""
    (toys.out / "units").mkdir(parents=True)
    (toys.out / "units" / "generation").write_text("a file where a folder should be")
    recorder = Recorder()
    with pytest.raises(StoreError, match=r"\.parquet: cannot be written"):
        toys.run(recorder)
    assert recorder.of(WorkerRestarted) == []
    assert len(recorder.of(Loaded)) == 1


def test_shared_units_that_fail_are_named_for_every_owner(toys: Toys) -> None:
    toys.manifest(
        "evaluate:",
        "  twin: {path: checkpoints/sft, parent: base, method: sft}\nevaluate:",
        crash_on="sft",
    )
    results = toys.run()
    assert {failure["checkpoint"] for failure in results.run["failures"]} == {"sft", "twin"}


def test_a_checkpoint_the_engine_refuses_fails_alone(toys: Toys) -> None:
    toys.manifest(fail_on="sft")
    results = toys.run()
    [failure] = results.run["failures"]
    assert failure["checkpoint"] == "sft"
    assert "planted failure" in failure["message"]
    assert set(results.samples.checkpoint) == {"base", "grpo"}


def test_a_dead_engine_is_replaced_and_its_units_retried_singly(toys: Toys) -> None:
    """One checkpoint kills every process that generates it; the others are not harmed."""
    toys.manifest(crash_on="sft")
    recorder = Recorder()
    results = toys.run(recorder)
    failed = recorder.of(UnitFailed)
    assert {event.unit.checkpoint for event in failed} == {"sft"}
    assert len(failed) == 4, "two shards in two blocks, each tried alone"
    assert "exit code 66" in failed[0].message
    assert len(recorder.of(WorkerRestarted)) >= 1
    assert set(results.samples.checkpoint) == {"base", "grpo"}
    assert len(results.samples) == 2 * 100 * 20
    assert {failure["checkpoint"] for failure in results.run["failures"]} == {"sft"}


def test_an_engine_that_dies_now_and_then_loses_nothing(toys: Toys) -> None:
    """The process dies after 150 results: enough for a unit alone, too few for all."""
    toys.manifest(crash_after=150)
    recorder = Recorder()
    toys.run(recorder)
    done = [event.key for event in recorder.of(UnitDone)]
    assert len(done) == len(set(done)), "no unit is generated twice"
    # What failed while tried singly is found by the next run.
    toys.manifest()
    results = toys.run()
    assert results.run["failures"] == []
    assert len(results.samples) == 3 * 100 * 20
    assert recorder.of(Loaded)


def test_a_hanging_scorer_is_ended_and_the_item_marked(
    toys: Toys, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys.task(hang=[5])
    original = ScoringPool.__init__

    def impatient(self: ScoringPool, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **{**options, "time_limit_s": 0.5})

    monkeypatch.setattr(ScoringPool, "__init__", impatient)
    results = toys.run()
    samples = results.samples
    marked = samples[samples.error.notna()]
    assert set(marked.item.str.split("-").str[0]) == {"5"}
    assert len(marked) == 3 * 20
    assert not marked.correct.any()
    assert marked.error.str.contains("time limit of 0.5 s exceeded").all()
    assert results.run["failures"] == []


def test_a_scorer_that_dies_marks_its_item(toys: Toys) -> None:
    toys.task(die=[7])
    results = toys.run()
    marked = results.samples[results.samples.error.notna()]
    assert set(marked.item.str.split("-").str[0]) == {"7"}
    assert marked.error.str.contains("exit code 9").all()


def test_a_scorer_that_dies_once_marks_nothing(toys: Toys) -> None:
    toys.task(die_once=str(toys.folder / "died"))
    samples = toys.run().samples
    assert (toys.folder / "died").exists()
    assert samples.error.isna().all()
    assert len(samples) == 3 * 100 * 20


def test_a_task_that_raises_fails_alone(toys: Toys) -> None:
    toys.task("toy_broken", **{"raise": [3]})
    toys.manifest("tasks: [toy]", "tasks: [toy_broken, toy]")
    results = toys.run()
    assert {failure["task"] for failure in results.run["failures"]} == {"toy_broken"}
    assert "planted: document 3" in results.run["failures"][0]["message"]
    assert set(results.samples.task) == {"toy"}


def test_a_task_whose_file_is_gone_fails_alone(toys: Toys) -> None:
    toys.manifest("tasks: [toy]", "tasks: [toy_gone, toy]")
    results = toys.run()
    assert {failure["task"] for failure in results.run["failures"]} == {"toy_gone"}
    assert "toy_gone.json" in results.run["failures"][0]["message"]
    assert set(results.samples.task) == {"toy"}


def test_plugins_hear_of_the_results(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptharness.plugins import Plugins

    heard: list[Any] = []
    monkeypatch.setattr(Plugins, "run_finished", lambda self, results: heard.append(results))
    results = toys.run(limit=2)
    assert heard == [results]
