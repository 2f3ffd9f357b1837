"""What several attempts achieve: pass@k, cover@tau, best-of-k, maj@k, and where curves cross.

With n samples of an item, c of them correct, and k <= n attempts drawn from the n without
replacement:

    pass@k     1 - C(n - c, k) / C(n, k)                                      (arXiv 2107.03374)
    best-of-k  sum_j y_(j) C(n - j, k - 1) / C(n, k), scores descending: the sample ranked j wins
               where the k - 1 others come from the n - j below it
    maj@k      the correctness of the most frequent answer, averaged over all k-subsets
    cover@tau  the share of items with success probability >= tau             (arXiv 2510.08325)

The first three are unbiased for what k fresh attempts would achieve. Units: fractions of 1.
Undefined for n < k: per-item values are then NaN, estimates say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from ptharness.analysis.binomials import Counts, Floats, all_wrong
from ptharness.analysis.decomposition import as_codes, as_counts
from ptharness.analysis.means import Means
from ptharness.analysis.ratios import Groups, as_attempts
from ptharness.analysis.resampling import Codes, Estimate, Resampling
from ptharness.analysis.samples import NO_ANSWER, Samples, Tallies

Rows = npt.NDArray[np.float32]

ALL_SUBSETS = 1000
"""Up to so many k-subsets, maj@k takes them all and is exact."""

SUBSETS = 512
"""How many random k-subsets it takes else: at most .022 of standard error on one item."""

CHUNK = 4_000_000
"""Votes counted at once (items x subsets x answers), which bounds the memory."""

FEW = 10
"""A share to which so few items contribute (or all but so few) gets a skewed interval."""

MEETING = 1e-6
"""Two curves less apart than that have met: a ten-thousandth of a percentage point."""

STEPS = 256
"""k is searched one by one up to here, and in steps of about 2 % beyond."""


def pass_at_k(n: npt.ArrayLike, c: npt.ArrayLike, k: int) -> Floats:
    """Each item's chance that at least one of k attempts is correct; NaN where n < k.

    >>> pass_at_k([4, 4, 4], [0, 1, 3], 2).round(3).tolist()
    [0.0, 0.5, 1.0]
    """
    [(n, c)] = as_attempts((n, c))
    return c / n if k == 1 else 1 - all_wrong(n, c, _positive(k))


def budgets(samples: int) -> list[int]:
    """The k of a curve: powers of two below `samples`, and `samples` itself.

    >>> budgets(6)
    [1, 2, 4, 6]
    """
    return [2**power for power in range(max(samples - 1, 0).bit_length())] + [samples]


def curve(
    n: npt.ArrayLike,
    c: npt.ArrayLike,
    ks: Sequence[int],
    clusters: Groups = None,
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> list[Estimate]:
    """pass@k over items for each of `ks`, with clustered intervals.

    Undefined, point by point, where an item has fewer than k samples. `replicates` are those of
    the bootstrap-t, made only where few items contribute.
    """
    [(n, c)] = as_attempts((n, c))
    shares = [(pass_at_k(n, c, k), too_few(n, k)) for k in ks]
    defined = [terms for terms, reason in shares if reason is None]
    found = iter(_shares(defined, clusters, level, replicates, seed))
    return [
        next(found) if reason is None else Estimate(level=level, items=len(n), reason=reason)
        for _, reason in shares
    ]


def cover_at_tau(
    n: npt.ArrayLike,
    c: npt.ArrayLike,
    tau: float,
    clusters: Groups = None,
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The share of items that are solved with probability >= tau, 0 < tau <= 1.

    G(tau) = mean 1{p >= tau}, by plugging in c / n. That is biased, for no unbiased estimator of a
    threshold exists: items near tau fall on either side by chance. The bias is of the order of
    the number of items within sqrt(tau (1 - tau) / n) of tau, and vanishes with n. Compare
    checkpoints at equal n only. The interval covers the choice of items, not this bias.
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau must lie above 0 and be at most 1, not {tau}")
    [(n, c)] = as_attempts((n, c))
    # c / n may fall short of an equal tau by a rounding.
    covered = (c >= tau * n - 1e-9).astype(np.float64)
    return _shares([covered], clusters, level, replicates, seed)[0]


def best_of_k(
    scores: npt.ArrayLike, values: npt.ArrayLike, k: int, items: npt.ArrayLike | None = None
) -> Floats:
    """Each item's value of the best scored of k attempts, shape (items,); NaN where n < k.

    `scores` and `values` have shape (items, n), or are flat with `items` (see `samples`). Among
    equal scores the winner is drawn at random: the result does not depend on their order.
    """
    _positive(k)
    samples, (score, value) = Samples.of(items, scores, values)
    score = score.astype(np.float64)
    if not np.isfinite(score).all():
        raise ValueError("scores must be finite; leave samples without a score out")
    order = np.lexsort((-score, samples.items))
    item, score = samples.items[order], score[order]
    rank = np.arange(len(item)) - samples.starts[item] + 1
    chance = _wins(samples.n[item], rank, k)
    first = np.ones(len(item), dtype=bool)
    first[1:] = (item[1:] != item[:-1]) | (score[1:] != score[:-1])
    tie = np.cumsum(first) - 1
    shared = np.bincount(tie, weights=chance) / np.bincount(tie)
    won = np.bincount(item, weights=shared[tie] * value[order], minlength=len(samples.n))
    return np.where(samples.n >= k, won, np.nan)


def _wins(n: Counts, rank: Counts, k: int) -> Floats:
    """C(n - rank, k - 1) / C(n, k): the chance that the sample ranked so is the best drawn."""
    possible = n - rank >= k - 1
    below, total = np.where(possible, n - rank, k - 1), np.where(possible, n, k)
    logarithm = gammaln(below + 1) - gammaln(below - k + 2) - gammaln(total + 1)
    logarithm = logarithm + gammaln(total - k + 1) + np.log(k)
    return np.asarray(np.where(possible, np.exp(np.minimum(logarithm, 0.0)), 0.0))


def majority_at_k(
    answers: npt.ArrayLike,
    values: npt.ArrayLike,
    k: int,
    items: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
) -> Floats:
    """Each item's correctness of the majority answer of k attempts; NaN where n < k.

    `answers` are codes from 0, -1 where there is none; `values` the correctness of each sample;
    both of shape (items, n), or flat with `items`. Attempts without an answer are drawn but do
    not vote; where none of the k votes, the item is wrong. A tied vote counts the mean of the tied
    answers, as if one were drawn. An answer is as correct as the samples that gave it, on average.

    Exact where there are at most `ALL_SUBSETS` k-subsets; else the average over `SUBSETS` random
    ones with a fixed seed, the same for all items of one n.
    """
    _positive(k)
    samples, (answer, value) = Samples.of(items, answers, values)
    tallies = samples.tallies(answer)
    right = np.bincount(tallies.of_sample, weights=value) / tallies.count
    result = np.full(len(samples.n), np.nan)
    random = np.random.default_rng(seed)
    order = np.argsort(samples.items, kind="stable")
    for n in np.unique(samples.n[samples.n >= k]).tolist():
        subsets = _subsets(n, k, random)
        same = np.flatnonzero(samples.n == n)
        width = int(tallies.place[np.isin(tallies.item, same)].max()) + 1
        size = max(1, CHUNK // (len(subsets) * width))
        for start in range(0, len(same), size):
            chosen = same[start : start + size]
            drawn = order[samples.starts[chosen][:, None] + np.arange(n)]
            result[chosen] = _voted(tallies, right, tallies.of_sample[drawn], subsets, width)
    return result


def _voted(tallies: Tallies, right: Floats, given: Counts, subsets: Rows, width: int) -> Floats:
    """Mean correctness of the elected answer over subsets; `given` has shape (items, n)."""
    items, n = given.shape
    votes = np.zeros((items, n, width), dtype=np.float32)
    correct = np.zeros((items, 1, width), dtype=np.float32)
    row, place = np.arange(items)[:, None], tallies.place[given]
    votes[row, np.arange(n), place] = tallies.answer[given] != NO_ANSWER
    correct[row, 0, place] = right[given]
    counts = subsets @ votes
    most = counts.max(axis=2, keepdims=True)
    elected = (counts == most) & (most > 0)
    number = np.maximum(elected.sum(axis=2), 1)
    return np.asarray(((elected * correct).sum(axis=2) / number).mean(axis=1), dtype=np.float64)


def _subsets(n: int, k: int, random: np.random.Generator) -> Rows:
    """Subsets of k of n places as rows of 0 and 1: all, or a random choice of many."""
    if comb(n, k) <= ALL_SUBSETS:
        chosen = np.array(list(combinations(range(n), k)))
    else:
        chosen = np.argsort(random.random((SUBSETS, n)), axis=1)[:, :k]
    rows = np.zeros((len(chosen), n), dtype=np.float32)
    np.put_along_axis(rows, chosen, 1, axis=1)
    return rows


def crossover(
    parent_n: npt.ArrayLike,
    parent_c: npt.ArrayLike,
    child_n: npt.ArrayLike,
    child_c: npt.ArrayLike,
    clusters: Groups = None,
    *,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The least k at which the pass@k of the one that is behind at k = 1 has caught up.

    Unit: attempts. Undefined where the curves start together, and where they do not meet up to
    the least n of any item (a larger k is not extrapolated). The interval is that of a bootstrap
    over clusters; it has no upper end (None) where the curves of too many replicates do not meet.
    """
    n0, c0, n1, c1 = as_counts(parent_n, parent_c, child_n, child_c)
    if not len(n0):
        return Estimate(reason="there is no item", level=level)
    ks = attempts_up_to(int(min(n0.min(), n1.min())))
    first = float((c1 / n1 - c0 / n0).mean())
    if abs(first) <= MEETING:
        return Estimate(
            reason="the curves start together, so neither can catch up",
            level=level,
            items=len(n0),
        )
    ahead = np.sign(first) * (wrong_curves(n0, c0, ks) - wrong_curves(n1, c1, ks))
    draws = Resampling.of(as_codes(clusters, len(n0)), replicates, seed)
    return least_attempts(ahead, ks, draws, "does not cross", level)


def attempts_up_to(most: int) -> Counts:
    """The k that are searched: all up to `STEPS`, then about every fiftieth part; `most` too."""
    few = np.arange(1, min(most, STEPS) + 1)
    if most <= STEPS:
        return few
    steps = int(np.ceil(np.log(most / STEPS) / np.log(1.02))) + 1
    return np.unique(np.concatenate([few, np.geomspace(STEPS, most, steps).round()])).astype(
        np.int64
    )


def wrong_curves(n: Counts, c: Counts, ks: Counts) -> Floats:
    """Each item's chance that k attempts all fail, for every k; shape (items, ks)."""
    pairs, index = np.unique(np.stack([n, c]), axis=1, return_inverse=True)
    columns = [all_wrong(pairs[0], pairs[1], k) for k in ks.tolist()]
    return np.stack(columns, axis=1)[index.reshape(-1)]


def least_attempts(
    ahead: Floats, ks: Counts, draws: Resampling, failing: str, level: float
) -> Estimate:
    """The least k at which the mean of a column of `ahead`, shape (items, ks), is not above 0."""
    items, clusters, most = len(ahead), len(draws.sizes), int(ks[-1])
    if clusters < 2:
        reason = f"needs two clusters of items, and there is {clusters}"
        return Estimate(reason=reason, level=level, items=items)
    found = _first(ahead.mean(axis=0)[None], ks)[0]
    if np.isinf(found):
        return Estimate(reason=f"{failing} up to k = {most}", level=level, items=items)
    drawn = np.sort(_first(draws.means(draws.sums(ahead)), ks))
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="inverted_cdf").tolist()
    censored = high == np.inf
    stderr = None if np.isinf(drawn).any() else float(np.std(drawn, ddof=1))
    return Estimate(
        float(found),
        stderr,
        min(low, float(found)),
        None if censored else max(high, float(found)),
        "bootstrap_percentile",
        level,
        items=items,
        reason=f"the interval reaches beyond k = {most}" if censored else None,
    )


def _first(means: Floats, ks: Counts) -> Floats:
    """The first k with a mean that is not above 0, infinity where there is none: (rows,)."""
    met = means <= MEETING
    return np.where(met.any(axis=1), ks[met.argmax(axis=1)], np.inf)


def too_few(n: Counts, k: int) -> str | None:
    """Why pass@k is undefined, or None where it is not."""
    least = int(n.min(initial=k))
    return f"needs {k} samples of each item, and there are {least}" if least < k else None


def _shares(
    columns: Sequence[Floats], clusters: Groups, level: float, replicates: int, seed: int
) -> list[Estimate]:
    """The means of columns of terms between 0 and 1, with intervals between 0 and 1."""
    if not columns:
        return []
    items = len(columns[0])
    codes: Codes = as_codes(clusters, items)
    if not items:
        return [Estimate(level=level, reason="there is no item")] * len(columns)
    names = [str(place) for place in range(len(columns))]
    skewed = [
        name
        for name, terms in zip(names, columns, strict=True)
        if min(terms.sum(), (1 - terms).sum()) < FEW
    ]
    draws = Resampling.of(codes, replicates if skewed else 0, seed)
    found = Means.of(names, np.stack(columns, axis=1), draws).estimates(level, skewed)
    return [_within(found[name]) for name in names]


def _within(share: Estimate) -> Estimate:
    if share.ci_low is None or share.ci_high is None:
        return share
    return replace(share, ci_low=max(share.ci_low, 0.0), ci_high=min(share.ci_high, 1.0))


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return k
