"""Whose words did a stage learn from? Its trajectories' likelihood under its parent, measured.

The trajectories that were given are compared with the parent's own samples for the same prompts
(temperature 1, all tokens allowed). If they are the parent's, the two cannot be told apart:
their negative log-likelihoods under the parent have the same distribution. A likelihood proves
no history: text of a sibling looks like the parent's own, and late rollouts of a stage have
moved away from the parent that it began as.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from ptharness.analysis.binomials import Floats
from ptharness.analysis.means import unvaried
from ptharness.analysis.resampling import ROUNDING, Estimate, student

LEAST_PROMPTS = 10
"""Fewer prompts have no class, and nothing is said of their selection."""


class Measured(StrEnum):
    """What the likelihoods show of a stage's trajectories."""

    PARENT_LIKE = "parent_like"
    PARENT_UNLIKE = "parent_unlike"
    MIXED = "mixed"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class Thresholds:
    """Where the classes part.

    `gap_nats_per_token`: gaps up to this size are none. `auc`: how far from one half the AUC of
    indistinguishable text may be. `like_share`: from this share of trajectories that look like
    the parent's own on, a set that is unlike as a whole is mixed.
    """

    gap_nats_per_token: float = 0.1
    auc: float = 0.05
    like_share: float = 0.4


@dataclass(frozen=True)
class Prompt:
    """One prompt: negative log-likelihood of each trajectory under the parent, and of each sample.

    In nats per token, the end-of-sequence token included; shapes (given,) and (own,), both at
    least one. `given_reward` and `own_reward` are what a reward function gives, NaN where none did.
    """

    given: Floats
    own: Floats
    given_reward: Floats
    own_reward: Floats


@dataclass(frozen=True)
class ProvenanceEstimate:
    """The measured provenance of one stage.

    `gap` is in nats per token, given minus own. `auc` is the probability that a given trajectory
    is less likely than an own sample for the same prompt, ties counting half. `like_share` is the
    share of given trajectories that may be the parent's own: twice the share that is more likely
    than half of the parent's samples (Storey 2002, doi 10.1111/1467-9868.00346, at lambda = 1/2),
    at most 1. `reward` is the mean reward of the given minus that of the own (of rewards 1 and 0
    the share correct), over prompts where both are known; `looks_filtered` whether its interval
    lies above 0, None if there is none or fewer than `LEAST_PROMPTS` prompts.
    """

    measured: Measured
    reason: str
    gap: Estimate
    auc: Estimate
    like_share: float | None
    reward: Estimate
    looks_filtered: bool | None


def measure(
    prompts: Sequence[Prompt], thresholds: Thresholds = Thresholds(), level: float = 0.95
) -> ProvenanceEstimate:
    """Compare what was given with the parent's own, prompt by prompt.

    Every prompt counts the same; intervals are over prompts (Student's t). A class needs
    `LEAST_PROMPTS` prompts.
    """
    if not prompts:
        nothing = Estimate(level=level, reason="no prompt has both a trajectory and a sample")
        return ProvenanceEstimate(
            Measured.UNDETERMINED, str(nothing.reason), nothing, nothing, None, nothing, None
        )
    gap = _mean([p.given.mean() - p.own.mean() for p in prompts], level)
    auc = _bounded(_mean([_less_likely(p) for p in prompts], level), 1.0).within(0.0, 1.0)
    like = min(1.0, 2 * float(np.mean([_in_likelier_half(p) for p in prompts])))
    reward = _reward(prompts, level)
    measured, reason = _classify(gap, auc, like, thresholds)
    enough = reward.ci_low is not None and reward.items >= LEAST_PROMPTS
    filtered = reward.ci_low > 0 if enough and reward.ci_low is not None else None
    return ProvenanceEstimate(measured, reason, gap, auc, like, reward, filtered)


def _classify(gap: Estimate, auc: Estimate, like: float, at: Thresholds) -> tuple[Measured, str]:
    delta = at.gap_nats_per_token
    low, high = gap.ci_low, gap.ci_high
    if gap.items < LEAST_PROMPTS or low is None or high is None or auc.estimate is None:
        return Measured.UNDETERMINED, f"{count_prompts(gap.items)}; a class needs {LEAST_PROMPTS}"
    if low > delta:
        if like < at.like_share:
            return Measured.PARENT_UNLIKE, f"less likely than the parent's own by over {delta:g}"
        return Measured.MIXED, f"unlike as a whole, and {100 * like:.0f} % look like the parent's"
    if high < -delta:
        why = "likelier than the parent's own: selected, or drawn at a lower temperature"
        return Measured.MIXED, why
    if low < -delta or high > delta:
        ends = [f"{end:g}" for end in (-delta, delta) if low <= end <= high]
        return (
            Measured.UNDETERMINED,
            f"the gap's interval holds {' and '.join(ends)}; use more prompts",
        )
    return _by_auc(auc, at.auc)


def _by_auc(auc: Estimate, reach: float) -> tuple[Measured, str]:
    """Of a set without a gap. The point decides what is alike, the interval what is not."""
    assert auc.estimate is not None
    assert auc.ci_low is not None
    assert auc.ci_high is not None
    lowest, highest = 0.5 - reach, 0.5 + reach
    if auc.ci_high < lowest:
        return Measured.MIXED, "no gap, and yet more often the likelier beside an own answer"
    if auc.ci_low > highest:
        return Measured.MIXED, "no gap, and yet more often the less likely beside an own answer"
    if lowest <= auc.estimate <= highest:
        return Measured.PARENT_LIKE, "as likely as the parent's own"
    end = lowest if auc.estimate < lowest else highest
    return Measured.UNDETERMINED, f"no gap, but the AUC's interval holds {end:g}; use more prompts"


def count_prompts(number: int) -> str:
    """So many prompts."""
    return f"{number:,} prompt{'s' * (number != 1)}"


def _mean(values: Sequence[float], level: float) -> Estimate:
    """The mean over prompts with Student's interval."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return Estimate(float(array.mean()), level=level, items=len(array), reason="one prompt")
    stderr = float(array.std(ddof=1) / np.sqrt(len(array)))
    mean = float(array.mean())
    if stderr <= ROUNDING * float(np.abs(array).max()):
        return Estimate(mean, 0.0, mean, mean, "t", level, None, len(array))
    low, high, p = student(mean, stderr, len(array), level)
    return Estimate(mean, stderr, low, high, "t", level, p, len(array))


def _bounded(mean: Estimate, widest: float) -> Estimate:
    """With an interval for what does not vary, where two prompts differ by at most `widest`."""
    if mean.stderr != 0 or mean.estimate is None:
        return mean
    if not widest:
        reason = "the same of all texts, so its interval is not known"
        return replace(mean, ci_low=None, ci_high=None, ci_method=None, reason=reason)
    # Equal for all prompts that were seen, it may differ for some that were not.
    reach, p = unvaried(mean.estimate / widest, 1 / mean.items, mean.level)
    low, high = mean.estimate - reach * widest, mean.estimate + reach * widest
    return replace(mean, ci_low=low, ci_high=high, ci_method="rule_of_three", p=p)


def _less_likely(prompt: Prompt) -> float:
    """P(NLL of a given trajectory > NLL of an own sample), ties half."""
    difference = prompt.given[:, None] - prompt.own[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def _in_likelier_half(prompt: Prompt) -> float:
    """Share of the given that are more likely than half of the own samples, ties in part."""
    below = (prompt.own[None, :] < prompt.given[:, None]).sum(axis=1)
    ties = (prompt.own[None, :] == prompt.given[:, None]).sum(axis=1)
    # Of m samples a trajectory takes one of m + 1 places, among equals any of theirs.
    middle = len(prompt.own) / 2
    places = np.arange(len(prompt.own) + 1)
    lower = (places < middle) + 0.5 * (places == middle)
    shares = [lower[b : b + t + 1].mean() for b, t in zip(below, ties, strict=True)]
    return float(np.mean(shares))


def _reward(prompts: Sequence[Prompt], level: float) -> Estimate:
    """Mean reward of the given minus that of the own, over prompts where both are known."""
    differences = [
        float(np.nanmean(p.given_reward) - np.nanmean(p.own_reward))
        for p in prompts
        if not np.isnan(p.given_reward).all() and not np.isnan(p.own_reward).all()
    ]
    if not differences:
        return Estimate(level=level, reason="the rewards are not known of both sides")
    known = np.concatenate([side for p in prompts for side in (p.given_reward, p.own_reward)])
    return _bounded(_mean(differences, level), float(np.nanmax(known) - np.nanmin(known)))
