"""Ratios of two means over items, with intervals, over one task or several.

Of several tasks the means are macro averages: every task counts the same, whatever its size.

*Fieller's interval*: all r for which mean(numerator - r denominator) is not significantly
different from 0. It needs no symmetry of the ratio and is bounded exactly where the denominator
differs significantly from 0; elsewhere the ratio is undefined. Source: Fieller 1954,
Some problems in interval estimation. The standard error is that of the delta method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from ptharness.analysis.binomials import Counts, Floats
from ptharness.analysis.decomposition import as_codes, as_counts
from ptharness.analysis.means import unvaried
from ptharness.analysis.resampling import ROUNDING, Codes, Estimate, cluster_sums

Groups = Sequence[Any] | npt.ArrayLike | None
"""Which items belong together: anything comparable per item, or None where none do."""

Attempts = tuple[npt.ArrayLike, npt.ArrayLike]
"""n and c of one checkpoint: samples and correct ones, shape (items,) or one number for all."""


def as_attempts(*checkpoints: Attempts) -> list[tuple[Counts, Counts]]:
    """n and c of each checkpoint, all of shape (items,). Raises `ValueError` for no counts."""
    flat = [np.atleast_1d(np.asarray(values)) for pair in checkpoints for values in pair]
    arrays = np.broadcast_arrays(*flat)
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    return [as_counts(n, c, n, c)[:2] for n, c in pairs]


@dataclass(frozen=True)
class MacroMeans:
    """Means of quantities over items, of each task first, and their clustered covariance.

    `values` has shape (quantities,), `covariance` (quantities, quantities). `thinnest` is the
    least number of clusters that a task has; below two the covariance is not known. `weight` is
    the most that one cluster counts.
    """

    values: Floats
    covariance: Floats
    freedom: int
    thinnest: int
    items: int
    weight: float

    @classmethod
    def of(cls, terms: Floats, clusters: Groups = None, tasks: Groups = None) -> MacroMeans:
        """From the items' terms of shape (items, quantities); a cluster lies within one task."""
        items = len(terms)
        stratum = np.zeros(items, dtype=np.int64) if tasks is None else as_codes(tasks, items)
        sizes = np.bincount(stratum)
        means = cluster_sums(terms, stratum, len(sizes)) / sizes[:, None]
        residuals = (terms - means[stratum]) / (len(sizes) * sizes[stratum])[:, None]
        task_of, codes = _nested(stratum, as_codes(clusters, items))
        counts = np.bincount(task_of, minlength=len(sizes))
        sums = cluster_sums(residuals, codes, len(task_of))
        # As if each task's clusters were drawn apart: the usual G / (G - 1), task by task.
        factor = np.divide(counts, counts - 1, out=np.full(len(counts), np.nan), where=counts > 1)
        covariance = (sums * factor[task_of][:, None]).T @ sums
        freedom = int((counts - 1).sum())
        thinnest = int(counts.min())
        weight = 1 / (len(sizes) * thinnest)
        return cls(means.mean(axis=0), covariance, freedom, thinnest, items, weight)

    def ratio(self, name: str, level: float) -> Estimate:
        """The first mean over the second, with Fieller's interval; p is against 0.

        `name` is what the denominator is called where it cannot be told from 0.
        """
        if self.thinnest < 2:
            return self.undefined(self.too_few, level)
        top, bottom = (float(value) for value in self.values)
        (vt, cov), (_, vb) = self.covariance.tolist()
        reach = float(special.stdtrit(self.freedom, (1 + level) / 2)) ** 2
        lead = bottom**2 - reach * vb
        if lead <= 0:
            half = (reach * vb) ** 0.5
            reason = (
                f"needs more items or samples: {name} is {bottom:.3g} "
                f"({bottom - half:.3g} to {bottom + half:.3g}), which may be 0"
            )
            return self.undefined(reason, level)
        middle = (top * bottom - reach * cov) / lead
        spread = middle**2 - (top**2 - reach * vt) / lead
        half = max(spread, 0.0) ** 0.5
        value = top / bottom
        stderr = max(vt - 2 * value * cov + value**2 * vb, 0.0) ** 0.5 / abs(bottom)
        p = float(2 * special.stdtr(self.freedom, -abs(top) / vt**0.5)) if vt > 0 else None
        low, high = min(middle - half, value), max(middle + half, value)
        if high - low > ROUNDING:
            return Estimate(value, stderr, low, high, "fieller", level, p, self.items)
        # The same ratio on all items, which is not known exactly for that.
        reach, p = unvaried(top, self.weight, level)
        low, high = value - reach / abs(bottom), value + reach / abs(bottom)
        return Estimate(value, 0.0, low, high, "rule_of_three", level, p, self.items)

    def positive_ratio(self, level: float) -> Estimate:
        """The first mean over the second, both positive by what they are, such as token counts.

        The interval is that of the delta method on the logarithm: it has two ends however few
        items contribute. There is no p-value, for the ratio is never 0.
        """
        if self.thinnest < 2:
            return self.undefined(self.too_few, level)
        top, bottom = (float(value) for value in self.values)
        gradient = np.array([1 / top, -1 / bottom])
        relative = max(float(gradient @ self.covariance @ gradient), 0.0) ** 0.5
        if relative < 1e-9:
            reason = "the same on all items, so its interval is not known"
            return Estimate(top / bottom, 0.0, level=level, items=self.items, reason=reason)
        factor = float(np.exp(special.stdtrit(self.freedom, (1 + level) / 2) * relative))
        value, stderr = top / bottom, top / bottom * relative
        low, high = value / factor, value * factor
        return Estimate(value, stderr, low, high, "log_delta", level, items=self.items)

    @property
    def too_few(self) -> str:
        """Why nothing has an interval."""
        return f"needs two clusters of items in each task, and there is {self.thinnest}"

    def undefined(self, reason: str, level: float) -> Estimate:
        """No estimate, and why."""
        return Estimate(level=level, items=self.items, reason=reason)


def _nested(stratum: Codes, codes: Codes) -> tuple[Codes, Codes]:
    """The task of each cluster, shape (clusters,), and each item's cluster, shape (items,)."""
    both, index = np.unique(np.stack([stratum, codes]), axis=1, return_inverse=True)
    return both[0], index.reshape(-1).astype(np.int64)
