"""The metrics of groups of tasks, as lm-eval aggregates them: no tasks, and in no other panel."""

from __future__ import annotations

from dataclasses import dataclass

from ptharness.report.numbers import SEPARATOR, plain
from ptharness.report.tables import Tables

MOST_ROWS = 300


@dataclass(frozen=True)
class Groups:
    """Rows of group, checkpoint, metric, value, interval, items and tasks; `more` are left out."""

    rows: tuple[tuple[str, str, str, str, str, int, str], ...]
    more: int


def groups(tables: Tables) -> Groups:
    """The groups' rows of metrics.parquet, group by group; tables of before have none."""
    found = [row for row in tables.rows("metrics") if row.get("tasks") is not None]
    places: dict[str, int] = {}
    for row in found:
        places.setdefault(row["task"], len(places))
    found.sort(key=lambda row: places[row["task"]])
    rows = []
    for row in found[:MOST_ROWS]:
        known = row["ci_low"] is not None and row["ci_high"] is not None
        ends = f"[{plain(row['ci_low'])}{SEPARATOR}{plain(row['ci_high'])}]" if known else ""
        filtered = f", {row['filter']}" if row["filter"] != "none" else ""
        name = f"{row['metric']}{filtered}"
        tasks = ", ".join(row["tasks"])
        rows.append(
            (row["task"], row["checkpoint"], name, plain(row["value"]), ends, row["n"], tasks)
        )
    return Groups(tuple(rows), max(0, len(found) - MOST_ROWS))
