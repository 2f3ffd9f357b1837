"""The analysis tables of a folder: made once, made again when they must be, never half."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness.analysis_settings import Settings
from ptharness.errors import ResultsError
from ptharness.publish import analysis_tables, default_settings, publish_analysis
from ptharness.publish.analysis_tables import read_inputs
from ptharness.publish.files import write_table
from ptharness.results import Results
from ptharness.schema import ANALYSIS
from tests.synthetic import Run

SETTINGS = Settings(k=2, replicates=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = Run(tmp_path, documents=20).fill()
    run.publish()
    return run.folder


def test_tables_are_made_once_and_again_when_something_changed(folder: Path) -> None:
    assert len(publish_analysis(Results(folder), SETTINGS)) == len(ANALYSIS) + 1
    assert publish_analysis(Results(folder), SETTINGS) == []
    assert publish_analysis(Results(folder), replace(SETTINGS, k=3))
    (folder / "verdicts.parquet").write_bytes(b"PAR1 damaged")
    assert "verdicts.parquet" in publish_analysis(Results(folder), replace(SETTINGS, k=3))
    assert len(Results(folder).verdicts)
    (folder / "analysis.json").unlink()
    assert publish_analysis(Results(folder), replace(SETTINGS, k=3))
    assert Results(folder).analysis["support_budget"] == 3


def test_new_numbers_are_analysed_anew(folder: Path, tmp_path: Path) -> None:
    publish_analysis(Results(folder), SETTINGS)
    before = Results(folder).edges
    better = Run(
        tmp_path, documents=20, correct=lambda *_: True, weights={"sft": "other weights"}
    ).fill()
    better.publish()
    assert publish_analysis(Results(folder), SETTINGS)
    assert not Results(folder).edges["estimate"].equals(before["estimate"])


def test_the_manifests_support_budget_is_the_default(folder: Path) -> None:
    assert default_settings(Results(folder)).k == 16
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"support_budget": 5}))
    assert default_settings(Results(folder)).k == 5


def test_how_each_was_asked_is_read_back(folder: Path) -> None:
    inputs = read_inputs(Results(folder))
    assert set(inputs.asked) == {
        (name, task) for name in ("base", "sft", "grpo") for task in ("add", "pick")
    }
    assert inputs.comparable("base", "sft", "add") == ("same", None)
    assert inputs.counts["add"].n.shape == (3, 20)
    # One document that the scorer gave up on counts as wrong; an item's cluster is kept.
    assert len(set(inputs.counts["add"].clusters.tolist())) == 10
    assert not inputs.counts["pick"].has_attempts


def test_choices_are_forgotten_or_come_back(folder: Path) -> None:
    publish_analysis(Results(folder), SETTINGS)
    edges = Results(folder).edges
    pick = edges[(edges.task == "pick") & (edges.relation == "edge")].astype({"quantity": str})
    found = pick.pivot(index="target", columns="quantity", values="estimate")
    change = found["backward_transfer"] - found["forgetting"]
    assert change.to_list() == pytest.approx(found["delta"].to_list())
    assert "forgetting" not in set(edges[edges.task == "add"].quantity)


def test_belief_in_the_right_choice_is_compared_item_by_item(folder: Path) -> None:
    believed = {"base": 0.2, "sft": 0.5, "grpo": 0.45}
    for name, start in believed.items():
        file = folder / "samples" / name / "pick.parquet"
        table = pq.ParquetFile(file).read()
        rows = table.to_pylist()
        for place, row in enumerate(rows):
            value = start + 0.01 * (place % 5)
            row["scores"].append({"metric": "choice_probability", "filter": "none", "value": value})
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    publish_analysis(Results(folder), SETTINGS)
    edges = Results(folder).edges
    found = edges[(edges.quantity == "choice_probability") & (edges.relation == "edge")]
    found = found.set_index("target")
    assert set(found.task) == {"pick"}
    assert found.estimate["sft"] == pytest.approx(0.3)
    assert found.estimate["grpo"] == pytest.approx(-0.05)
    assert found.ci_low["sft"] <= 0.3 <= found.ci_high["sft"]


def test_damage_is_named(folder: Path) -> None:
    (folder / "samples" / "sft" / "add.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(ResultsError, match=r"add\.parquet: cannot be read"):
        publish_analysis(Results(folder), SETTINGS)
    assert not (folder / "edges.parquet").exists()


def test_an_analysis_interrupted_before_its_description_is_finished(folder: Path) -> None:
    publish_analysis(Results(folder), SETTINGS)
    about = (folder / "analysis.json").read_text()
    publish_analysis(Results(folder), replace(SETTINGS, k=3))
    for stale in (about, about[:40]):
        (folder / "analysis.json").write_text(stale)
        assert publish_analysis(Results(folder), replace(SETTINGS, k=3))
        assert Results(folder).analysis["support_budget"] == 3


def test_two_analyses_at_once_leave_no_mixture_unsaid(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, table: pa.Table, state: str) -> None:
        write_table(path, table, "another" if path.stem == "edges" else state)

    monkeypatch.setattr(analysis_tables, "write_table", write)
    with pytest.raises(ResultsError, match=r"another analysis.*run the command again"):
        publish_analysis(Results(folder), SETTINGS)


@pytest.mark.parametrize(
    "change",
    [
        {"evaluated": [{"checkpoint": "base"}]},
        {"evaluated": 3},
        {"protocols": ["x"]},
        {"tasks": [1]},
        {"support_budget": "many"},
        {"support_budget": -1},
    ],
)
def test_a_run_json_that_is_none_is_refused(folder: Path, change: dict[str, object]) -> None:
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | change))
    results = Results(folder)
    with pytest.raises(ResultsError, match=r"run\.json"):
        publish_analysis(results, default_settings(results))


@pytest.mark.parametrize(
    ("name", "column", "value", "words"),
    [
        ("items", "c", 99, "c outside 0 to n"),
        ("items", "n", -1, "c outside 0 to n"),
        ("checkpoints", "provenance", "stolen", "'stolen'"),
        ("checkpoints", "parents", ["nobody"], "nobody"),
    ],
)
def test_tables_that_ptharness_does_not_write_are_refused(
    folder: Path, name: str, column: str, value: object, words: str
) -> None:
    path = folder / f"{name}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[-1][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    with pytest.raises(ResultsError, match=words):
        read_inputs(Results(folder))
