"""A run over the steps of a stage, and a run of some checkpoints alone, with the fake engine."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

import ptharness
from tests.conftest import write_checkpoint, write_safetensors
from tests.evaluation.conftest import PLUGIN, Command, Toys

END = "grpo: {path: checkpoints/grpo, parent: sft, method: grpo, step: 3}"
STEPS = "grpo: {steps: 'checkpoints/run/global_step_*/hf', parent: sft, method: grpo}"
NAMES = ["base", "sft", "grpo-5", "grpo-20", "grpo"]


@pytest.fixture
def stepped(toys: Toys) -> Toys:
    """base -> sft -> three steps of grpo, of which 100 is its end."""
    for step in (100, 5, 20):
        folder = toys.folder / "checkpoints" / "run" / f"global_step_{step}" / "hf"
        write_safetensors(write_checkpoint(folder) / "model.safetensors", float(step))
    toys.manifest(END, STEPS)
    return toys


def test_tables_carry_steps_in_order_and_each_is_compared_with_the_parent(stepped: Toys) -> None:
    results = stepped.run()
    assert results.run["failures"] == []
    rows = results.checkpoints
    assert list(rows.checkpoint) == NAMES
    assert list(rows.step.dropna()) == [5, 20, 100]
    assert rows.fingerprint.nunique() == 5
    assert set(rows.stage[2:]) == {2}
    for table in (results.samples, results.items, results.metrics):
        found = table.groupby("checkpoint", observed=True).step.max()
        assert found.dropna().to_dict() == {"grpo-5": 5, "grpo-20": 20, "grpo": 100}
    edges = results.edges
    edges = edges[edges.relation.eq("edge") & edges.quantity.eq("delta") & edges.scope.eq("task")]
    assert list(zip(edges.source, edges.target, strict=True)) == [
        ("base", "sft"),
        ("sft", "grpo-5"),
        ("sft", "grpo-20"),
        ("sft", "grpo"),
    ]
    assert edges.estimate.notna().all()
    assert edges.comparable.eq("same").all()
    assert list(edges.step.dropna()) == [5, 20, 100]


def test_a_later_step_moves_the_end_and_generates_itself_alone(stepped: Toys) -> None:
    stepped.run()
    before = stepped.units("generation")
    folder = stepped.folder / "checkpoints" / "run" / "global_step_200" / "hf"
    write_safetensors(write_checkpoint(folder) / "model.safetensors", 200.0)
    results = stepped.run()
    assert list(results.checkpoints.checkpoint) == [*NAMES[:-1], "grpo-100", "grpo"]
    assert len(stepped.units("generation")) == len(before) * 6 // 5


def test_a_selection_evaluates_its_own_and_keeps_the_lineage(stepped: Toys) -> None:
    results = stepped.run(checkpoints=("sft", "grpo-*"))
    assert results.run["failures"] == []
    assert list(results.checkpoints.checkpoint) == NAMES
    assert list(results.checkpoints.stage) == [0, 1, 2, 2, 2]
    assert results.checkpoints.fingerprint.isna().tolist() == [True, False, False, False, True]
    assert set(results.samples.checkpoint) == {"sft", "grpo-5", "grpo-20"}
    made = stepped.units("generation")
    edges = results.edges
    edges = edges[edges.quantity.eq("delta") & edges.estimate.notna() & edges.scope.eq("task")]
    pairs = {(e.source, e.target) for e in edges.itertuples()}
    assert pairs == {("sft", "grpo-5"), ("sft", "grpo-20")}
    whole = stepped.run()
    assert set(whole.samples.checkpoint) == set(NAMES)
    assert made.items() <= stepped.units("generation").items(), "nothing is made again"
    after = stepped.units("generation")
    narrowed = stepped.run(checkpoints=("base",))
    assert set(narrowed.samples.checkpoint) == {"base"}
    assert stepped.units("generation") == after


def test_a_selection_in_python_and_the_rest_may_be_gone(stepped: Toys) -> None:
    shutil.rmtree(stepped.folder / "checkpoints" / "base")
    results = ptharness.evaluate(
        stepped.folder / "lineage.yaml",
        stepped.out,
        checkpoints=["grpo-5"],
        limit=10,
        plugins=[str(PLUGIN)],
    )
    assert results.run["failures"] == []
    assert set(results.samples.checkpoint) == {"grpo-5"}
    assert list(results.checkpoints.checkpoint) == NAMES


def test_the_plan_is_that_of_the_selection(stepped: Toys, command: Command) -> None:
    words = command(
        *("plan", stepped.folder / "lineage.yaml", "-o", stepped.out),
        *("--checkpoints", "grpo-*, base", "--json"),
    )
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["checkpoints_in_order"] == ["base", "grpo-5", "grpo-20"]
