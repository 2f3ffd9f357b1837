"""Means over items, from which intervals are made, and which pool over tasks.

A task's means keep their bootstrap replicates, so that the mean over several tasks (macro: each
task counts the same) has replicates too: those of a bootstrap stratified by task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import Floats
from ptharness.analysis.resampling import (
    Estimate,
    Resampling,
    bootstrap_t,
    clustered_stderr,
    student,
)


@dataclass(frozen=True)
class Means:
    """Means over items of several quantities, with all that their intervals need.

    `values` and `stderrs` have shape (quantities,), `shifts` (mean* - mean) and `spreads`
    (stderr*) shape (replicates, quantities). `unseen` is what one more cluster like the most
    extreme one would add to a mean, `step` what one sample more or less changes, `weight` what
    one cluster counts. No interval reaches beyond `bound` on either side.
    """

    names: tuple[str, ...]
    values: Floats
    stderrs: Floats
    shifts: npt.NDArray[np.float32]
    spreads: npt.NDArray[np.float32]
    unseen: Floats
    step: float
    weight: float
    clusters: int
    items: int
    bound: float = math.inf

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        terms: Floats,
        resampling: Resampling,
        step: float = 0.0,
        bound: float = math.inf,
    ) -> Means:
        """From the items' terms of shape (items, quantities), without NaN, at least one item."""
        sums = resampling.sums(terms)
        items, clusters = len(terms), len(resampling.sizes)
        shifts, spreads = resampling.spreads(sums)
        return cls(
            tuple(names),
            terms.mean(axis=0),
            clustered_stderr(sums, resampling.sizes),
            shifts,
            spreads,
            np.abs(sums).max(axis=0) / items,
            step,
            1 / clusters,
            clusters,
            items,
            bound,
        )

    @classmethod
    def pooled(cls, parts: Sequence[Means]) -> Means:
        """The mean of the tasks' means, each task counting the same; strata are independent."""
        if len(parts) == 1:
            return parts[0]
        count = len(parts)
        # A quantity that is undefined on one of the tasks has no mean over all.
        shared = [name for name in parts[0].names if all(name in part.names for part in parts)]
        parts = [part.only(shared) for part in parts]
        return cls(
            parts[0].names,
            np.mean([part.values for part in parts], axis=0),
            np.sqrt(np.sum([part.stderrs**2 for part in parts], axis=0)) / count,
            np.mean([part.shifts for part in parts], axis=0),
            np.sqrt(np.sum([part.spreads**2 for part in parts], axis=0)) / count,
            np.max([part.unseen for part in parts], axis=0) / count,
            max(part.step for part in parts) / count,
            max(part.weight for part in parts) / count,
            sum(part.clusters - 1 for part in parts) + 1,
            sum(part.items for part in parts),
            max(part.bound for part in parts),
        )

    def only(self, names: Sequence[str]) -> Means:
        """The same of some of the quantities."""
        if tuple(names) == self.names:
            return self
        columns = [self.names.index(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            values=self.values[columns],
            stderrs=self.stderrs[columns],
            shifts=self.shifts[:, columns],
            spreads=self.spreads[:, columns],
            unseen=self.unseen[columns],
        )

    def replicates(self, name: str) -> Floats:
        """The bootstrap's means of a quantity; shape (replicates,)."""
        column = self.names.index(name)
        return np.asarray(self.values[column] + self.shifts[:, column])

    def estimates(
        self, level: float, skewed: Sequence[str] = (), claimed: Mapping[str, int] | None = None
    ) -> dict[str, Estimate]:
        """Every quantity with its interval.

        `skewed` quantities, to which few items contribute, get a wider interval. `claimed` gives
        the sign that a test is about: the p-value is 1 where the other one is seen.
        """
        if np.isnan(self.stderrs).any():
            undefined = Estimate(items=self.items, reason=one_cluster(self.clusters), level=level)
            return dict.fromkeys(self.names, undefined)
        return {
            name: self._estimate(column, level, name in skewed, (claimed or {}).get(name, 0))
            for column, name in enumerate(self.names)
        }

    def _estimate(self, column: int, level: float, is_skewed: bool, sign: int) -> Estimate:
        mean, stderr = float(self.values[column]), float(self.stderrs[column])
        if stderr == 0 and math.isinf(self.bound):
            # How far an item could be off is not known of what has no bounds.
            reason = "the same on all items, so its interval is not known"
            return Estimate(mean, 0.0, level=level, items=self.items, reason=reason)
        if stderr == 0:
            # Equal on all items. That bounds how often it can differ: it is not known exactly.
            reach, p = unvaried(mean, self.weight, level)
            low, high, method = mean - reach, mean + reach, "rule_of_three"
        elif is_skewed:
            low, high, p = self._skewed_interval(column, level)
            method = "bootstrap_t"
        else:
            low, high, p = student(mean, stderr, self.clusters, level)
            method = "clustered_t"
        if mean * sign < 0:
            p = 1.0
        low, high = max(low, -self.bound), min(high, self.bound)
        return Estimate(mean, stderr, low, high, method, level, p, self.items)

    def _skewed_interval(self, column: int, level: float) -> tuple[float, float, float]:
        """Interval and two-sided p-value of a mean to which few items contribute much.

        Such a mean is skewed, and its rare large terms may not have been seen. So the wider of
        Student's t and the bootstrap-t is taken, and widened by one unseen cluster as extreme as
        the most extreme one seen; it is never narrower than one sample. In simulations of 400
        items this covers the truth in 91 to 99 % of cases at the level of 95 %, where bootstrap-t
        alone covers 79 to 95 %. The p-value is that of the mean less the unseen cluster, so that
        it is small only where the interval leaves 0 out.
        """
        mean, stderr = float(self.values[column]), float(self.stderrs[column])
        low, high, _ = student(mean, stderr, self.clusters, level)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = self.shifts[:, column].astype(np.float64) / self.spreads[:, column]
        skewed_low, skewed_high, _ = bootstrap_t(mean, stderr, ratios, level)
        # Replicates that miss nearly all contributing items have nearly no stderr: a bound on
        # those.
        farthest = 3 * (high - mean)
        low = min(low, max(skewed_low, mean - farthest))
        high = max(high, min(skewed_high, mean + farthest))
        unseen = float(self.unseen[column])
        low, high = min(low - unseen, mean - self.step), max(high + unseen, mean + self.step)
        least = math.copysign(max(abs(mean) - max(unseen, self.step), 0.0), mean)
        _, _, p = student(least, stderr, self.clusters, level)
        _, _, skewed_p = bootstrap_t(least, stderr, ratios, level)
        return low, high, max(p, skewed_p)


def one_cluster(clusters: int) -> str:
    """Why a mean has no interval: of all its tasks' clusters, some task has one alone."""
    if clusters < 2:
        return f"needs two clusters of items, and there is {clusters}"
    return "needs two clusters of items in each task, and one has a single one"


def unvaried(mean: float, weight: float, level: float) -> tuple[float, float]:
    """Reach of the interval, and p against 0, of what is equal on all clusters.

    A share of clusters that differ goes unseen with probability 1 - level only if it is below
    -log(1 - level) / clusters (the rule of three); `weight` is what one cluster counts. p is 1 -
    level of the interval that just reaches 0.
    """
    return min(1.0, -math.log(1 - level) * weight), math.exp(-abs(mean) / weight)
