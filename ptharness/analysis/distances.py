"""How far apart do two checkpoints behave? Kullback-Leibler divergence on one's own samples.

KL(source || target) is the mean, over what the source says, of how much less likely the target
finds it. From sampled log-ratios it is unbiased and may come out below 0; from sums over the
vocabulary at every visited prefix (`exact`) it has the same mean and less noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """From items of one or more tasks, every task counting the same.

    `nats` is each item's mean over its samples of log p_source(y) - log p_target(y), or of the
    sums over the vocabulary in its place; `tokens` the mean length of these samples. Shapes
    (items,). Raises `ValueError` where there is no item.
    """
    total, length = np.asarray(nats, np.float64), np.asarray(tokens, np.float64)
    if not len(total):
        raise ValueError("there is no item to compare the checkpoints on")
    per_token = MacroMeans.of(np.stack([total, length], 1), clusters, tasks)
    per_sequence = MacroMeans.of(np.stack([total, np.ones_like(total)], 1), clusters, tasks)
    return Divergence(
        per_token.ratio("tokens per sample", level), per_sequence.ratio("samples", level)
    )


def log_ratios(source: Floats, target: Floats) -> float:
    """log p_source(y) - log p_target(y) of one sample, from log-probabilities of its tokens."""
    return float(source.sum() - target.sum())


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
    """From items of one or more tasks, every task counting the same.

    `source` and `target` are each item's mean bits over its samples, `size` their mean UTF-8
    bytes. Shapes (items,). Undefined where a task's texts are all empty.
    """
    mine, theirs, length = (np.asarray(v, np.float64) for v in (source, target, size))
    means = MacroMeans.of(np.stack([mine, theirs, length], 1), clusters, tasks)
    if not means.values[2] > 0:
        return TextBits(None, None, Estimate(level=level, reason="the texts are empty"))
    excess = MacroMeans.of(np.stack([theirs - mine, length], 1), clusters, tasks)
    per_byte = means.values[:2] / means.values[2]
    return TextBits(float(per_byte[0]), float(per_byte[1]), excess.ratio("bytes per sample", level))
