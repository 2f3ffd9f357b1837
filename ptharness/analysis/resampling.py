"""Means over items with clustered standard errors, and their bootstrap over clusters.

Items of one cluster (questions on one passage) are not independent: every standard error sums
within clusters first, and every bootstrap draws whole clusters. All quantities and all
checkpoints that share items are resampled *together*, by one matrix of weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import special

from ptharness.analysis.binomials import Floats

Codes = npt.NDArray[np.int64]

_DRAWN_AT_ONCE = 1 << 17

ROUNDING = 1e-10
"""Differences that small, in parts of the greatest value, are those of rounding."""


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty; all None where it is undefined, and `reason` says why.

    `stderr` and the interval are in the unit of `estimate`. `ci_method` names how the interval
    was made, `level` its confidence. `p` is two-sided, against 0.
    """

    estimate: float | None = None
    stderr: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_method: str | None = None
    level: float = 0.95
    p: float | None = None
    items: int = 0
    reason: str | None = None

    @property
    def is_defined(self) -> bool:
        """Whether there is an estimate."""
        return self.estimate is not None

    def within(self, least: float, most: float) -> Estimate:
        """The same with an interval that ends where the quantity does."""
        if self.ci_low is None or self.ci_high is None:
            return self
        return replace(self, ci_low=max(self.ci_low, least), ci_high=min(self.ci_high, most))


@dataclass(frozen=True)
class Resampling:
    """Draws of whole clusters: `weights[b, g]` says how often replicate b holds cluster g."""

    codes: Codes
    weights: npt.NDArray[np.float32]

    @classmethod
    def of(cls, codes: Codes, replicates: int, seed: int = 0) -> Resampling:
        """As many clusters as there are, drawn with replacement, for each replicate.

        `codes` gives each item's cluster as a number from 0; shape (items,).
        """
        count = int(codes.max()) + 1 if len(codes) else 0
        random = np.random.default_rng(seed)
        weights = np.empty((replicates, count), np.float32)
        # Several replicates at once, counted in one go, in pieces that fit a cache.
        rows = max(1, _DRAWN_AT_ONCE // max(count, 1))
        for first in range(0, replicates, rows):
            some = weights[first : first + rows]
            drawn = random.integers(0, count, some.shape)
            drawn += count * np.arange(len(some))[:, None]
            some[:] = np.bincount(drawn.reshape(-1), minlength=some.size).reshape(some.shape)
        return cls(codes, weights)

    def within(self, chosen: npt.NDArray[np.bool_]) -> Resampling:
        """The same draws over a part of the items; `chosen` has shape (items,)."""
        if chosen.all():
            return self
        kept, codes = np.unique(self.codes[chosen], return_inverse=True)
        part = Resampling(codes.reshape(-1).astype(np.int64), self.weights[:, kept])
        # A replicate that holds none of a few clusters has no mean: it is drawn from these.
        empty = np.flatnonzero(~part.weights.any(axis=1))
        part.weights[empty] = Resampling.of(part.codes, len(empty)).weights
        return part

    def first(self, replicates: int) -> Resampling:
        """The first so many of the draws."""
        return Resampling(self.codes, self.weights[:replicates])

    @cached_property
    def sizes(self) -> Floats:
        """Items in each cluster; shape (clusters,)."""
        return np.bincount(self.codes, minlength=self.weights.shape[1]).astype(np.float64)

    def sums(self, terms: Floats) -> Floats:
        """Terms of shape (items, quantities) summed within clusters: (clusters, quantities)."""
        return cluster_sums(terms, self.codes, self.weights.shape[1])

    def means(self, sums: Floats) -> Floats:
        """The mean over items in each replicate; `sums` (clusters, quantities)."""
        total = self.weights @ sums.astype(np.float32)
        return np.asarray(total / self._counts[:, None], dtype=np.float64)

    @cached_property
    def _counts(self) -> Floats:
        return np.asarray(self.weights @ self.sizes.astype(np.float32), dtype=np.float64)

    def spreads(self, sums: Floats) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """mean* - mean and stderr* of each replicate; both of shape (replicates, quantities)."""
        count = self.weights.shape[1]
        sizes = self.sizes[:, None]
        centre = sums.sum(axis=0) / sizes.sum()
        # Centred first: float32 has digits enough for what varies, not for what is common.
        centred = (sums - centre * sizes).astype(np.float32)
        number = self._counts[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = (self.weights @ centred) / number
            squares = self.weights @ (centred**2)
            cross = self.weights @ (centred * sizes.astype(np.float32))
            size_squares = self.weights @ (sizes.astype(np.float32) ** 2)
            spread = squares - 2 * shift * cross + shift**2 * size_squares
            stderr = np.sqrt(np.maximum(spread, 0) * count / (count - 1)) / number
        return np.asarray(shift, np.float32), np.asarray(stderr, np.float32)


def cluster_sums(terms: Floats, codes: Codes, count: int) -> Floats:
    """Sums within clusters: terms (items, quantities), codes (items,) -> (clusters, quantities)."""
    return np.stack(
        [np.bincount(codes, weights=column, minlength=count) for column in terms.T], axis=1
    )


def clustered_stderr(sums: Floats, sizes: Floats) -> Floats:
    """Standard errors of means over items, from sums and sizes of clusters; NaN for one cluster.

    sqrt(G / (G - 1) sum_g (S_g - mean m_g)^2) / N for G clusters of m_g items: where every item
    is its own cluster, std(ddof=1) / sqrt(N). Source: arXiv 2411.00640, section 2.2.
    """
    count, number = len(sizes), sizes.sum()
    if count < 2:
        return np.full(sums.shape[1], np.nan)
    residuals = sums - np.outer(sizes, sums.sum(axis=0) / number)
    # Equal terms leave what sums were rounded by, which is no spread.
    residuals[np.abs(residuals) <= ROUNDING * np.abs(sums).max(axis=0)] = 0.0
    return np.asarray(np.sqrt(count / (count - 1) * (residuals**2).sum(axis=0)) / number)


def student(
    estimate: float, stderr: float, clusters: int, level: float
) -> tuple[float, float, float]:
    """Interval and two-sided p-value of Student's t, one degree of freedom less than clusters."""
    freedom = max(clusters - 1, 1)
    reach = float(special.stdtrit(freedom, (1 + level) / 2)) * stderr
    p = float(2 * special.stdtr(freedom, -abs(estimate / stderr)))
    return estimate - reach, estimate + reach, p


def bootstrap_t(
    estimate: float, stderr: float, ratios: Floats, level: float
) -> tuple[float, float, float]:
    """Interval and two-sided p-value from studentized replicates, shape (replicates,).

    Follows the skewness of a mean to which a few items contribute most. Replicates without
    spread (all drawn clusters equal) tell nothing and are left out; if all are, the interval has
    no width and claims nothing. Source: Efron and Tibshirani,
    An introduction to the bootstrap, section 12.5.
    """
    known = ratios[np.isfinite(ratios)]
    if not len(known):
        return estimate, estimate, 0.0
    tail = (1 - level) / 2
    high, low = np.quantile(known, [1 - tail, tail])
    # The tail that the interval's end nearer to 0 is made of, doubled as the interval has two.
    found = estimate / stderr
    beyond = known >= found if found > 0 else known <= found
    p = min(1.0, 2 * (1 + np.count_nonzero(beyond)) / (1 + len(known)))
    return estimate - float(high) * stderr, estimate - float(low) * stderr, float(p)
