"""What a stage preserves or passes on: retention, transfer, amortisation, the scaffold gap.

With p_x the success probability of an item at checkpoint x, u = (1 - p)^k of a parent or start
and v = (1 - p)^k of a later one, sums and means over items:

    retention         sum_U (p_later - p_before) / sum_U (p_after - p_before)
    recovered gap     (p_student - p_start) / (p_teacher - p_start)                     unclipped
    support transfer  E[u_start (1 - v_teacher)(1 - v_student)] / E[u_start (1 - v_teacher)]
    novelty           E[(1 - v_student) v_teacher]
    amortisation      (student pass@1 - teacher pass@1) / (teacher X@k - teacher pass@1)
    break-even        the least k with parent pass@k >= child pass@1
    scaffold gap      pass@1 with a scaffold - pass@1 without it

Ratios are ratios of means, with Fieller's interval (see `ratios`), undefined where the interval of
the denominator contains 0. Over several `tasks` (each item's, as `clusters`) means are macro
averages: an item of task t weighs 1 / (T N_t), and clusters are taken within tasks.

A checkpoint's counts come as a pair (n, c), each of shape (items,) or one number for all items.
Samples of different checkpoints must be independent. Units: fractions of 1; attempts for
break-even.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ptharness.analysis.attempts import attempts_up_to, least_attempts, pass_at_k, wrong_curves
from ptharness.analysis.attempts import too_few as too_few_attempts
from ptharness.analysis.binomials import Counts, Floats
from ptharness.analysis.decomposition import as_codes
from ptharness.analysis.means import Means
from ptharness.analysis.ratios import Attempts, Groups, MacroMeans, as_attempts
from ptharness.analysis.resampling import Estimate, Resampling

SPLITS = 16
"""Random splits of the samples over which retention is averaged."""


def retention(
    before: Attempts,
    after: Attempts,
    later: Attempts,
    clusters: Groups = None,
    *,
    tasks: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """How much of what a stage gained (before -> after) is there at a later checkpoint.

    U, the items that gained, is chosen on one half of the samples of before and after; both sums
    use the other half, and all samples of the later checkpoint. The halves are independent, so
    both sums are unbiased given U; chosen and summed on the same samples, U would be the lucky
    items, and a true 1 read .79 at n = 8. Averaged over `SPLITS` random splits of the counts,
    each in both directions.

    1: all is kept; 0: all is lost; above 1: it grew. Undefined for n < 2 before or after.
    """
    (n0, c0), (n1, c1), (n2, c2) = as_attempts(before, after, later)
    least = int(min(n0.min(initial=2), n1.min(initial=2)))
    if least < 2:
        reason = f"needs 2 samples of each item before and after, and there is {least}"
        return Estimate(level=level, items=len(n0), reason=reason)
    terms = retention_terms(n0, c0, n1, c1, n2, c2, seed)
    return _ratio(terms, "the gain that is to be kept", clusters, tasks, level)


def retention_terms(
    n0: Counts, c0: Counts, n1: Counts, c1: Counts, n2: Counts, c2: Counts, seed: int = 0
) -> Floats:
    """What each item adds to the two sums of retention; shape (items, 2)."""
    random = np.random.default_rng(seed)
    half0, half1 = n0 // 2, n1 // 2
    terms = np.zeros((len(n0), 2))
    for _ in range(SPLITS):
        # A split of exchangeable samples leaves a hypergeometric number of correct ones.
        first0 = random.hypergeometric(c0, n0 - c0, half0)
        first1 = random.hypergeometric(c1, n1 - c1, half1)
        p0 = first0 / half0, (c0 - first0) / (n0 - half0)
        p1 = first1 / half1, (c1 - first1) / (n1 - half1)
        for choice, used in ((0, 1), (1, 0)):
            chosen = p1[choice] > p0[choice]
            terms[:, 0] += np.where(chosen, c2 / n2 - p0[used], 0)
            terms[:, 1] += np.where(chosen, p1[used] - p0[used], 0)
    return terms / (2 * SPLITS)


def recovered_gap(
    start: Attempts,
    student: Attempts,
    teacher: Attempts,
    clusters: Groups = None,
    *,
    tasks: Groups = None,
    level: float = 0.95,
) -> Estimate:
    """The share of the gap between the student's start and its teacher that the student closed.

    Unclipped: negative where the student fell behind its start, above 1 where it passed the
    teacher.
    """
    p0, p1, p2 = (c / n for n, c in as_attempts(start, student, teacher))
    terms = np.stack([p1 - p0, p2 - p0], axis=1)
    return _ratio(terms, "the gap between start and teacher", clusters, tasks, level)


def support_transfer(
    start: Attempts,
    student: Attempts,
    teacher: Attempts,
    k: int,
    clusters: Groups = None,
    *,
    tasks: Groups = None,
    level: float = 0.95,
) -> Estimate:
    """Of what the teacher reaches within k attempts and the start does not, the student's share.

    Undefined for n < k at one of the three.
    """
    counts = as_attempts(start, student, teacher)
    reason = next((r for n, _ in counts if (r := too_few_attempts(n, k)) is not None), None)
    reached = [pass_at_k(n, c, k) for n, c in counts]
    if reason is not None:
        return Estimate(level=level, items=len(reached[0]), reason=reason)
    offered = (1 - reached[0]) * reached[2]
    terms = np.stack([offered * reached[1], offered], axis=1)
    name = "the share of items that only the teacher reaches"
    return _ratio(terms, name, clusters, tasks, level)


def novelty(
    student: Attempts,
    teacher: Attempts,
    k: int,
    clusters: Groups = None,
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The share of items that the student solves within k attempts and the teacher does not.

    Two runs of one model show some too: `gained_lost.baseline_terms` of the teacher's counts says
    how many. Undefined for n < k.
    """
    (n1, c1), (n0, c0) = as_attempts(student, teacher)
    reason = too_few_attempts(n1, k) or too_few_attempts(n0, k)
    reached = pass_at_k(n1, c1, k) * (1 - pass_at_k(n0, c0, k))
    found = _means({"novelty": reached}, clusters, level, replicates, seed, reason)["novelty"]
    return found.within(0.0, 1.0)


def amortisation(
    student: Attempts,
    teacher: Attempts,
    teacher_at_k: npt.ArrayLike,
    clusters: Groups = None,
    *,
    tasks: Groups = None,
    level: float = 0.95,
) -> Estimate:
    """How much of what k attempts buy the teacher the student has in one attempt.

    `teacher_at_k` is each item's value of pass@k, maj@k or best-of-k, of the teacher's samples;
    shape (items,). Undefined where k attempts buy the teacher nothing that can be told from 0, or
    a value is not known (NaN).
    """
    (n1, c1), (n0, c0) = as_attempts(student, teacher)
    many = np.asarray(teacher_at_k, dtype=np.float64)
    if many.shape != n0.shape:
        raise ValueError(f"teacher_at_k has shape {many.shape}, but there are {len(n0)} items")
    if unknown := int(np.isnan(many).sum()):
        reason = f"needs a value at k for each item: it is not known for {unknown}"
        return Estimate(level=level, items=len(n0), reason=reason)
    terms = np.stack([c1 / n1 - c0 / n0, many - c0 / n0], axis=1)
    return _ratio(terms, "what k attempts add", clusters, tasks, level)


def break_even(
    parent: Attempts,
    child: Attempts,
    clusters: Groups = None,
    *,
    level: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The least k with which the parent reaches the child's success in one attempt.

    Unit: attempts. Undefined where the parent does not within the least n of its items. The
    interval is that of a bootstrap over clusters; it has no upper end (None) where too many
    replicates do not get there.
    """
    (n0, c0), (n1, c1) = as_attempts(parent, child)
    if not len(n0):
        return Estimate(level=level, reason="there is no item")
    ks = attempts_up_to(int(n0.min()))
    ahead = (c1 / n1)[:, None] - (1 - wrong_curves(n0, c0, ks))
    draws = Resampling.of(as_codes(clusters, len(n0)), replicates, seed)
    return least_attempts(ahead, ks, draws, "the parent does not get there", level)


@dataclass(frozen=True)
class ScaffoldGap:
    """What a scaffold adds to pass@1: to the parent, to the child, and child less parent.

    A change below 0 says that the child needs the scaffold less.
    """

    parent: Estimate
    child: Estimate
    change: Estimate


def scaffold_gap(
    parent_without: Attempts,
    parent_with: Attempts,
    child_without: Attempts,
    child_with: Attempts,
    clusters: Groups = None,
    *,
    level: float = 0.95,
) -> ScaffoldGap:
    """With and without chain-of-thought, tools or search, paired on the items."""
    counts = as_attempts(parent_without, parent_with, child_without, child_with)
    p00, p01, p10, p11 = (c / n for n, c in counts)
    parent, child = p01 - p00, p11 - p10
    terms = {"parent": parent, "child": child, "change": child - parent}
    return ScaffoldGap(**_means(terms, clusters, level))


def _ratio(
    terms: Floats, denominator: str, clusters: Groups, tasks: Groups, level: float
) -> Estimate:
    if not len(terms):
        return Estimate(level=level, reason="there is no item")
    return MacroMeans.of(terms, clusters, tasks).ratio(denominator, level)


def _means(
    terms: dict[str, Floats],
    clusters: Groups,
    level: float,
    replicates: int = 0,
    seed: int = 0,
    reason: str | None = None,
) -> dict[str, Estimate]:
    """Means over items; by bootstrap-t, as few items contribute, where there are replicates."""
    names = list(terms)
    columns = np.stack(list(terms.values()), axis=1)
    if not len(columns):
        reason = "there is no item"
    if reason is not None:
        return dict.fromkeys(names, Estimate(level=level, items=len(columns), reason=reason))
    draws = Resampling.of(as_codes(clusters, len(columns)), replicates, seed)
    return Means.of(names, columns, draws).estimates(level, skewed=names if replicates else ())
