"""Tables of likelihoods are made by commands of their own: what of them still holds?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
Prints = Mapping[str, CheckpointPrint]

_PAIR = (
    *("source", "target", "relation"),
    *("source_fingerprint", "target_fingerprint", "source_tokenizer", "target_tokenizer"),
)
_STAGE = ("checkpoint", "parent", "parent_fingerprint", "trajectories")
"""Columns that say what a row is of."""


def drop_stale(folder: Path, lineage: Lineage, prints: Prints) -> list[str]:
    """Rewrite the tables of a folder with the rows that still hold; names of those that changed.

    A table without any is deleted: what it was made of is in the store.
    """
    changed = []
    for name in LIKELIHOODS:
        path = folder / f"{name}.parquet"
        table = _read(path)
        if table is None:
            continue
        fresh = _fresh(path, table, lineage, prints)
        if fresh.num_rows == table.num_rows:
            continue
        changed.append(path.name)
        if fresh.num_rows:
            write_table(path, fresh, "")
        else:
            path.unlink()
    return changed


def fresh_rows(path: Path, lineage: Lineage, prints: Prints) -> list[Row]:
    """The rows of a table that still hold; none where it cannot be read."""
    table = _read(path)
    return [] if table is None else list(_fresh(path, table, lineage, prints).to_pylist())


def replace_rows(
    path: Path,
    rows: Sequence[Row],
    schema: pa.Schema,
    measured: Collection[tuple[str, str, str]],
    lineage: Lineage,
    prints: Prints,
) -> None:
    """Write a table of pairs anew: these rows for what was `measured` (source, target and task),
    and beside them those of before that still hold."""
    made = pa.Table.from_pylist(list(rows), schema=schema)
    before = _read(path)
    kept = None if before is None else _fresh(path, before, lineage, prints)
    # One without rows may have other columns.
    if kept is not None and kept.num_rows:
        columns = [kept[name].to_pylist() for name in ("source", "target", "task")]
        others = [place not in measured for place in zip(*columns, strict=True)]
        kept = kept.filter(pa.array(others, pa.bool_()))
        made = pa.concat_tables([kept.select(schema.names).cast(schema), made])
    order = {checkpoint.name: at for at, checkpoint in enumerate(lineage.checkpoints)}
    sides = [[order[name] for name in made[side].to_pylist()] for side in ("source", "target")]
    ranks = sorted(range(made.num_rows), key=lambda at: (sides[0][at], sides[1][at]))
    write_table(path, made.take(pa.array(ranks, pa.int64())), "")


def _read(path: Path) -> pa.Table | None:
    """A table as it is; None where it is missing or damaged, which the report says."""
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException):
        return None


def _fresh(path: Path, table: pa.Table, lineage: Lineage, prints: Prints) -> pa.Table:
    """The rows that hold; none of a table with other columns."""
    try:
        table = checked(path, table)
    except ResultsError:
        return table.slice(0, 0)
    # Rows may hold every token of long texts: only what they are of becomes Python's values.
    about = [name for name in (*_PAIR, *_STAGE) if name in table.column_names]
    holds = [_holds(row, lineage, prints) for row in table.select(about).to_pylist()]
    return table.filter(pa.array(holds, pa.bool_()))


def _holds(row: Row, lineage: Lineage, prints: Prints) -> bool:
    """Whether the checkpoints that a row names are there and related as it says, and have the
    weights and the tokenizer that it is of.

    What this run did not read is taken to be the same.
    """
    sides = ("source", "target") if "source" in row else ("parent",)
    for side in sides:
        name = str(row[side])
        if name not in lineage.by_name:
            return False
        if name in prints:
            read = {"fingerprint": prints[name].weights, "tokenizer": prints[name].tokenizer}
            stored = {what: row.get(f"{side}_{what}") for what in read}
            if any(value and value != read[what] for what, value in stored.items()):
                return False
    if "source" in row:
        related = lineage.relation(row["source"], row["target"])
        return bool(related == row.get("relation", "child"))
    return _is_of_stage(row, lineage)


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
