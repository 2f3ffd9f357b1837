"""Reshaping up and down: how much of the net is gain on some items and loss on others.

RSH = E[d (1-u)(1-v)] nets items that got better against items that got worse. Its positive part
has no unbiased estimator: sampling noise alone makes half of the items look better. So it is
estimated in one way and tested in another.

*Estimate*: the joint distribution of (p0, p1) over items by nonparametric maximum likelihood
(Kiefer and Wolfowitz 1956), by EM on a grid with a node at 0, from all items' counts together.
RSH_up is taken from it, and RSH_down = RSH - RSH_up keeps the sum exact. On a null edge of 400
items it is about 0.5 percentage points too high.

*Test and lower bound*: cross-fitting, which is exactly right on a null edge; see `cross_fitted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from ptharness.analysis.binomials import Counts, Floats, PairCounts
from ptharness.analysis.means import one_cluster, unvaried
from ptharness.analysis.resampling import (
    ROUNDING,
    Estimate,
    Resampling,
    clustered_stderr,
    student,
)

GRID = np.concatenate([[0.0], np.sin(np.linspace(0.04, np.pi / 2, 28)) ** 2])
"""Success probabilities: 0, then evenly spread on the arcsine scale, where the noise is even."""

UNCHANGED = 0.9
"""Mass that EM starts with on p0 = p1: what the data do not move stays unchanged."""

STEPS = 200
"""EM steps of the estimate."""

RESTEPS = 25
"""EM steps of a bootstrap replicate, from the estimate on."""


@dataclass(frozen=True)
class Movement:
    """The joint distribution of success probabilities, by EM over the distinct pairs of counts.

    `parent` and `child` hold the likelihood of each distinct pair at each grid node, in parts of
    that at its best one, shape (pairs, nodes); `pair` says which one each item has, shape (items,).
    """

    parent: Floats
    child: Floats
    pair: npt.NDArray[np.int64]

    @classmethod
    def of(cls, n0: Counts, c0: Counts, n1: Counts, c1: Counts) -> Movement:
        """From counts of shape (items,)."""
        pairs, index = np.unique(np.stack([n0, c0, n1, c1]), axis=1, return_inverse=True)
        parent, child = _likelihoods(pairs[0], pairs[1]), _likelihoods(pairs[2], pairs[3])
        return cls(parent, child, index.reshape(-1).astype(np.int64))

    @cached_property
    def joint(self) -> Floats:
        """P(p0 = grid[i], p1 = grid[j]), shape (nodes, nodes), each item counted once."""
        nodes = len(GRID)
        joint = np.full((nodes, nodes), (1 - UNCHANGED) / nodes**2)
        joint += np.eye(nodes) * UNCHANGED / nodes
        counts = np.bincount(self.pair, minlength=len(self.parent)).astype(np.float64)
        for _ in range(STEPS):
            likelihood = ((self.parent @ joint) * self.child).sum(axis=1)
            share = np.divide(counts, likelihood, out=np.zeros_like(counts), where=likelihood > 0)
            joint = joint * (self.parent.T @ (self.child * share[:, None]))
            joint = joint / joint.sum()
        return joint

    def replicates(self, weights: npt.NDArray[np.floating[Any]]) -> Floats:
        """The joint distributions with items weighted; weights (replicates, items).

        Each goes on from the estimate; shape (replicates, nodes, nodes).
        """
        order = np.argsort(self.pair, kind="stable")
        starts = np.searchsorted(self.pair[order], np.arange(len(self.parent)))
        counts = np.add.reduceat(weights[:, order].astype(np.float32), starts, axis=1)
        nodes = len(GRID)
        # All replicates in two matrix products a step; float32 is far finer than the noise.
        likelihood = (self.parent[:, :, None] * self.child[:, None, :]).reshape(-1, nodes**2)
        likelihood = likelihood.astype(np.float32)
        joint = np.tile(self.joint.reshape(-1).astype(np.float32), (len(weights), 1))
        for _ in range(RESTEPS):
            of_pair = joint @ likelihood.T
            share = np.divide(counts, of_pair, out=np.zeros_like(counts), where=of_pair > 0)
            joint *= share @ likelihood
            joint /= joint.sum(axis=1, keepdims=True)
        return np.asarray(joint.reshape(-1, nodes, nodes), dtype=np.float64)


def _likelihoods(n: Counts, c: Counts) -> Floats:
    """Of c of n at each node, in parts of the best one's; shape (pairs, nodes).

    EM needs no more, and with n of thousands all of them would be too small for a float.
    """
    logarithms = stats.binom.logpmf(c[:, None], n[:, None], GRID)
    return np.asarray(np.exp(logarithms - logarithms.max(axis=1, keepdims=True)))


def reshaping_up(joint: Floats, k: int) -> Floats:
    """RSH_up = sum over p1 > p0 of (p1 - p0)(1 - u)(1 - v); joint (..., nodes, nodes) -> (...)."""
    reachable = 1 - (1 - GRID) ** k
    gain = np.maximum(GRID[None, :] - GRID[:, None], 0) * reachable[:, None] * reachable[None, :]
    return np.asarray((joint * gain).sum(axis=(-2, -1)))


def cross_fitted(
    n0: Counts, c0: Counts, n1: Counts, c1: Counts, k: int, *, splits: int = 16, seed: int = 0
) -> Floats:
    """Terms whose means bound RSH_up from below and RSH_down from above; shape (items, 2).

    One half of an item's samples says in which direction it moved and whether it is reachable,
    the other half by how much. The two are independent, so where nothing moved each term has
    expectation exactly 0: no selection of lucky items. Averaged over random splits of the counts
    (a split of exchangeable samples leaves a hypergeometric number of correct ones on each side).
    """
    random = np.random.default_rng(seed)
    half0, half1 = n0 // 2, n1 // 2
    budget = np.minimum(k, np.minimum(half0, half1))
    terms = np.zeros((len(n0), 2))
    for _ in range(splits):
        a0 = random.hypergeometric(c0, n0 - c0, half0)
        a1 = random.hypergeometric(c1, n1 - c1, half1)
        moved = a1 / half1 - a0 / half0
        reachable = (1 - (1 - a0 / half0) ** budget) * (1 - (1 - a1 / half1) ** budget)
        gain = reachable * ((c1 - a1) / (n1 - half1) - (c0 - a0) / (n0 - half0))
        terms[:, 0] += np.where(moved > 0, gain, 0)
        terms[:, 1] += np.where(moved < 0, gain, 0)
    return terms / splits


@dataclass(frozen=True)
class Reshaping:
    """Reshaping up and down on one task, with all that their intervals need; poolable.

    `up` and `net` (RSH) are estimates, `ups` and `nets` their replicates, shape (replicates,).
    `bounds` and `bound_stderrs` are the means of `cross_fitted`, of up and of down. `weight` is
    what one cluster counts, `is_equal` whether all items show the same reshaping.
    """

    up: float
    net: float
    ups: Floats
    nets: Floats
    bounds: Floats
    bound_stderrs: Floats
    weight: float
    is_equal: bool
    clusters: int
    items: int

    @classmethod
    def of(
        cls,
        counts: PairCounts,
        rsh: Floats,
        k: int,
        draws: Resampling,
        seed: int = 0,
    ) -> Reshaping:
        """From counts n0, c0, n1, c1 and the items' unbiased reshaping terms, shape (items,)."""
        movement = Movement.of(*counts)
        weights = draws.weights[:, draws.codes]
        ups = reshaping_up(movement.replicates(weights), k)
        sums = draws.sums(cross_fitted(*counts, k, seed=seed))
        return cls(
            float(reshaping_up(movement.joint, k)),
            float(rsh.mean()),
            ups,
            weights @ rsh / weights.sum(axis=1),
            sums.sum(axis=0) / len(rsh),
            clustered_stderr(sums, draws.sizes),
            1 / len(draws.sizes),
            bool(np.ptp(rsh) <= ROUNDING),
            len(draws.sizes),
            len(rsh),
        )

    @classmethod
    def pooled(cls, parts: Sequence[Reshaping]) -> Reshaping:
        """The mean of the tasks', each counting the same."""
        return cls(
            float(np.mean([part.up for part in parts])),
            float(np.mean([part.net for part in parts])),
            np.mean([part.ups for part in parts], axis=0),
            np.mean([part.nets for part in parts], axis=0),
            np.mean([part.bounds for part in parts], axis=0),
            np.sqrt(np.sum([part.bound_stderrs**2 for part in parts], axis=0)) / len(parts),
            max(part.weight for part in parts) / len(parts),
            all(part.is_equal for part in parts),
            sum(part.clusters - 1 for part in parts) + 1,
            sum(part.items for part in parts),
        )

    def estimates(self, level: float) -> dict[str, Estimate]:
        """`rsh_up` and `rsh_down` with intervals and p-values.

        An interval reaches from the cross-fitted bound to the bootstrap's far end; p is that of
        the cross-fitted test of up > 0, and of down < 0, doubled. Up is at least the net and at
        least 0, which the fit to a grid does not know.
        """
        up = max(self.up, self.net, 0.0)
        # What the grid alone makes of items that did not move is not up and as much down.
        if up <= ROUNDING or (self.is_equal and not self.net):
            up = max(self.net, 0.0)
        return {
            "rsh_up": self._estimate(up, self.ups, 0, level).within(0.0, 1.0),
            "rsh_down": self._estimate(self.net - up, self.nets - self.ups, 1, level).within(
                -1.0, 0.0
            ),
        }

    def _estimate(self, estimate: float, replicates: Floats, side: int, level: float) -> Estimate:
        if np.isnan(self.bound_stderrs).any():
            return Estimate(items=self.items, reason=one_cluster(self.clusters), level=level)
        tail = (1 - level) / 2
        low, high = (2 * estimate - q for q in np.quantile(replicates, [1 - tail, tail]))
        bound, stderr = float(self.bounds[side]), float(self.bound_stderrs[side])
        p = 1.0
        if stderr > 0:
            bound_low, bound_high, two_sided = student(bound, stderr, self.clusters, level)
            p = two_sided if (bound < 0) == bool(side) else 1.0
            low, high = (
                (min(low, estimate), max(high, bound_high))
                if side
                else (min(low, bound_low), max(high, estimate))
            )
        low, high = min(low, estimate), max(high, estimate)
        if self.is_equal or min(high, 1.0 - side) - max(low, -float(side)) <= ROUNDING:
            reach, p = unvaried(estimate, self.weight, level)
            low, high, method = estimate - reach, estimate + reach, "rule_of_three"
            return Estimate(estimate, 0.0, low, high, method, level, p, self.items)
        stderr = float(np.std(replicates, ddof=1))
        method = "cross_fitted_bootstrap"
        return Estimate(estimate, stderr, low, high, method, level, p, self.items)
