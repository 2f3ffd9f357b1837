"""What the likelihoods under its parent say of a stage: rows of `schema.PROVENANCE`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ptharness.analysis.provenance import (
    LEAST_PROMPTS,
    Prompt,
    ProvenanceEstimate,
    count_prompts,
    measure,
)
from ptharness.provenance.settings import ProvenanceSettings
from ptharness.provenance.texts import Text


def stage_rows(
    given: Sequence[Text], own: Sequence[Text], settings: ProvenanceSettings
) -> Iterator[dict[str, Any]]:
    """A row for all trajectories, and one for each side of preference pairs.

    Without the columns that say which stage and which parent it is.
    """
    sides = sorted({text.side for text in given} - {"given"})
    for side in ("all", *sides):
        chosen = [text for text in given if side in ("all", text.side)]
        prompts = _prompts(chosen, own)
        estimate = measure(prompts, settings.thresholds, settings.level)
        yield {
            "side": side,
            "prompts": len(prompts),
            **_estimates(estimate),
            **_counts(chosen, own, settings),
            "reason": _reason(estimate, chosen),
            "level": settings.level,
        }


def _prompts(given: Sequence[Text], own: Sequence[Text]) -> list[Prompt]:
    """What there is of each prompt that has both."""
    sides: tuple[dict[int, list[Text]], dict[int, list[Text]]] = ({}, {})
    for by_prompt, texts in zip(sides, (given, own), strict=True):
        for text in texts:
            by_prompt.setdefault(text.document, []).append(text)
    return [
        Prompt(
            np.array([text.nll for text in found]),
            np.array([text.nll for text in sides[1][document]]),
            np.array([text.reward for text in found]),
            np.array([text.reward for text in sides[1][document]]),
        )
        for document, found in sides[0].items()
        if document in sides[1]
    ]


def _estimates(found: ProvenanceEstimate) -> dict[str, Any]:
    return {
        "provenance_measured": found.measured.value,
        "gap_nats_per_token": found.gap.estimate,
        "gap_stderr": found.gap.stderr,
        "gap_ci_low": found.gap.ci_low,
        "gap_ci_high": found.gap.ci_high,
        "auc": found.auc.estimate,
        "auc_ci_low": found.auc.ci_low,
        "auc_ci_high": found.auc.ci_high,
        "like_share": found.like_share,
        "reward_difference": found.reward.estimate,
        "reward_ci_low": found.reward.ci_low,
        "reward_ci_high": found.reward.ci_high,
        "looks_filtered": found.looks_filtered,
    }


def _counts(
    given: Sequence[Text], own: Sequence[Text], settings: ProvenanceSettings
) -> dict[str, Any]:
    tokens = np.concatenate([text.logprobs for text in given] or [np.empty(0)])
    rare = float((tokens < math.log(settings.rare_below)).mean()) if len(tokens) else None
    return {
        "given": len(given),
        "own": len(own),
        "rare_token_share": rare,
        "rare_below": settings.rare_below,
        "given_bits_per_byte": _bits_per_byte(given),
        "own_bits_per_byte": _bits_per_byte(own),
        "misspelled": sum(not text.spelled for text in given),
        "truncated": sum(text.cut for text in own),
        "given_nats_per_token": [text.nll for text in given],
        "own_nats_per_token": [text.nll for text in own],
    }


def _bits_per_byte(texts: Sequence[Text]) -> float | None:
    """None where tokens are not their text: an unknown character is likelier than any one is."""
    size = sum(len(text.text.encode()) for text in texts)
    if not size or not all(text.spelled for text in texts):
        return None
    nats = -sum(float(text.logprobs.sum()) for text in texts)
    return nats / math.log(2) / size


def _reason(estimate: ProvenanceEstimate, given: Sequence[Text]) -> str:
    """Why it is called so, and what else there is to know of it."""
    parts = [estimate.reason]
    if misspelled := sum(not text.spelled for text in given):
        parts.append(
            f"the parent's tokenizer cannot spell {misspelled:,} of {len(given):,} trajectories, "
            "which are less likely than what is scored of them"
        )
    reward = estimate.reward
    if reward.is_defined and reward.items < LEAST_PROMPTS:
        told = f"rewards are known on both sides of {count_prompts(reward.items)}"
        parts.append(f"{told}; {LEAST_PROMPTS} show whether it was selected")
    elif reward.is_defined and estimate.looks_filtered is None:
        parts.append("all rewards are equal, which does not show whether it was selected")
    return "; ".join(parts)
