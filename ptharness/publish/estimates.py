"""Estimators of the metrics table: pass@k, clustered standard errors, 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval and how it was made; all None where it is undefined."""

    low: float | None = None
    high: float | None = None
    method: str | None = None


def budgets(samples: int) -> list[int]:
    """The k of pass@k: powers of two below `samples`, and `samples` itself.

    >>> budgets(6)
    [1, 2, 4, 6]
    """
    return [2**power for power in range(max(samples - 1, 0).bit_length())] + [samples]


def pass_at_k(n: IntArray, c: IntArray, k: int) -> FloatArray:
    """Chance that k of an item's n samples, drawn without replacement, hold a correct one.

    The unbiased estimator 1 - C(n - c, k) / C(n, k) of arXiv 2107.03374, in logarithms. `n` and
    `c` have shape (items,); k is at most the least n.

    >>> pass_at_k(np.array([4, 4]), np.array([1, 0]), 2).tolist()
    [0.5, 0.0]
    """
    if k == 1:
        return np.asarray(c / n, dtype=np.float64)
    pairs, inverse = np.unique(np.stack([n, c]), axis=1, return_inverse=True)
    values = [_pass_at_k(int(total), int(correct), k) for total, correct in pairs.T]
    return np.array(values, dtype=np.float64)[inverse.reshape(-1)]


def _pass_at_k(n: int, c: int, k: int) -> float:
    if n - c < k:
        return 1.0
    without = math.lgamma(n - c + 1) - math.lgamma(n - c - k + 1)
    every = math.lgamma(n + 1) - math.lgamma(n - k + 1)
    return -math.expm1(min(without - every, 0.0))


def clustered_stderr(values: FloatArray, clusters: IntArray) -> float | None:
    """Standard error of the mean of `values`, shape (items,), with `clusters` of equal shape.

    Deviations are summed within a cluster before they are squared, with the factor G / (G - 1)
    for G clusters: where every item is its own cluster that is std(ddof=1) / sqrt(n). None for
    fewer than two clusters.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    count = int(codes.max()) + 1 if len(codes) else 0
    if count < 2:
        return None
    sums = np.bincount(codes, weights=values - values.mean())
    return float(math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values))


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
