"""How far apart do two checkpoints behave? Kullback-Leibler divergence on one's own samples.

KL(source || target) is the mean, over what the source says, of how much less likely the target
finds it. From sampled log-ratios it is unbiased and may come out below 0; from sums over the
vocabulary at every visited prefix (`exact`) it has the same mean and less noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import Floats
from ptharness.analysis.ratios import MacroMeans
from ptharness.analysis.resampling import Estimate


@dataclass(frozen=True)
class Divergence:
    """KL in nats per token (a ratio of means) and per sequence, with clustered intervals."""

    per_token: Estimate
    per_sequence: Estimate


def divergence(
    nats: npt.ArrayLike,
    tokens: npt.ArrayLike,
    clusters: Sequence[Any],
    tasks: Sequence[Any],
    level: float = 0.95,
) -> Divergence:
    """From items of one or more tasks: the mean of the tasks' estimates.

    `nats` is each item's mean over its samples of log p_source(y) - log p_target(y), or of the
    sums over the vocabulary in its place; `tokens` the mean length of these samples. Shapes
    (items,). Raises `ValueError` where there is no item.
    """
    total, length = np.asarray(nats, np.float64), np.asarray(tokens, np.float64)
    if not len(total):
        raise ValueError("there is no item to compare the checkpoints on")
    return Divergence(
        mean_of_tasks(total, length, clusters, tasks, "tokens per sample", level),
        mean_of_tasks(total, np.ones_like(total), clusters, tasks, "samples", level),
    )


def exact_divergence(source: Floats, target: Floats) -> Floats:
    """KL between next-token distributions at each position of a sample, in nats: shape (tokens,).

    Both are log-probabilities of shape (tokens, vocabulary). What the source gives no probability
    adds nothing; what the target alone gives none makes it infinite.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    p, q = np.exp(source), np.exp(target)
    ratios = np.subtract(source, target, out=np.zeros_like(p), where=p > 0)
    # q - p sums to 0. With it no term is below 0, however log-probabilities are rounded: that of
    # a token is p (x - 1 - log x) with x = q / p.
    return np.asarray((p * ratios + q - p).sum(-1))


@dataclass(frozen=True)
class TextBits:
    """Bits by which a text's writer and its judge code a byte of it, and what the judge needs
    more. Unlike nats per token they compare between tokenizers."""

    source: float | None
    target: float | None
    excess: Estimate


def text_bits(
    source: npt.ArrayLike,
    target: npt.ArrayLike,
    size: npt.ArrayLike,
    clusters: Sequence[Any],
    tasks: Sequence[Any],
    level: float = 0.95,
) -> TextBits:
    """From items of one or more tasks: the mean of the tasks' estimates.

    `source` and `target` are each item's mean bits over its samples, `size` their mean UTF-8
    bytes. Shapes (items,). Undefined where all texts of a task are empty.
    """
    mine, theirs, length = (np.asarray(v, np.float64) for v in (source, target, size))
    sizes = [length[of].sum() for of in _places(tasks)]
    if not all(sizes):
        return TextBits(None, None, Estimate(level=level, reason="the texts are empty"))

    def per_byte(bits: Floats) -> float:
        by_task = [bits[of].sum() / total for of, total in zip(_places(tasks), sizes, strict=True)]
        return float(np.mean(by_task))

    excess = mean_of_tasks(theirs - mine, length, clusters, tasks, "bytes per sample", level)
    return TextBits(per_byte(mine), per_byte(theirs), excess)


def mean_of_tasks(
    top: Floats,
    bottom: Floats,
    clusters: Sequence[Any],
    tasks: Sequence[Any],
    name: str,
    level: float,
) -> Estimate:
    """The mean over tasks of a ratio of means over items; shapes (items,).

    Ends of the interval lie as far from the mean as the root of the summed squares of the tasks'
    ends, over their number. Source: Zou and Donner 2008, doi 10.1002/sim.3095 (MOVER). Undefined
    where a task's ratio is; `name` is what its denominator is called.
    """
    terms = np.stack([top, bottom], axis=1)
    found = [
        _with_known_ends(MacroMeans.of(terms[of], [clusters[place] for place in of]), name, level)
        for of in _places(tasks)
    ]
    if len(found) == 1:
        return found[0]
    for one in found:
        if one.estimate is None:
            return Estimate(level=level, items=len(top), reason=one.reason)
    at, stderr = (
        np.array([getattr(one, part) for one in found], np.float64)
        for part in ("estimate", "stderr")
    )
    mean, error = float(at.mean()), float(np.hypot.reduce(stderr)) / len(found)
    for one in found:
        if one.ci_low is None:
            return replace(one, estimate=mean, stderr=error, items=len(top))
    low, high = (
        np.array([getattr(one, part) for one in found], np.float64)
        for part in ("ci_low", "ci_high")
    )
    below, above = np.hypot.reduce(at - low), np.hypot.reduce(high - at)
    return Estimate(
        mean,
        error,
        mean - float(below) / len(found),
        mean + float(above) / len(found),
        "mover",
        level,
        None,
        len(top),
    )


def _with_known_ends(means: MacroMeans, name: str, level: float) -> Estimate:
    """The ratio; without an interval where it is the same on all items, for nats have no bound from
    which to tell how far others may lie."""
    found = means.ratio(name, level)
    if found.ci_method != "rule_of_three":
        return found
    reason = "the same on all items, so its interval is not known"
    return replace(found, ci_low=None, ci_high=None, ci_method=None, p=None, reason=reason)


def _places(tasks: Sequence[Any]) -> list[npt.NDArray[np.int64]]:
    """The items of each task."""
    _, task = np.unique(np.asarray(tasks), return_inverse=True)
    return [np.flatnonzero(task == one) for one in range(task.max() + 1)]
