"""How varied answers are: their entropy and number, expected at a common number of samples.

More samples show more distinct answers, so both are brought to one number m of samples, the same
for all checkpoints that are compared. With n >= m samples of an item, M_a of them with answer a:

    distinct  sum_a 1 - C(n - M_a, m) / C(n, m)               answers (rarefaction, Hurlbert 1971)
    entropy   sum_{j=1}^{m-1} (1/j) sum_a (M_a/n) C(n - M_a, j) / C(n - 1, j)                nats

The first is unbiased for the expected number of distinct answers among m samples. The second is
unbiased for sum_{j=1}^{m-1} (1/j) sum_a p_a (1 - p_a)^j, the entropy -sum_a p_a log p_a but for
the terms j >= m of its series: what answers rarer than about 1/m add. It never overstates on
average, and its bias at m is the same whatever n is, which neither holds for the plug-in value
nor for Miller and Madow's correction. For m = n it is sum_a (M_a/n)(psi(n) - psi(M_a)). Source:
Zahl 1977; Chao, Wang and Jost 2013 (Methods in Ecology and Evolution 4, 1091).

No answer (-1) is an outcome of its own. Undefined for n < m: per-item values are then NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import Counts, Floats, all_wrong, right_then_all_wrong
from ptharness.analysis.decomposition import as_codes
from ptharness.analysis.means import Means
from ptharness.analysis.ratios import Groups, MacroMeans
from ptharness.analysis.resampling import Estimate, Resampling
from ptharness.analysis.samples import Samples


@dataclass(frozen=True)
class Diversity:
    """Entropy (nats) and number of distinct answers per item, expected among `samples` samples."""

    samples: int
    entropy: Estimate
    distinct: Estimate


def diversity(
    answers: npt.ArrayLike,
    samples: int,
    items: npt.ArrayLike | None = None,
    clusters: Groups = None,
    *,
    level: float = 0.95,
) -> Diversity:
    """Means over items of `entropy` and `distinct`, with clustered intervals.

    `clusters` has one entry for each item. Undefined where an item has fewer samples, and for a
    single sample, which shows nothing of variety.
    """
    found, _ = Samples.of(items, answers)
    number, least = len(found.n), int(found.n.min(initial=samples))
    if not number or least < max(samples, 2):
        reason = f"needs {max(samples, 2)} samples of each item, and there are {least}"
        nothing = Estimate(
            level=level, items=number, reason=reason if number else "there is no item"
        )
        return Diversity(samples, nothing, nothing)
    terms = np.stack([entropy(answers, samples, items), distinct(answers, samples, items)], axis=1)
    draws = Resampling.of(as_codes(clusters, number), 0)
    estimates = Means.of(["entropy", "distinct"], terms, draws).estimates(level)
    return Diversity(
        samples,
        estimates["entropy"].within(0.0, float(np.log(samples))),
        estimates["distinct"].within(1.0, float(samples)),
    )


def entropy(answers: npt.ArrayLike, samples: int, items: npt.ArrayLike | None = None) -> Floats:
    """Each item's entropy in nats at so many samples, shape (items,); NaN where n is less.

    `answers` are codes of shape (items, n), or flat with `items`.
    """

    def share(n: Counts, count: Counts) -> Floats:
        total = np.zeros(len(n))
        for j in range(1, samples):
            total += right_then_all_wrong(n, count, j) / j
        return total

    return _summed(answers, samples, items, share)


def distinct(answers: npt.ArrayLike, samples: int, items: npt.ArrayLike | None = None) -> Floats:
    """Each item's number of distinct answers among so many samples; NaN where n is less.

    >>> distinct(np.array([[0, 0, 1], [2, 2, 2]]), 3).tolist()
    [2.0, 1.0]
    """
    return _summed(answers, samples, items, lambda n, count: 1 - all_wrong(n, count, samples))


def tokens_per_completion(
    tokens: npt.ArrayLike, n: npt.ArrayLike, clusters: Groups = None, *, level: float = 0.95
) -> Estimate:
    """Sum of the completions' tokens over their number, both of shape (items,)."""
    pair = np.broadcast_arrays(np.atleast_1d(tokens), np.atleast_1d(n))
    terms = np.stack(pair, axis=1).astype(np.float64)
    if (terms < 0).any():
        raise ValueError("tokens and n must not be negative")
    if not terms[:, 1].sum():
        return Estimate(level=level, items=len(terms), reason="there is no completion")
    if not terms[:, 0].sum():
        return Estimate(level=level, items=len(terms), reason="needs token counts, and all are 0")
    return MacroMeans.of(terms, clusters).positive_ratio(level)


def _summed(
    answers: npt.ArrayLike,
    samples: int,
    items: npt.ArrayLike | None,
    share: Callable[[Counts, Counts], Floats],
) -> Floats:
    """The sum over an item's answers of share(n, M_a), worked out once for equal n and M_a."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    found, (codes,) = Samples.of(items, answers)
    tallies = found.tallies(codes)
    pairs = np.stack([found.n[tallies.item], tallies.count])
    kinds, index = np.unique(pairs, axis=1, return_inverse=True)
    parts = share(kinds[0], kinds[1])[index.reshape(-1)]
    total = np.bincount(tallies.item, weights=parts, minlength=len(found.n))
    return np.where(found.n >= samples, total, np.nan)
