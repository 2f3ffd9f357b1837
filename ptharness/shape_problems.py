"""pydantic's errors in our words: the dotted key, the value, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ptharness.errors import near_misses

Location = Sequence[str | int]


def shape_problem(
    error: ValidationError,
    legal_keys: Callable[[Location], Collection[str]],
    places: Mapping[str, Collection[str]],
) -> tuple[str, str]:
    """The dotted key and the problem of a validation error: its likeliest cause, in one line.

    `legal_keys` gives the keys that may stand at a place; `places` the keys known elsewhere.
    """
    details = error.errors(include_url=False)
    # A misspelt key is usually why another one is missing.
    first = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    location = [part for part in first["loc"] if part != "[key]"]
    if first["type"] == "extra_forbidden":
        problem = _unknown_key(location, legal_keys(location[:-1]), places)
    else:
        problem = _problem(first, location)
    return _dotted(location), problem + more


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _problem(detail: Any, location: Location) -> str:
    """What is wrong and what to write instead, for one of pydantic's errors."""
    kind, value = detail["type"], detail["input"]
    limits = detail.get("ctx", {})
    if kind == "missing":
        return f"is missing; add {_hint(location)}"
    if kind in ("string_pattern_mismatch", "string_too_long"):
        return (
            f"{_shown(value)} is not a legal name; use up to 100 letters, digits, '.', '-', '_', "
            "starting with a letter or digit"
        )
    if kind == "enum":
        legal = limits.get("expected", "").replace("'", "")
        return f"{_shown(value)} is not one of: {legal.replace(' or ', ', ')}"
    if kind in ("too_short", "string_too_short"):
        return "is empty; give at least one" if kind == "too_short" else "is empty text"
    for limit, words in _LIMITS.items():
        if limit in limits:
            return f"must be {words} {limits[limit]}, not {_shown(value)}"
    if kind.endswith("_type") or kind in _KINDS:
        return f"must be {_KINDS.get(kind, kind.removesuffix('_type'))}, not {kind_of(value)}"
    return f"{_shown(value)}: {detail['msg']}"


_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping (`key: value` lines)",
    "model_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
}


def _unknown_key(
    location: Location, legal: Collection[str], places: Mapping[str, Collection[str]]
) -> str:
    key = str(location[-1])
    for place, keys in places.items():
        if key in keys and key not in legal:
            return f"unknown key {key!r} here; it belongs under `{place}`"
    return f"unknown key {key!r}{near_misses(key, legal)}"


def _hint(location: Location) -> str:
    key = str(location[-1])
    hints = {
        "checkpoints": "`checkpoints:` with one `NAME: {path: FOLDER}` each",
        "evaluate": "`evaluate:` with `tasks: [NAME, ...]`",
        "tasks": "`tasks: [NAME, ...]` (`ptharness tasks` lists them)",
    }
    return hints.get(key, f"`{key}: NAME`")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def kind_of(value: Any) -> str:
    """A value as a person would call it: `the text 'x'`, `a list`."""
    if value is None:
        return "null (nothing)"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    word = "the text" if isinstance(value, str) else "the number"
    return f"{word} {_shown(value)}"
