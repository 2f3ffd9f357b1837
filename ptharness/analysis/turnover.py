"""Items that turn over: solved within k attempts by one checkpoint and not by the other.

    NEW_k = E[u (1-v)]    LOST_k = E[(1-u) v]    NEW_k - LOST_k = pass@k(child) - pass@k(parent)

with u = (1-p0)^k and v = (1-p1)^k. Two runs of one model show newly solved items too, so beside
them stands what that model's second run would show: E[u - u^2], with u^2 unbiased by
C(n-c, 2k) / C(n, 2k). Naive counts (c0 = 0 and c1 > 0) have no such baseline and mislead.

Units: fraction of items. Undefined for n < k; the baseline for n < 2k.
"""

from __future__ import annotations

import numpy as np

from ptharness.analysis.binomials import Counts, Floats, all_wrong

QUANTITIES = ("new", "lost", "same_model_new")


def item_terms(
    parent_n: Counts, parent_c: Counts, child_n: Counts, child_c: Counts, k: int
) -> Floats:
    """Each item's unbiased terms in the order of `QUANTITIES`; shape (items, 3).

    NaN where n is too small. The baseline is the parent's.
    """
    u, v = all_wrong(parent_n, parent_c, k), all_wrong(child_n, child_c, k)
    both_wrong = all_wrong(parent_n, parent_c, 2 * k)
    return np.stack([u * (1 - v), (1 - u) * v, u - both_wrong], axis=-1)
