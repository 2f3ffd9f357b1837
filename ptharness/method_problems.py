"""What is wrong with a method, with what it declares, or with what it found: half a sentence each.

All answer an empty string where nothing is. Types do not help here: a plugin need not be checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum

from ptharness.methods import Declaration, Evidence, Method
from ptharness.taxonomy import Interface, Provenance, Role

NAME_RULE = "up to 100 letters, digits, '.', '-' and '_', a letter or digit first"


def method_problem(method: Method) -> str:
    """The attribute that is missing or that no listing or manifest could show."""
    rules: dict[str, tuple[Callable[[object], bool], str]] = {
        "name": (_is_name, NAME_RULE),
        "title": (is_line, "a line of text"),
        "aliases": (_all(_is_name), f"a tuple of text, each {NAME_RULE}"),
        "options": (_all(is_line), "a tuple of lines of text"),
    }
    for attribute, (holds, rule) in rules.items():
        if not hasattr(method, attribute):
            return f"it has no `{attribute}`; give it {rule}"
        value = getattr(method, attribute)
        if not holds(value):
            return f"its `{attribute}` is {value!r}; it must be {rule}"
    return ""


def declaration_problem(declared: object) -> str:
    """The field whose value is of the wrong kind, with the legal ones."""
    if not isinstance(declared, Declaration):
        return f"{declared!r} is no Declaration"
    rules: dict[str, tuple[Callable[[object], bool], str]] = {
        "provenance": (_is_one(Provenance), f"one of {_members(Provenance)}"),
        "interface": (_is_one(Interface), f"one of {_members(Interface)}"),
        "roles": (_roles, f"a tuple of one or more of {_members(Role)}"),
        "reason": (is_line, "a line of text"),
        "sources": (_all(is_line), "a tuple of lines of text"),
    }
    for field, (holds, rule) in rules.items():
        value = getattr(declared, field)
        if not holds(value):
            return f"{field} is {value!r}; it must be {rule}"
    return ""


def evidence_problem(found: object, names: Iterable[str]) -> str:
    """Why this is no evidence for the method that goes by `names`."""
    if not isinstance(found, Evidence):
        return f"{found!r} is no Evidence"
    if found.method not in (legal := tuple(names)):
        return f"the evidence is for {found.method!r}; it must be for one of {', '.join(legal)}"
    if not _is_strength(found.strength):
        return f"the strength is {found.strength!r}; it must be a number above 0, at most 1"
    if not is_line(found.found):
        return f"found is {found.found!r}; it must be a line of text"
    return ""


def is_line(value: object) -> bool:
    """Whether it is one line of text with something on it."""
    return isinstance(value, str) and bool(value.strip()) and len(value.splitlines()) == 1


def _is_name(value: object) -> bool:
    from ptharness.manifest import NAME_PATTERN  # its pydantic is heavy for `ptharness --help`

    return isinstance(value, str) and len(value) <= 100 and bool(re.fullmatch(NAME_PATTERN, value))


def _is_strength(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _roles(value: object) -> bool:
    return bool(value) and _all(_is_one(Role))(value)


def _is_one(kind: type[StrEnum]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kind)


def _all(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, tuple) and all(holds(each) for each in value)


def _members(kind: type[StrEnum]) -> str:
    return ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
