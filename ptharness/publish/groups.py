"""The metrics of a checkpoint's tasks -> those of the groups that the tasks belong to.

As lm-eval's `Group.aggregate` has it: the mean over the tasks that report the metric under the
filter, weighed by their documents or alike; the standard error from the tasks' own (which are
clustered where a task has clusters), pooled by size or of the unweighted mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ptharness.publish.estimates import RULE_OF_THREE, Interval, around, interval
from ptharness.schema import METRICS
from ptharness.tasks.base import Aggregation, Group

Row = Mapping[str, Any]


def group_table(
    groups: Sequence[Group], tasks: Mapping[str, pa.Table], tags: Mapping[str, Any]
) -> pa.Table:
    """Rows of `schema.METRICS` for the groups of one checkpoint, of its `tasks`' own rows.

    A group of which a task is missing has none: it would be a mean over other tasks than that of
    the next checkpoint.
    """
    rows = [
        {**tags, "task": group.name, "tasks": group.tasks, "is_primary": False, **row}
        for group in groups
        if tasks.keys() >= set(group.tasks)
        for row in _group_rows(group, {name: tasks[name].to_pylist() for name in group.tasks})
    ]
    return pa.Table.from_pylist(rows, schema=METRICS)


def _group_rows(group: Group, tasks: Mapping[str, Sequence[Row]]) -> Iterator[dict[str, Any]]:
    sizes = {name: max((row["n"] for row in rows), default=0) for name, rows in tasks.items()}
    for aggregation in group.aggregations:
        named = {
            name: {row["filter"]: row for row in rows if row["metric"] == aggregation.metric}
            for name, rows in tasks.items()
        }
        known = sorted({filter_ for rows in named.values() for filter_ in rows})
        for filter_ in known if aggregation.filters is None else aggregation.filters:
            found = {name: rows[filter_] for name, rows in named.items() if filter_ in rows}
            if found:
                row = _aggregate(aggregation, list(found.values()), [sizes[n] for n in found])
                yield {"metric": aggregation.metric, "filter": filter_, **row}


def _aggregate(aggregation: Aggregation, rows: Sequence[Row], sizes: Sequence[int]) -> Row:
    weights = sizes if aggregation.weight_by_size else [1] * len(rows)
    values, total = [row["value"] for row in rows], sum(weights)
    value = None
    if total and None not in values:
        value = math.fsum(v * w for v, w in zip(values, weights, strict=True)) / total
    errors = [row["stderr"] for row in rows]
    stderr = None
    if value is not None and None not in errors:
        by_size = aggregation.weight_by_size
        stderr = _pooled(errors, sizes) if by_size else math.hypot(*errors) / len(errors)
    found = Interval() if value is None else _interval(value, stderr, rows, weights)
    return {
        "value": value,
        "stderr": stderr,
        "ci_low": found.low,
        "ci_high": found.high,
        "ci_method": found.method,
        "n": sum(sizes),
        "samples": min(row["samples"] for row in rows),
    }


def _interval(
    value: float, stderr: float | None, rows: Sequence[Row], weights: Sequence[int]
) -> Interval:
    """Normal, with the ends 0 and 1 where those of all tasks do; None where no task varies and
    one of them has no interval.

    Where no task varies and each has the rule of three's 3 / G, the group reaches as far as the
    task that could move it most: clusters that differ in all tasks together go unseen as often as
    as many in that task alone. Weighed by size that is 3 over all tasks' clusters, if these are
    alike in size.
    """
    ends = [row[name] for row in rows for name in ("ci_low", "ci_high")]
    bounded = all(end is not None and 0 <= end <= 1 for end in ends)
    if bounded and all(row["ci_method"] == RULE_OF_THREE for row in rows):
        shares = [weight / sum(weights) for weight in weights]
        moved = list(zip(shares, rows, strict=True))
        below = max(share * (row["value"] - row["ci_low"]) for share, row in moved)
        above = max(share * (row["ci_high"] - row["value"]) for share, row in moved)
        return around(value, below, above)
    return interval(value, stderr, constant=False, clusters=0, proportion=bounded)


def _pooled(errors: Sequence[float], sizes: Sequence[int]) -> float | None:
    """lm-eval's `pooled_sample_stderr`: from the tasks' variances within; None for single items."""
    total, free = sum(sizes), sum(sizes) - len(sizes)
    if free <= 0:
        return None
    within = math.fsum((n - 1) * n * e**2 for n, e in zip(sizes, errors, strict=True)) / free
    return math.sqrt(within / total)
