"""A row of a training set -> its trajectories."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ptharness.errors import TrajectoryError

Side = Literal["given", "chosen", "rejected"]
Columns = Mapping[str, Any]

LEGAL = (
    "a row has `prompt` and `completion`, or `messages`, or `chosen` and `rejected` (with or "
    "without `prompt`)"
)

OURS = frozenset({"prompt", "completion", "messages", "chosen", "rejected", "text"})
"""Columns that a trajectory is made of."""
MOST_NUMBERS = 1000
"""A list of more is no column that a reward function wants: token ids, log-probabilities."""
_NOT_PASSED = frozenset({"prompt", "completion", "completion_ids", "prompts", "completions"})
"""What TRL keeps from a reward function, and the names of its other arguments."""
_BESIDE_CONTENT = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")
"""Keys of a message of which a chat template may make text, beside its `content`."""
_BESIDE_MESSAGES = ("tools", "chat_template_kwargs")
"""Columns that TRL hands to the chat template with the messages."""
_NOT_RENDERED = (
    "which a chat template may make text of, and only `role` and `content` are scored; give such "
    "rows as text, `prompt` and `completion`, as the trainer rendered them"
)


@dataclass(frozen=True)
class Message:
    """A turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Trajectory:
    """A completion that a stage learned from, and what it was given for.

    `prompt` is text as it stands, or the turns before the completion, which a chat template
    renders. `side` is chosen or rejected in a preference pair. `reward` is what the trainer
    recorded, or 1 and 0 for a label; None where nothing judged it. `where` names file and row.
    `columns` are the row's others (`answer`, say), which a reward function may want.
    """

    prompt: str | tuple[Message, ...]
    completion: str
    side: Side
    reward: float | None
    where: str
    columns: Columns = field(default_factory=dict, hash=False)


def trajectories_of(row: Mapping[str, Any], where: str) -> Iterator[Trajectory]:
    """The trajectories of one row: one, two of a preference pair, one per answer of a dialogue.

    Raises `TrajectoryError`, which begins with `where`, for a row of no known format.
    """
    columns = {
        name: value
        for name, value in row.items()
        if name not in _NOT_PASSED and not _is_long(value)
    }
    _refuse_what_templates_add(row, where)
    known = ("prompt", "completion", "messages", "chosen", "rejected")
    empty = [name for name in known if name in row and row[name] is None]
    if row.get("messages") is not None:
        yield from _of_dialogue(row["messages"], where, columns)
    elif row.get("chosen") is not None and row.get("rejected") is not None:
        yield from _of_pair(row, where, columns)
    elif row.get("prompt") is not None and row.get("completion") is not None:
        prompt = _prompt(row["prompt"], f"{where}: prompt")
        completion = _completion(row["completion"], f"{where}: completion")
        yield Trajectory(prompt, completion, "given", _reward(row, where), where, columns)
    elif empty:
        raise TrajectoryError(f"{where}: {', '.join(f'`{n}`' for n in empty)}: null; {LEGAL}")
    elif "text" in row:
        raise TrajectoryError(
            f"{where}: has `text` alone, which does not say where the prompt ends; {LEGAL}"
        )
    else:
        named = ", ".join(f"`{name}`" for name in list(row)[:8]) or "nothing"
        raise TrajectoryError(f"{where}: has {named}; {LEGAL}")


def _is_long(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > MOST_NUMBERS
        and not any(isinstance(part, str | dict) for part in value)
    )


def _refuse_what_templates_add(row: Mapping[str, Any], where: str) -> None:
    """Of a conversation; text stands as it is, whatever else the row has."""
    if not any(isinstance(row.get(name), list) for name in OURS):
        return
    for name in _BESIDE_MESSAGES:
        # A list may be written as JSON.
        if row.get(name) not in (None, [], {}, "", "[]", "{}"):
            raise TrajectoryError(f"{where}: has `{name}`, {_NOT_RENDERED}")


def _of_dialogue(value: Any, where: str, columns: Columns) -> Iterator[Trajectory]:
    turns = _messages(value, f"{where}: messages")
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    if not answers:
        raise TrajectoryError(f"{where}: messages: holds no turn of the role `assistant`")
    if answers[0] == 0:
        raise TrajectoryError(
            f"{where}: messages: begins with a turn of the assistant, so nothing was asked"
        )
    for place in answers:
        yield Trajectory(turns[:place], turns[place].content, "given", None, where, columns)


def _of_pair(row: Mapping[str, Any], where: str, columns: Columns) -> Iterator[Trajectory]:
    if row.get("prompt") is not None:
        prompt = _prompt(row["prompt"], f"{where}: prompt")
        for side in ("chosen", "rejected"):
            yield _of_side(prompt, row[side], side, where, columns)
        return
    # Without a prompt both sides tell the whole conversation.
    sides = [row["chosen"], row["rejected"]]
    if any(isinstance(side, str) for side in sides):
        raise TrajectoryError(
            f"{where}: `chosen` and `rejected` are text without a `prompt`, which does not say "
            f"where the prompt ends; {LEGAL}"
        )
    chosen, rejected = (
        _messages(side, f"{where}: {name}")
        for name, side in zip(("chosen", "rejected"), sides, strict=True)
    )
    if min(len(chosen), len(rejected)) < 2 or chosen[:-1] != rejected[:-1]:
        raise TrajectoryError(
            f"{where}: `chosen` and `rejected` differ before their last turn, or have no other; "
            "give the turns that they share as `prompt`"
        )
    yield _of_side(chosen[:-1], [chosen[-1].__dict__], "chosen", where, columns)
    yield _of_side(rejected[:-1], [rejected[-1].__dict__], "rejected", where, columns)


def _of_side(
    prompt: str | tuple[Message, ...], value: Any, side: Any, where: str, columns: Columns
) -> Trajectory:
    return Trajectory(prompt, _completion(value, f"{where}: {side}"), side, None, where, columns)


def _prompt(value: Any, place: str) -> str | tuple[Message, ...]:
    if isinstance(value, str):
        return _text(value, place)
    turns = _messages(value, place)
    if not turns:
        raise TrajectoryError(f"{place}: an empty list; it is text or a list of messages")
    return turns


def _completion(value: Any, place: str) -> str:
    """The text of a completion: a text, or one turn of the assistant."""
    if isinstance(value, str):
        return _text(value, place)
    turns = _messages(value, place)
    if [turn.role for turn in turns] != ["assistant"]:
        roles = ", ".join(turn.role for turn in turns) or "none"
        raise TrajectoryError(f"{place}: turns {roles}; it is one turn of the assistant")
    return turns[0].content


def _messages(value: Any, place: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise TrajectoryError(f"{place}: {_kind(value)}; it is text or a list of messages")
    turns = []
    for number, turn in enumerate(value):
        role = turn.get("role") if isinstance(turn, dict) else None
        if not isinstance(turn, dict) or not isinstance(role, str):
            raise TrajectoryError(
                f"{place}[{number}]: {_kind(turn)}; a message has `role` and `content`"
            )
        for name in _BESIDE_CONTENT:
            if turn.get(name):
                raise TrajectoryError(f"{place}[{number}]: has `{name}`, {_NOT_RENDERED}")
        turns.append(Message(role, _content(turn.get("content"), f"{place}[{number}].content")))
    return tuple(turns)


def _content(value: Any, place: str) -> str:
    """A text, or the parts of one, as multimodal datasets write it."""
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, list):
        texts = [part.get("text") if isinstance(part, dict) else None for part in value]
        if all(isinstance(text, str) for text in texts):
            return _text("".join(str(text) for text in texts), place)
    raise TrajectoryError(f"{place}: {_kind(value)}; only text can be scored")


def _text(value: str, place: str) -> str:
    """The same text, which a tokenizer can read."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TrajectoryError(
            f"{place}: holds half a surrogate pair ({value[error.start]!a} at {error.start}), "
            "which is no text"
        ) from None
    return value


def _reward(row: Mapping[str, Any], where: str) -> float | None:
    """`reward`, or a yes/no `label` as KTO's trainer takes it."""
    for name in ("reward", "label"):
        value = row.get(name)
        if value is None:
            continue
        try:
            number = float(value) if isinstance(value, int | float) else math.nan
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise TrajectoryError(f"{where}: {name}: {_kind(value)}; it is a finite number")
        return number
    return None


def _kind(value: Any) -> str:
    if value is None:
        return "nothing is there"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
