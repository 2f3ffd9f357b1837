"""Unbiased polynomials of a success probability, from counts alone, in logarithms.

An item has n samples, c of them correct, and an unknown success probability p. For k <= n the
chance that k samples drawn from the n without replacement are all wrong is unbiased for
(1 - p)^k; restricted to c, n this is C(n - c, k) / C(n, k) (arXiv 2107.03374).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
PairCounts = tuple[Counts, Counts, Counts, Counts]
"""n and c of a parent, then n and c of its child; each of shape (items,)."""


def all_wrong(n: Counts, c: Counts, k: int) -> Floats:
    """U = C(n - c, k) / C(n, k), unbiased for (1 - p)^k. NaN where n < k.

    `n` and `c` broadcast; the result has their shape. n up to 10^6 and beyond does not overflow.

    >>> all_wrong(np.array([4, 4, 4]), np.array([0, 1, 3]), 2).tolist()
    [1.0, 0.5, 0.0]
    """
    return _ratio(np.asarray(n), np.asarray(n) - np.asarray(c), k)


def right_then_all_wrong(n: Counts, c: Counts, k: int) -> Floats:
    """PU = (c / n) C(n - c, k) / C(n - 1, k), unbiased for p (1 - p)^k. NaN where n < k + 1."""
    n, c = np.asarray(n), np.asarray(c)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(c / n * _ratio(n - 1, n - c, k), dtype=np.float64)


def _ratio(total: npt.NDArray[Any], wrong: npt.NDArray[Any], k: int) -> Floats:
    """C(wrong, k) / C(total, k), 0 where wrong < k, NaN where total < k."""
    total, wrong = np.broadcast_arrays(total, wrong)
    possible = (wrong >= k) & (total >= k)
    some, every = np.where(possible, wrong, k), np.where(possible, total, k)
    # In this order equal numbers cancel exactly: what never succeeds is exactly all wrong.
    logarithm = (gammaln(some + 1) - gammaln(some - k + 1)) - (
        gammaln(every + 1) - gammaln(every - k + 1)
    )
    ratio = np.where(possible, np.exp(np.minimum(logarithm, 0.0)), 0.0)
    return np.asarray(np.where(total >= k, ratio, np.nan), dtype=np.float64)
