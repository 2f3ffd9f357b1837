"""What a solved item costs: tokens generated per correct answer.

    cost = sum of tokens over all samples / sum of correct samples                tokens per solve

A ratio of sums: a mean of the items' ratios would be infinite with the first unsolved item. Tokens
of wrong samples count, for they had to be generated. The interval is that of the delta method on
the logarithm, clustered: costs are positive and skewed. Undefined where nothing was solved.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ptharness.analysis.ratios import Groups, MacroMeans
from ptharness.analysis.resampling import Estimate


def tokens_per_solve(
    tokens: npt.ArrayLike, c: npt.ArrayLike, clusters: Groups = None, *, level: float = 0.95
) -> Estimate:
    """Tokens generated per correct sample.

    `tokens` are those of all samples of an item together, `c` its correct samples; shape (items,).
    """
    pair = np.broadcast_arrays(np.atleast_1d(tokens), np.atleast_1d(c))
    terms = np.stack(pair, axis=1).astype(np.float64)
    if (terms < 0).any():
        raise ValueError("tokens and c must not be negative")
    if not terms[:, 1].sum():
        reason = f"needs a solved item, and there is none among {len(terms)}"
        return Estimate(level=level, items=len(terms), reason=reason)
    if not terms[:, 0].sum():
        reason = "needs token counts, and all are 0"
        return Estimate(level=level, items=len(terms), reason=reason)
    return MacroMeans.of(terms, clusters).positive_ratio(level)
