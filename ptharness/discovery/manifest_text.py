"""A discovered lineage as a manifest: what was decided, and in comments why and what was not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from ptharness.discovery.lineage import Answer, Discovery, Found
from ptharness.safe_yaml import YamlError, parse_yaml

UNDECIDED = "undecided"
"""The word that marks each question to the user."""

_QUESTION = re.compile(rf"^\s*# {UNDECIDED}, ", re.MULTILINE)

MOST_NAMES = 12

HEADER = """\
# Written by `ptharness discover`. Each comment says what a line rests on. Below a comment that says
# `{undecided}` stands one of several possible answers: correct the line (uncomment it first, where
# it is a comment itself) and remove the comment. Then:
#   ptharness check {file}
#   ptharness run {file}
"""

FOOTER = """\
evaluate:
  tasks:
{tasks}
  samples: 32
  temperature: 1.0
"""


def manifest_text(
    discovery: Discovery, name: str, folder: Path, file: str, tasks: Sequence[str]
) -> str:
    """The YAML of a manifest that will lie in `folder`; paths are relative to it where they can."""
    lines = [HEADER.format(undecided=UNDECIDED, file=_comment(file)).rstrip()]
    lines += [f"lineage: {_scalar(name)}", "checkpoints:"]
    for found in discovery.checkpoints:
        lines += _entry(found, folder)
    lines += [FOOTER.format(tasks="\n".join(f"  - {_scalar(task)}" for task in tasks)).rstrip()]
    if discovery.passed_over:
        lines += ["# Not taken:"]
        lines += [
            _comment(f"# - {_path(left.directory, folder)}: {left.reason}")
            for left in discovery.passed_over
        ]
    return "\n".join(lines) + "\n"


def questions_in(text: str) -> int:
    """How many questions of `discover` are still open in a manifest."""
    return len(_QUESTION.findall(text))


def _entry(found: Found, folder: Path) -> Iterator[str]:
    key = "adapter" if found.is_adapter else "path"
    # An adapter without a parent cannot stand in a manifest: it waits in a comment.
    indent = "  # " if found.is_adapter and not found.parents.names else "  "
    yield from (_comment(f"  # {note}") for note in found.notes)
    yield f"{indent}{_scalar(found.name)}:"
    yield f"{indent}  {key}: {_scalar(_path(found.directory, folder))}"
    yield from _stage(found) if found.parents.names else _no_stage(found)
    if found.replicate:
        yield f"{indent}  replicate: {found.replicate}"


def _stage(found: Found) -> Iterator[str]:
    parents = [_scalar(parent) for parent in found.parents.names]
    yield from _answer(
        "parent", parents[0] if len(parents) == 1 else f"[{', '.join(parents)}]", found.parents
    )
    yield from _answer("method", _scalar(found.method.names[0]), found.method)
    yield from _suggestion("teacher", found.teacher)
    if found.step is not None:
        yield f"    step: {found.step}"


def _no_stage(found: Found) -> Iterator[str]:
    """A root, or what would make it none, as comments."""
    if found.parents.is_decided and found.step is None:
        yield _comment(f"    # a root: {found.parents.why}")
        return
    if found.parents.is_decided:
        yield _comment(f"    # {found.parents.why}")
    else:
        yield from _suggestion("parent", found.parents)
        yield from _suggestion("method", found.method)
        yield from _suggestion("teacher", found.teacher)
    if found.step is not None:
        yield f"    # step: {found.step}"


def _suggestion(key: str, answer: Answer) -> Iterator[str]:
    """A question with a line to uncomment; nothing where there is no question to ask."""
    possible = (*answer.names, *answer.candidates)
    if answer.is_decided and not possible:
        return
    yield (
        _comment(f"    # {key}, from {answer.why}:")
        if answer.is_decided
        else _question("    ", key, answer)
    )
    yield f"    # {key}: {_scalar(possible[0]) if possible else 'NAME'}"


def _answer(key: str, value: str, answer: Answer) -> Iterator[str]:
    """A line of the manifest; a doubt stands above it, a reason behind it."""
    if answer.is_decided:
        yield _comment(f"    {key}: {value}  # {answer.why}")
        return
    yield _question("    ", key, answer)
    yield f"    {key}: {value}"


def _question(indent: str, key: str, answer: Answer) -> str:
    possible = [*answer.names, *answer.candidates]
    named = " or ".join(possible[:MOST_NAMES]) + (" or ..." if len(possible) > MOST_NAMES else "")
    asked = f"{key}: {named}" if named else f"no {key} found"
    return _comment(f"{indent}# {UNDECIDED}, {asked} ({answer.why})")


def _comment(line: str) -> str:
    """One line whatever it holds: names and cards are anybody's text."""
    return "".join(character if character.isprintable() else " " for character in line)


def _scalar(value: str) -> str:
    """A YAML scalar on one line that our own reader takes for this text, quoted where it has to be.

    PyYAML would leave `1e-5` bare, which YAML 1.2 and `parse_yaml` read as a number.
    """
    bare: str = yaml.safe_dump(value, allow_unicode=True, width=float("inf"))
    bare = bare.removesuffix("...\n").strip()
    try:
        is_safe = bare.isprintable() and parse_yaml(f"{bare}: {bare}") == {value: value}
    except YamlError:
        is_safe = False
    quoted: str = yaml.safe_dump(value, default_style='"', width=float("inf"))
    return bare if is_safe else quoted.strip()


def _path(directory: Path, folder: Path) -> str:
    """Relative to the manifest unless that climbs through the root of the file system."""
    relative = os.path.relpath(directory, folder.resolve())
    # `~x` would be taken for somebody's home.
    absolute = relative.count("..") > 3 or relative.startswith("~")
    return str(directory) if absolute else relative
