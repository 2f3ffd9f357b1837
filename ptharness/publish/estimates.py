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
RULE_OF_THREE = "rule_of_three"
"""Method of the interval of what is the same on all items."""


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

    Normal around `value`; that of a proportion ends at 0 and 1. Where nothing varies (all items
    alike, `constant`, or a standard error of 0) the normal interval would have no width: of a
    proportion the rule of three over clusters takes its place, 3 / G on either side, and of
    another mean the interval is not known.
    """
    if not math.isfinite(value):
        return Interval()
    if constant or stderr == 0:
        return around(value, min(1.0, 3 / clusters)) if proportion and clusters else Interval()
    if stderr is None:
        return Interval()
    low, high = value - Z_95 * stderr, value + Z_95 * stderr
    if proportion:
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(low, high, "normal")


def around(value: float, below: float, above: float | None = None) -> Interval:
    """The rule of three's interval of a proportion that does not vary, by how far it reaches."""
    high = value + (below if above is None else above)
    return Interval(max(value - below, 0.0), min(high, 1.0), RULE_OF_THREE)
