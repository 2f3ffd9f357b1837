"""One checkpoint compared with another, on one task or on several: all quantities at once.

A comparison keeps its bootstrap replicates, so that it pools over tasks and so that a share of
two quantities has an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ptharness.analysis import decomposition, gained_lost
from ptharness.analysis.binomials import Floats, PairCounts
from ptharness.analysis.means import Means
from ptharness.analysis.movement import Reshaping
from ptharness.analysis.resampling import Estimate, Resampling

CELLS = ("exp", "rsh", "rsh_up", "rsh_down", "att", "res")
TURNOVER = ("new", "lost", gained_lost.BASELINE)
TESTED = ("exp", "rsh_up", "rsh_down", "att")
"""The quantities on which verdicts rest: the family over which q adjusts p, with the edges and
tasks."""

RESHAPING_REPLICATES = 200
"""Replicates of what has to be fitted again in each: reshaping up and down, and shares."""


@dataclass(frozen=True)
class Comparison:
    """What two checkpoints' counts say; `means` has all but the split of reshaping.

    Where the cells are undefined `means` has the change alone, `reshaping` is None, and `reason`
    says why. `of_accuracy` is whether the change is one of accuracy, not of another metric.
    """

    k: int
    means: Means | None
    reshaping: Reshaping | None
    reason: str | None = None
    tasks: int = 1
    of_accuracy: bool = True

    @classmethod
    def of(
        cls, counts: PairCounts, k: int, draws: Resampling, seed: int = 0, *, split: bool = True
    ) -> Comparison:
        """From counts n0, c0, n1, c1 on the items that both sides have; shape (items,).

        Without `split`, reshaping is not split into up and down, which takes most of the time.
        """
        if not len(counts[0]):
            return cls(k, None, None, "no item has samples on both sides")
        least = int(min(counts[0].min(), counts[2].min()))
        if least < k + 1:
            delta = decomposition.delta_means(counts, draws)
            return cls(k, delta, None, decomposition.too_few(least, k))
        terms = decomposition.item_terms(*counts, k)
        means = _all_means(counts, terms, k, draws)
        if not split:
            return cls(k, means, None, "reshaping was not split into up and down")
        rsh = terms[:, decomposition.QUANTITIES.index("rsh")]
        some = draws.first(RESHAPING_REPLICATES)
        return cls(k, means, Reshaping.of(counts, rsh, k, some, seed))

    @classmethod
    def of_scores(cls, source: Floats, target: Floats, k: int, draws: Resampling) -> Comparison:
        """The change of a metric that is no yes/no, from the items' mean scores."""
        reason = "the primary metric is no yes/no: only its change is defined"
        if not len(source):
            return cls(k, None, None, "no item has a score on both sides")
        delta = Means.of(["delta"], (target - source)[:, None], draws)
        return cls(k, delta, None, reason, of_accuracy=False)

    @classmethod
    def of_choices(cls, counts: PairCounts, k: int, draws: Resampling) -> Comparison:
        """The change on multiple choice, where nothing is attempted several times."""
        reason = "multiple choice: there are no attempts, so only the change is defined"
        if not len(counts[0]):
            return cls(k, None, None, "no item was answered on both sides")
        return cls(k, decomposition.delta_means(counts, draws), None, reason)

    @classmethod
    def pooled(cls, parts: Sequence[Comparison]) -> Comparison:
        """The mean over tasks, each counting the same, of those whose cells are defined.

        Where they are defined on none, the mean change of accuracy.
        """
        whole = [part for part in parts if part.reshaping]
        chosen = whole or [part for part in parts if part.means and part.of_accuracy]
        reasons = list(dict.fromkeys(part.reason for part in parts if part.reason))
        reason = "; ".join(reasons) or None
        if whole and len(whole) < len(parts):
            reason = f"{len(whole)} of {len(parts)} tasks; the others: {reason}"
        return cls(
            parts[0].k,
            Means.pooled([part.means for part in chosen if part.means]) if chosen else None,
            Reshaping.pooled([part.reshaping for part in whole if part.reshaping])
            if whole
            else None,
            reason,
            len(chosen),
        )

    def estimates(self, level: float) -> dict[str, Estimate]:
        """Every quantity under its name; undefined ones with the reason."""
        items = self.means.items if self.means else 0
        undefined = Estimate(level=level, items=items, reason=self.reason)
        found = dict.fromkeys(("delta", *CELLS, *TURNOVER), undefined)
        if self.means:
            skewed = (*decomposition.SKEWED, *gained_lost.SKEWED)
            found |= gained_lost.shares(self.means.estimates(level, skewed, decomposition.CLAIMED))
        if self.reshaping:
            found |= self.reshaping.estimates(level)
            if self.means and gained_lost.BASELINE not in self.means.names:
                reason = f"needs {2 * self.k} samples of each item: two runs of k = {self.k}"
                found[gained_lost.BASELINE] = Estimate(level=level, items=items, reason=reason)
        return found

    @cached_property
    def expansion_shares(self) -> Floats:
        """X / (X + R) in each replicate, X = EXP and R = RSH_up + |RSH_down|; NaN where both are 0.

        Shape (replicates,).
        """
        assert self.means is not None
        assert self.reshaping is not None
        ups = np.maximum(self.reshaping.ups, 0)
        downs = np.abs(np.minimum(self.reshaping.nets - self.reshaping.ups, 0))
        expansion = np.maximum(self.means.replicates("exp")[: len(ups)], 0)
        total = expansion + ups + downs
        shares = np.full(len(ups), np.nan)
        np.divide(expansion, total, out=shares, where=total > 0)
        return shares


def sensitivity(counts: PairCounts, ks: Sequence[int], draws: Resampling) -> Mapping[int, Means]:
    """The cells without the split of reshaping, and turnover, for each k that n allows."""
    least = int(min(counts[0].min(), counts[2].min())) if len(counts[0]) else 0
    return {
        k: _all_means(counts, decomposition.item_terms(*counts, k), k, draws)
        for k in ks
        if least >= k + 1
    }


def _all_means(counts: PairCounts, terms: Floats, k: int, draws: Resampling) -> Means:
    """Cells and turnover in one go, for one product with the draws."""
    names = [*decomposition.QUANTITIES, "new", "lost"]
    columns = [terms, gained_lost.item_terms(*counts, k)[:, :2]]
    if counts[0].min() >= 2 * k:
        names.append(gained_lost.BASELINE)
        columns.append(gained_lost.baseline_terms(counts[0], counts[1], k)[:, None])
    step = 1 / float(np.minimum(counts[0], counts[2]).sum())
    return Means.of(names, np.column_stack(columns), draws, step, bound=1.0)
