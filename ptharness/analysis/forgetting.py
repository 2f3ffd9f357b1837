"""What was forgotten and what came back, beyond what chance alone shows.

*Squared movement*, threshold-free, for sampled answers with n >= 2 samples on both sides:

    D2 = mean[(p1 - p0)^2 - p0 (1 - p0) / (n0 - 1) - p1 (1 - p1) / (n1 - 1)],     p = c / n

unbiased for the mean squared change of the success probabilities. The two subtracted terms are
what sampling alone adds, so two runs of one model have expectation 0, and D2 may be negative.
Unit: squared fractions of 1; sqrt(D2) is a typical change of an item.

*Forgetting and backward transfer* for multiple choice, with b, a = 1 where an item is right before
and after, and m choices (arXiv 2510.17776):

    forgetting         mean[b (1 - a)] - (1 - mean b)(1 - mean a) / (m - 1)
    backward transfer  mean[(1 - b) a] - (1 - mean b)(1 - mean a) / (m - 1)

Of an item that is guessed, 1 in m - 1 as many as are wrong are right by luck: (1 - mean b)/(m - 1)
of the items before, of which the share 1 - mean a is wrong after. That takes what is guessed
before and after to be independent; where both guess on the same items, and anew, lucky changes
remain in both. They cancel in the difference: backward transfer - forgetting = change of accuracy.
The paper sets negative values to 0; here they stay, as zero is then not a biased answer.
Units: fractions of the items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import Floats
from ptharness.analysis.decomposition import as_codes, as_counts
from ptharness.analysis.means import Means
from ptharness.analysis.ratios import Groups
from ptharness.analysis.resampling import Estimate, Resampling


def squared_movement(
    parent_n: npt.ArrayLike,
    parent_c: npt.ArrayLike,
    child_n: npt.ArrayLike,
    child_c: npt.ArrayLike,
    clusters: Groups = None,
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """D2 over items, from counts of shape (items,); p tests D2 > 0. Undefined for n < 2."""
    n0, c0, n1, c1 = as_counts(parent_n, parent_c, child_n, child_c)
    least = int(min(n0.min(initial=2), n1.min(initial=2)))
    if least < 2 or not len(n0):
        reason = f"needs 2 samples of each item, and there is {least}"
        return Estimate(
            level=level, items=len(n0), reason=reason if len(n0) else "there is no item"
        )
    p0, p1 = c0 / n0, c1 / n1
    noise = p0 * (1 - p0) / (n0 - 1) + p1 * (1 - p1) / (n1 - 1)
    terms = ((p1 - p0) ** 2 - noise)[:, None]
    draws = Resampling.of(as_codes(clusters, len(n0)), replicates, seed)
    means = Means.of(["d2"], terms, draws, bound=1.0)
    return means.estimates(level, skewed=["d2"], claimed={"d2": 1})["d2"]


@dataclass(frozen=True)
class ChoiceTransitions:
    """Chance-adjusted forgetting and backward transfer, in fractions of the items."""

    forgetting: Estimate
    backward_transfer: Estimate


def choice_transitions(
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    choices: npt.ArrayLike,
    clusters: Groups = None,
    *,
    level: float = 0.95,
) -> ChoiceTransitions:
    """From whether each item is right before and after (0 or 1), shape (items,).

    `choices` is m, one number or each item's; with different m, 1 / (m - 1) is averaged.
    """
    arrays = np.broadcast_arrays(*(np.atleast_1d(x) for x in (before, after, choices)))
    b, a, m = (array.astype(np.float64) for array in arrays)
    if not (np.isin(b, (0, 1)).all() and np.isin(a, (0, 1)).all()):
        raise ValueError("before and after must be 0 (wrong) or 1 (right) for each item")
    if (m < 2).any():
        raise ValueError(f"an item needs at least 2 choices, and one has {m.min():g}")
    if not len(b):
        nothing = Estimate(level=level, reason="there is no item")
        return ChoiceTransitions(nothing, nothing)
    lucky = _lucky_terms(b, a, 1 / (m - 1))
    terms = np.stack([b * (1 - a) - lucky, (1 - b) * a - lucky], axis=1)
    draws = Resampling.of(as_codes(clusters, len(b)), 0)
    names = ["forgetting", "backward_transfer"]
    return ChoiceTransitions(**Means.of(names, terms, draws).estimates(level))


def _lucky_terms(b: Floats, a: Floats, odds: Floats) -> Floats:
    """Terms whose mean is the product of the three means, and whose spread is its spread.

    The product's first-order expansion in the items, for the standard error (delta method).
    """
    wrong0, wrong1, mean_odds = 1 - b.mean(), 1 - a.mean(), odds.mean()
    product = wrong0 * wrong1 * mean_odds
    return np.asarray(
        (1 - b) * wrong1 * mean_odds
        + (1 - a) * wrong0 * mean_odds
        + odds * wrong0 * wrong1
        - 2 * product
    )
