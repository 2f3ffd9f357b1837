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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import (
    Counts,
    Floats,
    PairCounts,
    all_wrong,
    right_then_all_wrong,
)
from ptharness.analysis.means import Means
from ptharness.analysis.movement import Reshaping
from ptharness.analysis.resampling import Codes, Estimate, Resampling
from ptharness.analysis.threads import on_one_core

QUANTITIES = ("delta", "exp", "rsh", "att", "res")
SKEWED = ("exp", "att", "res")
"""Cells to which few items contribute; `Means` gives them a wider interval."""

MOST_SAMPLES = 10**9 - 1
"""Of one item; numpy splits no more into halves."""

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
    counts = as_counts(parent_n, parent_c, child_n, child_c)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    items = len(counts[0])
    if not items:
        nothing = Estimate(reason="there is no item", level=level)
        return Decomposition(k, 0, *[nothing] * 7)
    resampling = Resampling.of(as_codes(clusters, items), replicates, seed)
    least = int(min(counts[0].min(), counts[2].min()))
    if least < k + 1:
        undefined = Estimate(items=items, reason=too_few(least, k), level=level)
        delta = delta_means(counts, resampling).estimates(level)["delta"]
        return Decomposition(k, items, delta, *[undefined] * 6)
    terms = item_terms(*counts, k)
    some = resampling.first(max(2, replicates // 10))
    with on_one_core():
        cells = cell_means(terms, counts, resampling)
        moved = Reshaping.of(counts, terms[:, QUANTITIES.index("rsh")], k, some, seed)
    return Decomposition(k, items, **cell_estimates(cells, level), **moved.estimates(level))


def too_few(least: int, k: int) -> str:
    """Why the cells are undefined."""
    return f"needs {k + 1} samples of each item for k = {k}, and there are {least}"


def cell_means(terms: Floats, counts: PairCounts, draws: Resampling) -> Means:
    """The means of the cells over items, from `item_terms` of the counts n0, c0, n1, c1."""
    step = 1 / float(np.minimum(counts[0], counts[2]).sum())
    return Means.of(QUANTITIES, terms, draws, step, bound=1.0)


def delta_means(counts: PairCounts, draws: Resampling) -> Means:
    """The mean change alone, which is defined for every n >= 1."""
    n0, c0, n1, c1 = counts
    return Means.of(["delta"], (c1 / n1 - c0 / n0)[:, None], draws, bound=1.0)


def cell_estimates(means: Means, level: float) -> dict[str, Estimate]:
    """Intervals of the cells, by the method that fits each."""
    return means.estimates(level, skewed=SKEWED, claimed=CLAIMED)


def as_counts(*values: npt.ArrayLike) -> PairCounts:
    """n0, c0, n1, c1 of equal shape (items,). Raises `ValueError` for what are no counts."""
    arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value)) for value in values))
    if any(array.ndim != 1 for array in arrays):
        raise ValueError(f"counts must have one dimension, not {arrays[0].ndim}")
    if any(array.dtype.kind == "f" and (array != np.floor(array)).any() for array in arrays):
        raise ValueError("counts must be whole numbers")
    n0, c0, n1, c1 = (np.asarray(array, dtype=np.int64) for array in arrays)
    for n, c in ((n0, c0), (n1, c1)):
        if (n < 1).any() or (c < 0).any() or (c > n).any():
            raise ValueError("each item needs n >= 1 samples and 0 <= c <= n correct ones")
        if (n > MOST_SAMPLES).any():
            raise ValueError(f"n is at most {MOST_SAMPLES}, not {n.max()}")
    return n0, c0, n1, c1


def as_codes(clusters: Any, items: int) -> Codes:
    """Clusters as numbers from 0; each item its own where there are none."""
    if clusters is None:
        return np.arange(items, dtype=np.int64)
    if len(clusters) != items:
        raise ValueError(f"{len(clusters)} clusters given for {items} items")
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    return np.asarray(codes.reshape(-1), dtype=np.int64)
