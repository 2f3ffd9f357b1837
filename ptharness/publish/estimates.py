"""Clustered standard errors and 95 % intervals of the metrics table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptharness.analysis import resampling

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval and how it was made; all None where it is undefined."""

    low: float | None = None
    high: float | None = None
    method: str | None = None


def clustered_stderr(values: FloatArray, clusters: IntArray) -> float | None:
    """Standard error of the mean of `values`, shape (items,), with `clusters` of equal shape.

    None for fewer than two clusters.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        return None
    sums = resampling.cluster_sums(values[:, None], codes, len(sizes))
    return float(resampling.clustered_stderr(sums, sizes.astype(np.float64))[0])


def interval(
    value: float, stderr: float | None, *, constant: bool, clusters: int, proportion: bool
) -> Interval:
    """The interval around a mean.

    Normal around `value`; that of a proportion ends at 0 and 1. Where all items of a proportion
    are 0, or all are 1 (`constant`), the normal interval would have no width: the rule of three
    over clusters takes its place, 3 / G from the end.
    """
    if proportion and constant and clusters:
        reach = min(1.0, 3 / clusters)
        low, high = (0.0, reach) if value < 0.5 else (1.0 - reach, 1.0)
        return Interval(low, high, "rule_of_three")
    if stderr is None or not math.isfinite(value):
        return Interval()
    low, high = value - Z_95 * stderr, value + Z_95 * stderr
    if proportion:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(low, high, "normal")
