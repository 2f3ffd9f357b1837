"""Which rows of the tables of likelihoods still hold, and what becomes of damaged tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness.publish.files import write_table
from ptharness.publish.likelihoods import drop_stale, fresh_rows
from ptharness.schema import DISTANCES
from tests.synthetic import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path)
    made.folder.mkdir(parents=True)
    return made


def distances(run: Run, *sources: str, relation: str = "child") -> Path:
    """`distances.parquet` with a row for each source, judged by base."""
    path = run.folder / "distances.parquet"
    known = {"target": "base", "relation": relation, "scope": "task", "task": "add"}
    counts = {"lineage": "arith", "tasks": 1, "items": 2, "samples": 2}
    rows = [{**known, **counts, "source": source} for source in sources]
    write_table(path, pa.Table.from_pylist(rows, schema=DISTANCES), "")
    return path


def test_rows_of_checkpoints_that_are_gone_go(run: Run) -> None:
    path = distances(run, "sft", "old")
    lineage = run.evaluation.lineage
    assert [row["source"] for row in fresh_rows(path, lineage, {})] == ["sft"]
    assert drop_stale(run.folder, lineage, {}) == [path.name]
    assert pq.read_table(path)["source"].to_pylist() == ["sft"]
    assert drop_stale(run.folder, lineage, {}) == []


def test_rows_of_another_relation_go(run: Run) -> None:
    path = distances(run, "sft", relation="descendant")
    assert fresh_rows(path, run.evaluation.lineage, {}) == []
    assert drop_stale(run.folder, run.evaluation.lineage, {}) == [path.name]


@pytest.mark.parametrize("column", ["source", "nats_per_token", "target_fingerprint"])
def test_rows_without_a_column_do_not_hold(run: Run, column: str) -> None:
    path = distances(run, "sft")
    pq.write_table(pq.read_table(path).drop([column]), path)
    assert fresh_rows(path, run.evaluation.lineage, {}) == []
    assert drop_stale(run.folder, run.evaluation.lineage, {}) == [path.name]
    assert not path.exists()


def test_rows_of_other_types_do_not_hold(run: Run) -> None:
    path = distances(run, "sft")
    table = pq.read_table(path)
    place = table.column_names.index("nats_per_token")
    pq.write_table(table.set_column(place, "nats_per_token", pa.array(["far"])), path)
    assert fresh_rows(path, run.evaluation.lineage, {}) == []
    assert drop_stale(run.folder, run.evaluation.lineage, {}) == [path.name]


def test_a_damaged_table_stays_and_has_no_rows(run: Run) -> None:
    path = distances(run, "sft")
    path.write_bytes(path.read_bytes()[:200])
    assert fresh_rows(path, run.evaluation.lineage, {}) == []
    assert drop_stale(run.folder, run.evaluation.lineage, {}) == []
    assert path.exists()
