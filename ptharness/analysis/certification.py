"""Items named with confidence: newly reachable, or no longer reachable.

An item is *in support* of a checkpoint if its success probability exceeds eps, *out* if it is
below, with eps = 1 - (1 - q)^(1/k): the probability at which k attempts succeed with chance q
(0.5). With c of n samples correct, tests against p = eps have the p-values

    in   P(X >= c), X ~ Binomial(n, eps)          out   P(X <= c)

An item is *newly reachable* if the parent is out and the child in, both at once: the
intersection-union test (Berger 1982), whose p-value is the greater of the two. *No longer
reachable* is the reverse. Each list of items (and each of in and out, on each side) is corrected
over all items by Benjamini and Hochberg (1995), or by Benjamini and Yekutieli (2001) where items
depend on each other: of the items named, a share of at most `fdr` is wrong on average.

What is neither in nor out is *undetermined*. With n eps below about 3 nothing can be shown to be
out, for no success at all is likely enough: see `needed_samples`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ptharness.analysis.binomials import Counts, Floats
from ptharness.analysis.decomposition import as_counts

IN, OUT, UNDETERMINED = "in", "out", "undetermined"
Answers = npt.NDArray[np.str_]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Certification:
    """What is known of each item; arrays have shape (items,).

    p-values and q-values (adjusted p-values) are those of the item being newly, or no longer,
    reachable. `parent` and `child` say in, out or undetermined. `needed_samples` is the least n
    at which an item can be shown to be out at all, `parent_most` and `child_most` are the largest
    n of each side.
    """

    k: int
    fdr: float
    newly_reachable_p: Floats
    newly_reachable_q: Floats
    no_longer_reachable_p: Floats
    no_longer_reachable_q: Floats
    parent: Answers
    child: Answers
    needed_samples: int
    parent_most: int
    child_most: int

    @property
    def reason(self) -> str | None:
        """Why nothing can be certified, in one direction or in both; None if something can."""
        if not len(self.parent):
            return "there is no item"
        short = [
            f"{direction.replace('_', ' ')} (the {side} has at most {most})"
            for direction, (side, most) in self._sides.items()
            if most < self.needed_samples
        ]
        if not short:
            return None
        return (
            f"undetermined: n too small, needs n >= {self.needed_samples} for items "
            f"{' or '.join(short)}"
        )

    def is_possible(self, direction: str) -> bool:
        """Whether some item could be certified in a direction, newly_reachable or the other."""
        return self._sides[direction][1] >= self.needed_samples

    @property
    def _sides(self) -> dict[str, tuple[str, int]]:
        """For each direction, which side must be shown to be out, and its largest n."""
        return {
            "newly_reachable": ("parent", self.parent_most),
            "no_longer_reachable": ("child", self.child_most),
        }

    @property
    def newly_reachable(self) -> Mask:
        """The items certified to be out of the parent's support and in the child's."""
        return self.newly_reachable_q <= self.fdr

    @property
    def no_longer_reachable(self) -> Mask:
        """The items certified to be in the parent's support and out of the child's."""
        return self.no_longer_reachable_q <= self.fdr


def certify(
    parent_n: npt.ArrayLike,
    parent_c: npt.ArrayLike,
    child_n: npt.ArrayLike,
    child_c: npt.ArrayLike,
    k: int,
    fdr: float = 0.05,
    dependent: bool = False,
    *,
    chance: float = 0.5,
) -> Certification:
    """Certify items from counts of shape (items,), or one number for all items.

    `k` is the support budget, `chance` the q of eps. `dependent` corrects for items that depend
    on each other in any way, at the cost of power.
    """
    n0, c0, n1, c1 = as_counts(parent_n, parent_c, child_n, child_c)
    items = len(n0)
    needed = needed_samples(k, items, fdr=fdr, dependent=dependent, chance=chance)
    eps = support_threshold(k, chance)
    parent_in, parent_out = _tests(n0, c0, eps)
    child_in, child_out = _tests(n1, c1, eps)
    newly, lost = np.maximum(parent_out, child_in), np.maximum(parent_in, child_out)
    return Certification(
        k,
        fdr,
        newly,
        _adjusted(newly, dependent),
        lost,
        _adjusted(lost, dependent),
        _answers(parent_in, parent_out, fdr, dependent),
        _answers(child_in, child_out, fdr, dependent),
        needed,
        int(n0.max(initial=0)),
        int(n1.max(initial=0)),
    )


def support_threshold(k: int, chance: float = 0.5) -> float:
    """eps: the success probability at which k attempts succeed with this chance.

    >>> round(support_threshold(16), 4)
    0.0424
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not 0 < chance < 1:
        raise ValueError(f"chance must lie between 0 and 1, not {chance}")
    return float(-np.expm1(np.log1p(-chance) / k))


def needed_samples(
    k: int,
    items: int = 1,
    certified: int | None = None,
    *,
    fdr: float = 0.05,
    dependent: bool = False,
    chance: float = 0.5,
) -> int:
    """The least n at which an item without any success can be shown to be out of support.

    (1 - eps)^n has to come down to the level that the correction leaves if `certified` of
    `items` items have that small a p-value: fdr certified / items, by Benjamini and Yekutieli
    divided by 1 + 1/2 + ... + 1/items. By default all items have, which is the most that can be
    hoped for: with fewer samples nothing is possible. `certified=1` is one item on its own.

    >>> needed_samples(16), needed_samples(16, items=400, certified=1)
    (70, 208)
    """
    if not 0 < fdr < 1:
        raise ValueError(f"fdr must lie between 0 and 1, not {fdr}")
    certified = items if certified is None else certified
    if not 0 <= certified <= items:
        raise ValueError(f"certified must lie between 0 and items ({items}), not {certified}")
    support_threshold(k, chance)
    level = fdr * certified / items if certified else fdr
    if dependent:
        level /= (1 / np.arange(1, max(items, 1) + 1)).sum()
    # n log(1 - eps) = (n / k) log(1 - chance); a hair less, against rounding up an exact value.
    return int(np.ceil(k * np.log(level) / np.log1p(-chance) - 1e-9))


def _tests(n: Counts, c: Counts, eps: float) -> tuple[Floats, Floats]:
    """p-values of being in and of being out of support, once for equal counts."""
    pairs, index = np.unique(np.stack([n, c]), axis=1, return_inverse=True)
    index = index.reshape(-1)
    within = stats.binom.sf(pairs[1] - 1, pairs[0], eps)
    return within[index], stats.binom.cdf(pairs[1], pairs[0], eps)[index]


def _adjusted(p: Floats, dependent: bool) -> Floats:
    if not len(p):
        return p
    method = "by" if dependent else "bh"
    return np.asarray(stats.false_discovery_control(np.minimum(p, 1.0), method=method))


def _answers(within: Floats, out: Floats, fdr: float, dependent: bool) -> Answers:
    # Never both: the two p-values add up to at least 1.
    answers = np.full(len(within), UNDETERMINED)
    answers[_adjusted(within, dependent) <= fdr] = IN
    answers[_adjusted(out, dependent) <= fdr] = OUT
    return answers
