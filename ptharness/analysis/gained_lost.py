"""Items that turn over: solved within k attempts by one checkpoint and not by the other.

    NEW_k = E[u (1-v)]    LOST_k = E[(1-u) v]    NEW_k - LOST_k = pass@k(child) - pass@k(parent)

with u = (1-p0)^k and v = (1-p1)^k. Two runs of one model show newly solved items too, so beside
them stands what that model's second run would show: E[u - u^2], with u^2 unbiased by
C(n-c, 2k) / C(n, 2k). Naive counts (c0 = 0 and c1 > 0) have no such baseline and mislead.

Also KEPT_k = E[(1-u)(1-v)] and NEITHER_k = E[u v]: the four add up to 1. They are the expected
shares of what the literature counts as expanded, shrunk, preserved and out (arXiv 2507.14843).

Units: fraction of items. Undefined for n < k; the baseline for n < 2k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import Counts, Floats, all_wrong
from ptharness.analysis.decomposition import as_codes, as_counts
from ptharness.analysis.means import Means
from ptharness.analysis.resampling import Estimate, Resampling

QUANTITIES = ("new", "lost", "kept", "neither")
BASELINE = "same_model_new"
TARGET_BASELINE = "same_model_new_target"
SHARES = (*QUANTITIES, BASELINE, TARGET_BASELINE)
SKEWED = ("new", "lost", BASELINE)


def item_terms(
    parent_n: Counts, parent_c: Counts, child_n: Counts, child_c: Counts, k: int
) -> Floats:
    """Each item's unbiased terms in the order of `QUANTITIES`; shape (items, 4).

    NaN where n < k.
    """
    u, v = all_wrong(parent_n, parent_c, k), all_wrong(child_n, child_c, k)
    return np.stack([u * (1 - v), (1 - u) * v, (1 - u) * (1 - v), u * v], axis=-1)


def baseline_terms(n: Counts, c: Counts, k: int) -> Floats:
    """Each item's chance that a second run of the same model newly solves it; shape (items,).

    NaN where n < 2k.
    """
    return all_wrong(n, c, k) - all_wrong(n, c, 2 * k)


def shares(found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """The same, with the intervals of shares of items between 0 and 1."""
    return {
        name: estimate.within(0.0, 1.0) if name in SHARES else estimate
        for name, estimate in found.items()
    }


@dataclass(frozen=True)
class Turnover:
    """Shares of items by who solves them within k attempts; new + lost + kept + neither = 1.

    `same_model_new` is what a second run of the parent would show as new; undefined for n < 2k.
    """

    k: int
    items: int
    new: Estimate
    lost: Estimate
    kept: Estimate
    neither: Estimate
    same_model_new: Estimate


def turnover(
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
) -> Turnover:
    """Items gained, lost, kept between two checkpoints, from counts, with intervals.

    `parent_n`, `parent_c`: samples and correct ones of the parent, shape (items,), or one number
    for all items; likewise the child's. Samples of the two sides must be independent. Raises
    `ValueError` for what are no counts, or k < 1.
    """
    n0, c0, n1, c1 = as_counts(parent_n, parent_c, child_n, child_c)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    items = len(n0)
    least = int(min(n0.min(initial=k), n1.min(initial=k)))
    if not items or least < k:
        reason = f"needs {k} samples of each item, and there are {least}"
        nothing = Estimate(items=items, reason=reason if items else "there is no item", level=level)
        return Turnover(k, items, *[nothing] * 5)
    names, columns = list(QUANTITIES), [item_terms(n0, c0, n1, c1, k)]
    if n0.min() >= 2 * k:
        names.append(BASELINE)
        columns.append(baseline_terms(n0, c0, k)[:, None])
    draws = Resampling.of(as_codes(clusters, items), replicates, seed)
    step = 1 / float(np.minimum(n0, n1).sum())
    means = Means.of(names, np.column_stack(columns), draws, step, bound=1.0)
    found = shares(means.estimates(level, skewed=SKEWED))
    reason = f"needs {2 * k} samples of each item: two runs of k = {k}"
    found.setdefault(BASELINE, Estimate(items=items, reason=reason, level=level))
    return Turnover(k, items, **found)
