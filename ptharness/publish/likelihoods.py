"""Tables of likelihoods are made by commands of their own: what of them still holds?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.errors import ResultsError, TrajectoryError
from ptharness.lineage import Lineage
from ptharness.planner import CheckpointPrint
from ptharness.publish.files import write_table
from ptharness.results import checked
from ptharness.schema import LIKELIHOODS
from ptharness.trajectories import content_digest

Row = Mapping[str, Any]


def drop_stale(folder: Path, lineage: Lineage, prints: Mapping[str, CheckpointPrint]) -> list[str]:
    """Rewrite the tables of a folder with the rows that still hold; names of those that changed.

    A table without any is deleted: what it was made of is in the store.
    """
    changed = []
    for name, schema in LIKELIHOODS.items():
        path = folder / f"{name}.parquet"
        table = _read(path)
        if table is None:
            continue
        fresh = _fresh(path, table, lineage, prints)
        if len(fresh) == table.num_rows:
            continue
        changed.append(path.name)
        if fresh:
            write_table(path, pa.Table.from_pylist(fresh, schema=schema), "")
        else:
            path.unlink()
    return changed


def fresh_rows(path: Path, lineage: Lineage, prints: Mapping[str, CheckpointPrint]) -> list[Row]:
    """The rows of a table that still hold; none where it cannot be read."""
    table = _read(path)
    return [] if table is None else _fresh(path, table, lineage, prints)


def _read(path: Path) -> pa.Table | None:
    """A table as it is; None where it is missing or damaged, which the report says."""
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException):
        return None


def _fresh(
    path: Path, table: pa.Table, lineage: Lineage, prints: Mapping[str, CheckpointPrint]
) -> list[Row]:
    """The rows that hold; none of a table with other columns."""
    try:
        rows = checked(path, table).to_pylist()
    except ResultsError:
        return []
    return [row for row in rows if _holds(row, lineage, prints)]


def _holds(row: Row, lineage: Lineage, prints: Mapping[str, CheckpointPrint]) -> bool:
    """Whether the checkpoints that a row names are there, and have the weights that it is of.

    Weights that this run did not read are taken to be the same.
    """
    sides = {"parent": "parent_fingerprint"}
    if "source" in row:
        sides = {"source": "source_fingerprint", "target": "target_fingerprint"}
    for side, fingerprint in sides.items():
        name, expected = str(row.get(side)), row.get(fingerprint)
        if name not in lineage.by_name:
            return False
        if expected and name in prints and prints[name].weights != expected:
            return False
    return "checkpoint" not in row or _is_of_stage(row, lineage)


def _is_of_stage(row: Row, lineage: Lineage) -> bool:
    """Whether a row of `provenance` is of the stage's parent and training set as they are."""
    child = lineage.by_name.get(row["checkpoint"])
    if child is None or child.stage is None or child.stage.trajectories is None:
        return False
    try:
        same = content_digest(child.stage.trajectories) == row.get("trajectories")
    except TrajectoryError:
        return False
    return same and row.get("parent") in child.parents
