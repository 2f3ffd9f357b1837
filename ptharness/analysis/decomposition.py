"""What a stage did: the change in success split into expansion, reshaping and attrition.

Draw k attempts from the parent and k from the child. Where the parent fails all and the child
does not, a change in success is *expansion*; where both succeed at least once it is *reshaping*;
where the child fails all and the parent did not it is *attrition*; where both fail all, a residual.
With p0, p1 the success probabilities of an item, d = p1 - p0, u = (1 - p0)^k, v = (1 - p1)^k:

    EXP = E[d u (1 - v)]   RSH = E[d (1 - u)(1 - v)]   ATT = E[d (1 - u) v]   RES = E[d u v]

which add up to mean(p1) - mean(p0). Each is a sum of products of a parent-only and a child-only
polynomial, so with U = C(n-c, k) / C(n, k) and PU = (c/n) C(n-c, k) / C(n-1, k) each has an exactly
unbiased form from counts, without threshold and without prior:

    EXP = U0 (p1 - PU1) - PU0 (1 - U1)          RSH = (1 - U0)(p1 - PU1) - (p0 - PU0)(1 - U1)
    ATT = (1 - U0) PU1 - (p0 - PU0) U1          RES = U0 PU1 - PU0 U1             (p = c / n)

If p0 = p1 on every item, each has expectation exactly 0: two runs of one model show no expansion.
Parent and child samples must be independent. Units: fractions of 1 (0.01 is a percentage point
of accuracy). Undefined for n < k + 1 on either side; n >= 2k is recommended.

These are answer-level proxies of the survey's state-action roles (arXiv 2604.07941, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import Counts, Floats, all_wrong, right_then_all_wrong
from ptharness.analysis.movement import estimate_movement
from ptharness.analysis.resampling import (
    Codes,
    Estimate,
    Resampling,
    bootstrap_t,
    clustered_stderr,
    student,
)

QUANTITIES = ("delta", "exp", "rsh", "att", "res")
SKEWED = frozenset({"exp", "att", "res"})
"""Cells to which few items contribute; see `skewed_interval`."""


CLAIMED = {"exp": 1, "att": -1}
"""The sign that a verdict would claim of a cell; its p-value tests that one."""


def item_terms(
    parent_n: Counts, parent_c: Counts, child_n: Counts, child_c: Counts, k: int
) -> Floats:
    """Each item's unbiased terms, in the order of `QUANTITIES`; shape (items, 5).

    NaN where n < k + 1. exp + rsh + att + res = delta on every item, to rounding.
    """
    p0, p1 = parent_c / parent_n, child_c / child_n
    u0, u1 = all_wrong(parent_n, parent_c, k), all_wrong(child_n, child_c, k)
    pu0 = right_then_all_wrong(parent_n, parent_c, k)
    pu1 = right_then_all_wrong(child_n, child_c, k)
    return np.stack(
        [
            p1 - p0,
            u0 * (p1 - pu1) - pu0 * (1 - u1),
            (1 - u0) * (p1 - pu1) - (p0 - pu0) * (1 - u1),
            (1 - u0) * pu1 - (p0 - pu0) * u1,
            u0 * pu1 - pu0 * u1,
        ],
        axis=-1,
    )


@dataclass(frozen=True)
class Decomposition:
    """The change from parent to child and its cells, each an `Estimate` in fractions of 1.

    exp + rsh + att + res = delta and rsh_up + rsh_down = rsh. `k` is the support budget. The
    p-values test what a verdict would claim: exp > 0, att < 0, rsh_up > 0, rsh_down < 0, delta,
    rsh and res different from 0; all are two-sided (1 where the sign is the other).
    """

    k: int
    items: int
    delta: Estimate
    exp: Estimate
    rsh: Estimate
    rsh_up: Estimate
    rsh_down: Estimate
    att: Estimate
    res: Estimate


def decompose(
    parent_n: npt.ArrayLike,
    parent_c: npt.ArrayLike,
    child_n: npt.ArrayLike,
    child_c: npt.ArrayLike,
    k: int,
    clusters: Sequence[Any] | npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Decomposition:
    """Decompose the change in success between two checkpoints on shared items, from counts.

    `parent_n`, `parent_c`: samples and correct ones of the parent, shape (items,), or one number
    for all items; likewise the child's. `clusters` says which items belong together (each its own
    where it is None). Samples of the two sides must be independent. Intervals are at `level`, from
    `replicates` of a bootstrap over clusters (a tenth as many for rsh_up and rsh_down).

    Where some n < k + 1, all but delta is undefined and says so. Raises `ValueError` where shapes
    differ, c is not in 0..n, or k < 1.
    """
    counts = _as_counts(parent_n, parent_c, child_n, child_c)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    n0, _, n1, _ = counts
    codes = _as_codes(clusters, len(n0))
    resampling = Resampling.of(codes, replicates, seed)
    terms = item_terms(*counts, k)
    least = int(min(n0.min(), n1.min())) if len(n0) else 0
    if least < k + 1:
        reason = f"needs {k + 1} samples of each item for k = {k}, and there are {least}"
        undefined = Estimate(items=len(n0), reason=reason, level=level)
        delta = estimate_means(terms[:, :1], ["delta"], resampling, level)["delta"]
        return Decomposition(k, len(n0), delta, *[undefined] * 6)
    samples = float(np.minimum(n0, n1).sum())
    cells = estimate_means(terms, QUANTITIES, resampling, level, resolution=1 / samples)
    if len(resampling.sizes) < 2:
        return Decomposition(k, len(n0), **cells, rsh_up=cells["rsh"], rsh_down=cells["rsh"])
    some = Resampling(codes, resampling.weights[: max(2, replicates // 10)])
    rsh = terms[:, QUANTITIES.index("rsh")]
    moved = estimate_movement(counts, rsh, k, some, level, seed)
    return Decomposition(k, len(n0), **cells, **moved)


def estimate_means(
    terms: Floats,
    names: Sequence[str],
    resampling: Resampling,
    level: float,
    resolution: float = 0.0,
) -> dict[str, Estimate]:
    """Means over items of terms (items, quantities), each with the interval that fits it.

    `resolution` is what one sample more or less changes: no skewed cell's interval is narrower.
    """
    items, clusters = len(terms), len(resampling.sizes)
    if clusters < 2:
        reason = f"needs two clusters of items, and there is {clusters}"
        return {name: Estimate(items=items, reason=reason, level=level) for name in names}
    sums = resampling.sums(terms)
    means, stderrs = terms.mean(axis=0), clustered_stderr(sums, resampling.sizes)
    ratios = resampling.studentized(sums)
    found = {}
    for column, name in enumerate(names):
        mean, stderr = float(means[column]), float(stderrs[column])
        if stderr > 0 and name in SKEWED:
            low, high, p = skewed_interval(
                mean, stderr, ratios[:, column], sums[:, column], items, level
            )
            low, high = min(low, mean - resolution), max(high, mean + resolution)
            p = p if mean * CLAIMED.get(name, mean) > 0 else 1.0
            method = "bootstrap_t"
        elif stderr > 0:
            low, high, p = student(mean, stderr, clusters, level)
            method = "clustered_t"
        else:
            # Equal on all items. That bounds how often it can differ: it is not known exactly.
            reach = min(1.0, -math.log(1 - level) / clusters)
            p = 1.0 if mean == 0 else min(1.0, 2 * 0.5**clusters)
            low, high, method = mean - reach, mean + reach, "rule_of_three"
        found[name] = Estimate(mean, stderr, low, high, method, level, p, items)
    return found


def skewed_interval(
    mean: float, stderr: float, ratios: Floats, sums: Floats, items: int, level: float
) -> tuple[float, float, float]:
    """Interval and two-sided p-value of a mean to which few items contribute much.

    Such a mean is skewed, and its rare large terms may not have been seen. So the wider of
    Student's t and the bootstrap-t is taken, and widened by one unseen cluster as extreme as the
    most extreme one seen. In simulations of 400 items this covers the truth in 91 to 99 % of cases
    at the level of 95 %, where bootstrap-t alone covers 79 to 95 %.
    """
    low, high, p = student(mean, stderr, len(sums), level)
    skewed_low, skewed_high, skewed_p = bootstrap_t(mean, stderr, ratios, level)
    # Replicates that miss nearly all contributing items have nearly no stderr: a bound on those.
    farthest = 3 * (high - mean)
    low = min(low, max(skewed_low, mean - farthest))
    high = max(high, min(skewed_high, mean + farthest))
    unseen = float(np.abs(sums).max()) / items
    return low - unseen, high + unseen, max(p, skewed_p)


def _as_counts(*values: npt.ArrayLike) -> tuple[Counts, Counts, Counts, Counts]:
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value)) for value in values))
    if any(array.ndim != 1 for array in arrays):
        raise ValueError(f"counts must have one dimension, not {arrays[0].ndim}")
    n0, c0, n1, c1 = (np.asarray(array, dtype=np.int64) for array in arrays)
    for n, c in ((n0, c0), (n1, c1)):
        if (n < 1).any() or (c < 0).any() or (c > n).any():
            raise ValueError("each item needs n >= 1 samples and 0 <= c <= n correct ones")
    return n0, c0, n1, c1


def _as_codes(clusters: Any, items: int) -> Codes:
    if clusters is None:
        return np.arange(items, dtype=np.int64)
    if len(clusters) != items:
        raise ValueError(f"{len(clusters)} clusters given for {items} items")
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    return np.asarray(codes.reshape(-1), dtype=np.int64)
