"""Rewards of texts, by a function as TRL's trainers call it."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from ptharness.errors import PluginError
from ptharness.provenance.texts import Text
from ptharness.tasks.trajectories import as_messages

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
    columns = {name: None for text in texts for name in text.of.columns}
    try:
        with output_aside():
            values: Any = reward(
                prompts=[_prompt(text) for text in texts],
                completions=[_as_trained(text) for text in texts],
                **{name: [text.of.columns.get(name) for text in texts] for name in columns},
            )
        if inspect.iscoroutine(values):
            values.close()
            raise TypeError("it is asynchronous, and nothing awaits it")
        if isinstance(values, Mapping | Set | str | bytes):
            raise TypeError(f"it returned a {type(values).__name__}, and not a list")
        values = list(values)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the reward function failed: {type(error).__name__}: {_told(error, str)}; "
            f"{_REWARDS_AS}"
        ) from error
    if len(values) != len(texts):
        raise PluginError(
            f"the reward function gave {len(values)} rewards for {len(texts)} completions; "
            f"{_REWARDS_AS}"
        )
    return [
        replace(text, reward=_as_reward(value)) for text, value in zip(texts, values, strict=True)
    ]


@contextlib.contextmanager
def output_aside() -> Iterator[None]:
    """Meanwhile standard output goes to standard error, from C and from other processes too.

    What code of others prints is not our output, which may be JSON.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        # C keeps what it writes to a pipe for later, and so does whoever kept `sys.stdout`.
        ctypes.CDLL(None).fflush(None)
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _as_reward(value: Any) -> float:
    """A reward as a number, NaN where none is known. Raises `PluginError` for anything else."""
    if value is None:
        return math.nan
    try:
        number = value.item() if hasattr(value, "item") else value
    except Exception:
        # An array of several.
        number = value
    if not isinstance(number, int | float) or abs(number) > _LARGEST_REWARD:
        raise PluginError(
            f"the reward function gave {_told(value, repr):.60}; a reward is a number of at most "
            f"{_LARGEST_REWARD:g}, or None"
        )
    return float(number)


def _told(value: object, how: Callable[[object], str]) -> str:
    """What is said of a value of others, whose own words may fail."""
    try:
        return how(value)
    except Exception:
        return f"a {type(value).__name__}"


def _prompt(text: Text) -> str | list[dict[str, str]]:
    prompt = text.of.prompt
    return prompt if isinstance(prompt, str) else as_messages(prompt)


def _as_trained(text: Text) -> str | list[dict[str, str]]:
    """A completion in the form of its prompt."""
    if isinstance(text.of.prompt, str):
        return text.text
    return [{"role": "assistant", "content": text.text}]
