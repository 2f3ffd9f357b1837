"""Rewards of texts, by a function as TRL's trainers call it."""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ptharness.errors import PluginError
from ptharness.provenance.texts import Text

RewardFunction = Callable[..., Sequence[float | None]]
"""As TRL's trainers call it: `f(prompts=[...], completions=[...], **columns) -> rewards`, where a
completion is text, or of a conversation a list of one message."""

_REWARDS_AS = (
    "it is called as f(prompts=[...], completions=[...], **columns) and returns a number, or None, "
    "for each completion"
)
_LARGEST_REWARD = 1e12


def rewarded(texts: Sequence[Text], reward: RewardFunction) -> list[Text]:
    """The same texts with the reward that the function gives them.

    Raises `PluginError` where the function fails or gives something else.
    """
    columns = {name for text in texts for name in text.about["columns"]}
    try:
        # What it prints is not our output.
        with contextlib.redirect_stdout(sys.stderr):
            values: Any = reward(
                prompts=[text.about["prompt"] for text in texts],
                completions=[_as_trained(text) for text in texts],
                **{name: [text.about["columns"].get(name) for text in texts] for name in columns},
            )
        if inspect.iscoroutine(values):
            values.close()
            raise TypeError("it is asynchronous, and nothing awaits it")
        values = list(values)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the reward function failed: {type(error).__name__}: {error}; {_REWARDS_AS}"
        ) from error
    if len(values) != len(texts):
        raise PluginError(
            f"the reward function gave {len(values)} rewards for {len(texts)} completions; "
            f"{_REWARDS_AS}"
        )
    return [
        replace(text, reward=_as_reward(value)) for text, value in zip(texts, values, strict=True)
    ]


def _as_reward(value: Any) -> float:
    """A reward as a number, NaN where none is known. Raises `PluginError` for anything else."""
    if value is None:
        return math.nan
    number = value.item() if hasattr(value, "item") else value
    if not isinstance(number, int | float) or abs(number) > _LARGEST_REWARD:
        raise PluginError(
            f"the reward function gave {value!r:.60}; a reward is a number of at most "
            f"{_LARGEST_REWARD:g}, or None"
        )
    return float(number)


def _as_trained(text: Text) -> str | list[dict[str, str]]:
    """A completion in the form of its prompt."""
    if isinstance(text.about["prompt"], str):
        return text.text
    return [{"role": "assistant", "content": text.text}]
