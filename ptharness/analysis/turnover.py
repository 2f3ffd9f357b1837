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

import numpy as np

from ptharness.analysis.binomials import Counts, Floats, all_wrong

QUANTITIES = ("new", "lost", "kept", "neither")
BASELINE = "same_model_new"
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
