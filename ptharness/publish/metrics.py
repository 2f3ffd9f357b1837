"""Samples, items and a task's own aggregates of one checkpoint x task -> its metrics rows.

Values are the task's own (at one sample lm-eval's, with lm-eval's standard errors). Beside
them: standard errors clustered where the task has clusters, intervals, pass@k, truncation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptharness.analysis.attempts import budgets, pass_at_k
from ptharness.context import TOO_LONG
from ptharness.planner import PlannedTask
from ptharness.publish.estimates import (
    FloatArray,
    IntArray,
    Interval,
    clustered_stderr,
    interval,
)
from ptharness.publish.items import is_cut_off, is_together, item_codes
from ptharness.schema import METRICS


@dataclass(frozen=True)
class _Evaluated:
    """One checkpoint x task: its samples, items and aggregates."""

    planned: PlannedTask
    samples: pa.Table
    items: pa.Table
    aggregates: pa.Table

    @cached_property
    def codes(self) -> IntArray:
        """The item of each samples row, as its place in the items table."""
        return item_codes(self.samples)[0]

    @cached_property
    def clusters(self) -> IntArray:
        """The cluster of each item, as a number; shape (items,)."""
        codes: IntArray = (
            self.items["cluster"].combine_chunks().dictionary_encode().indices.to_numpy()
        )
        return codes

    @property
    def has_clusters(self) -> bool:
        """Whether some cluster holds more than one item."""
        return len(np.unique(self.clusters)) < len(self.clusters)

    @cached_property
    def entries(self) -> tuple[IntArray, pa.Array]:
        """Every single score with the samples row that it belongs to."""
        lists = self.samples["scores"].combine_chunks()
        return pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists)

    @cached_property
    def failed(self) -> FloatArray:
        """Samples of each item that a scorer gave up on; shape (items,)."""
        rows = pc.is_valid(self.samples["error"]).to_numpy()
        return np.bincount(self.codes[rows], minlength=self.items.num_rows).astype(np.float64)


def metrics_table(
    planned: PlannedTask,
    samples: pa.Table,
    items: pa.Table,
    aggregates: pa.Table,
    constants: Mapping[str, Any],
) -> pa.Table:
    """Rows of `schema.METRICS`: the task's metrics in its order, pass@k, truncation_rate."""
    evaluated = _Evaluated(planned, samples, items, aggregates)
    rows = list(_own_metrics(evaluated))
    known = {(row["metric"], row["filter"]) for row in rows}
    rows += [row for row in _pass_rows(evaluated) if (row["metric"], row["filter"]) not in known]
    rows += _truncation_rows(evaluated)
    rows += _too_long_rows(evaluated)
    return pa.Table.from_pylist([{**constants, **row} for row in rows], schema=METRICS)


def _own_metrics(evaluated: _Evaluated) -> Iterator[dict[str, Any]]:
    header = evaluated.planned.prompts.header
    for aggregate in evaluated.aggregates.to_pylist():
        pair = (aggregate["metric"], aggregate["filter"])
        primary = pair == tuple(header.primary)
        value, stderr = _defined(aggregate["value"]), _defined(aggregate["stderr"])
        means, yes_no = _item_means(evaluated, pair, value)
        if means is None:
            found = Interval()
            if value is not None:
                found = interval(value, stderr, constant=False, clusters=0, proportion=False)
            if found.method and evaluated.has_clusters:
                found = Interval(found.low, found.high, "normal_unclustered")
            row = _row(pair, value, stderr, found, evaluated.items.num_rows)
        else:
            proportion = header.binary if primary else yes_no
            if evaluated.has_clusters:
                stderr = _stderr(evaluated, means)
            row = _mean_row(evaluated, pair, means, value, stderr, proportion=proportion)
        yield row | {
            "samples": aggregate["samples"] or evaluated.planned.samples,
            "is_primary": primary,
        }


def _item_means(
    evaluated: _Evaluated, pair: tuple[str, str], value: float | None
) -> tuple[FloatArray | None, bool]:
    """The mean of a metric over each item's samples (NaN if it has none), and whether there are
    values and all are 0 or 1. None where the task's aggregate is no mean of them.

    A sample whose scorer gave up counts 0, unless the task's aggregate leaves it out.
    """
    parents, entries = evaluated.entries
    if value is None:
        return None, False
    metric, filter_ = (entries.field(i) for i in (0, 1))
    chosen = pc.and_(pc.equal(metric, pair[0]), pc.equal(filter_, pair[1])).to_numpy(
        zero_copy_only=False
    )
    numbers = entries.field(2).to_numpy(zero_copy_only=False)[chosen]
    codes, size = evaluated.codes[parents[chosen]], evaluated.items.num_rows
    sums = np.bincount(codes, weights=numbers, minlength=size)
    counts = np.bincount(codes, minlength=size)
    for failed in (evaluated.failed, np.zeros(size)):
        total = counts + failed
        means = np.divide(sums, total, out=np.full(size, np.nan), where=total > 0)
        if total.any() and math.isclose(np.nanmean(means), value, rel_tol=1e-9, abs_tol=1e-12):
            yes_no = bool(((numbers == 0) | (numbers == 1)).all())
            return means, yes_no and len(numbers) > 0
    return None, False


def _pass_rows(evaluated: _Evaluated) -> Iterator[dict[str, Any]]:
    """pass@k of completions whose primary metric is a yes/no of single samples."""
    header, items = evaluated.planned.prompts.header, evaluated.items
    if header.kind != "generate" or not header.binary or is_together(evaluated.samples):
        return
    n, c = items["n"].to_numpy().astype(np.int64), items["c"].to_numpy().astype(np.int64)
    scored = n > 0
    if not scored.any():
        return
    for k in budgets(int(n[scored].min())):
        values = np.full(len(n), np.nan)
        values[scored] = pass_at_k(n[scored], c[scored], k)
        pair = (f"pass@{k}", header.primary[1])
        yield _proportion_row(evaluated, pair, values)


def _truncation_rows(evaluated: _Evaluated) -> Iterator[dict[str, Any]]:
    if evaluated.planned.prompts.header.kind == "generate":
        cut = is_cut_off(evaluated.samples)
        yield _proportion_row(evaluated, ("truncation_rate", "none"), _means(evaluated, cut))


def _too_long_rows(evaluated: _Evaluated) -> Iterator[dict[str, Any]]:
    """Only where some prompt did not fit: elsewhere the row would say nothing."""
    reasons = evaluated.samples["finish_reason"].cast(pa.string())
    unasked = pc.fill_null(pc.equal(reasons, TOO_LONG), False)
    if pc.any(unasked).as_py():
        means = _means(evaluated, unasked.cast(pa.float64()))
        yield _proportion_row(evaluated, ("too_long_rate", "none"), means)


def _means(evaluated: _Evaluated, values: pa.ChunkedArray) -> FloatArray:
    """Mean of a value of each sample over each item's samples; shape (items,)."""
    valid = pc.is_valid(values).to_numpy()
    codes, size = evaluated.codes[valid], evaluated.items.num_rows
    counts = np.bincount(codes, minlength=size)
    sums = np.bincount(codes, weights=pc.drop_null(values).to_numpy(), minlength=size)
    return np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)


def _proportion_row(
    evaluated: _Evaluated, pair: tuple[str, str], means: FloatArray
) -> dict[str, Any]:
    """The row of a proportion made here; NaN in `means` is an item without a value."""
    defined = means[~np.isnan(means)]
    value = float(defined.mean()) if len(defined) else None
    stderr = _stderr(evaluated, means)
    return _mean_row(evaluated, pair, means, value, stderr, proportion=True) | {
        "samples": evaluated.planned.samples,
        "is_primary": False,
    }


def _stderr(evaluated: _Evaluated, means: FloatArray) -> float | None:
    defined = ~np.isnan(means)
    return clustered_stderr(means[defined], evaluated.clusters[defined])


def _mean_row(
    evaluated: _Evaluated,
    pair: tuple[str, str],
    means: FloatArray,
    value: float | None,
    stderr: float | None,
    *,
    proportion: bool,
) -> dict[str, Any]:
    """The row of a mean over items with its interval."""
    defined = ~np.isnan(means)
    values, clusters = means[defined], evaluated.clusters[defined]
    found = Interval()
    if value is not None:
        constant = bool((values == values[:1]).all())
        count = len(np.unique(clusters))
        found = interval(value, stderr, constant=constant, clusters=count, proportion=proportion)
    return _row(pair, value, stderr, found, len(values))


def _row(
    pair: tuple[str, str], value: float | None, stderr: float | None, found: Interval, items: int
) -> dict[str, Any]:
    return {
        "metric": pair[0],
        "filter": pair[1],
        "value": value,
        "stderr": stderr,
        "ci_low": found.low,
        "ci_high": found.high,
        "ci_method": found.method,
        "n": items,
    }


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
