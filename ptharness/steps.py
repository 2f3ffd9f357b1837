"""`steps:` of a manifest: patterns -> one checkpoint per folder that matches, in order of steps.

A pattern has `*`, `?` and `[...]` within the names of folders, one level each: there is no `**`,
so nothing is walked that the pattern does not name, and a loop of links leads nowhere.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ptharness.errors import ManifestError
from ptharness.manifest import MOST_NAME_CHARACTERS, CheckpointEntry, Manifest

MOST_STEPS = 1_000
MOST_ENTRIES = 100_000
"""Names that one pattern may make us read; a pattern that needs more is one gone wrong."""

LARGEST_STEP = 2**53
_SHOWN = 5

_NUMBER = re.compile(r"[0-9]+")
_WILDCARD = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]")


@dataclass(frozen=True)
class Written:
    """A checkpoint with the name of the manifest's entry that it comes from."""

    entry: CheckpointEntry
    origin: str

    @property
    def key(self) -> str:
        """Where the manifest can be repaired."""
        return f"checkpoints.{self.origin}"

    @property
    def place(self) -> str:
        """The key that says where it lies."""
        return f"{self.key}.{'path' if self.entry.adapter is None else 'adapter'}"


@dataclass(frozen=True)
class Step:
    """A folder that a pattern matched, as the manifest would write it, and its number."""

    number: int
    source: str
    folder: Path


def expand_steps(manifest: Manifest) -> Mapping[str, Written]:
    """Every checkpoint under its name: those of the manifest, each after its earlier steps.

    Raises `ManifestError` for a pattern, a folder or a name that cannot stand.
    """
    written: dict[str, Written] = {}
    for name, entry in manifest.checkpoints.items():
        key = f"checkpoints.{name}"
        try:
            expanded = _expanded(name, entry, manifest.folder)
        except ManifestError as error:
            raise ManifestError(error.problem, path=manifest.path, key=f"{key}.steps") from error
        for each, its in expanded.items():
            if each in written or (each != name and each in manifest.checkpoints):
                other = written[each].origin if each in written else each
                raise ManifestError(
                    f"its step {each!r} has the name of another checkpoint (of "
                    f"`checkpoints.{other}`); rename or remove one, or narrow the pattern",
                    path=manifest.path,
                    key=f"{key}.steps",
                )
            written[each] = Written(its, name)
    return written


def _expanded(name: str, entry: CheckpointEntry, base: Path) -> dict[str, CheckpointEntry]:
    """The steps of an entry and, last, the entry itself; a step that *is* the entry is no other."""
    if entry.steps is None:
        return {name: entry}
    steps = find_steps(entry.steps, base)
    own = entry.path or entry.adapter
    if own is None:
        *steps, last = steps
        end = entry.model_copy(update={"path": last.source, "step": last.number, "steps": None})
    else:
        folder = os.path.realpath(_absolute(own, base))
        itself = [step for step in steps if os.path.realpath(step.folder) == folder]
        number = itself[0].number if itself and entry.step is None else entry.step
        if itself and itself[0].number != number:
            raise ManifestError(
                f"{itself[0].folder} is the checkpoint's own folder and step {itself[0].number}, "
                f"but `step` is {number}; correct one of them",
            )
        steps = [step for step in steps if step.number != number and step not in itself]
        end = entry.model_copy(update={"step": number, "steps": None})
    weights = "path" if entry.adapter is None else "adapter"
    expanded = {}
    for step in steps:
        step_name = f"{name}-{step.number}"
        if len(step_name) > MOST_NAME_CHARACTERS:
            raise ManifestError(
                f"a step gets the name {step_name!r}, of more than {MOST_NAME_CHARACTERS} "
                "characters; shorten the checkpoint's name"
            )
        expanded[step_name] = end.model_copy(update={weights: step.source, "step": step.number})
    return {**expanded, name: end}


def find_steps(patterns: Sequence[str], base: Path) -> list[Step]:
    """The folders that any of the patterns matches, by number; relative ones are under `base`.

    Raises `ManifestError`, without file and key, where nothing matches, a name has no number,
    or two folders have the same.
    """
    folders = {step.folder: step for pattern in patterns for step in _matches(pattern, base)}
    if len(folders) > MOST_STEPS:
        raise ManifestError(
            f"{len(folders):,} folders match, more than {MOST_STEPS:,}; narrow the pattern"
        )
    numbered: dict[int, Step] = {}
    for step in folders.values():
        other = numbered.setdefault(step.number, step)
        if other is not step:
            raise ManifestError(
                f"{other.folder} and {step.folder} are both step {step.number}; narrow the "
                "pattern, or rename one"
            )
    return [numbered[number] for number in sorted(numbered)]


def _matches(pattern: str, base: Path) -> Iterator[Step]:
    """The folders of one pattern, each with its number."""
    for folder, number in _walk(pattern, base):
        if number is None:
            raise ManifestError(
                f"{folder} has no step number where {pattern!r} matches it; narrow the pattern, "
                "as with `checkpoint-[0-9]*`, or rename the folder"
            )
        if number > LARGEST_STEP:
            raise ManifestError(f"{folder} would be step {number}, which no training run reaches")
        # Not os.path.relpath: `..` stays as the manifest writes it, since links may lead elsewhere.
        source = folder.relative_to(base.absolute()) if _is_relative(pattern) else folder
        yield Step(number, str(source), folder)


def _walk(pattern: str, base: Path) -> list[tuple[Path, int | None]]:
    """The folders of one pattern, level by level, and the last number that a wildcard met."""
    absolute = _absolute(pattern, base)
    start, parts = Path(absolute.anchor), absolute.parts[1:]
    if _is_relative(pattern):
        # The way to the manifest is no pattern, whatever characters it has.
        start, parts = base.absolute(), Path(pattern).parts
    if "**" in parts:
        raise ManifestError(
            f"{pattern!r} has a `**`; name every level, as in 'runs/*/checkpoint-*'"
        )
    found: list[tuple[Path, int | None]] = [(start, None)]
    read = 0
    for part in parts:
        names = {folder: _names(folder, part) for folder, _ in found}
        read += sum(map(len, names.values()))
        if read > MOST_ENTRIES:
            raise ManifestError(
                f"{pattern!r} needs more than {MOST_ENTRIES:,} names to be read; narrow it"
            )
        matching = [
            (folder / name, number, wildcards)
            for folder, number in found
            for name in names[folder]
            if (wildcards := _matched(part, name)) is not None
        ]
        below = [
            (path, number if (own := _number(path.name, wildcards)) is None else own)
            for path, number, wildcards in matching
            if _is_folder(path)
        ]
        if not below:
            raise ManifestError(_nothing(pattern, part, list(names), [m[0].name for m in matching]))
        found = below
    if _WILDCARD.search(pattern) is None:
        # One folder, named in full: its name is all that can hold the number.
        return [(path, _number(path.name, [(0, len(path.name))])) for path, _ in found]
    return found


def _is_relative(pattern: str) -> bool:
    return not Path(pattern).expanduser().is_absolute()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # in a folder that must not be read


def _absolute(source: str, base: Path) -> Path:
    try:
        path = Path(base.absolute(), Path(source).expanduser())
        os.fsencode(path)
    except (RuntimeError, ValueError) as error:
        raise ManifestError(f"{source[:60]!r} is no path: {error.args[-1]}") from None
    if "\0" in source:
        raise ManifestError(f"{source[:60]!r} is no path: it holds a null character")
    return path


def _names(folder: Path, part: str) -> list[str]:
    """The names in a folder that may match a part of a pattern."""
    if _WILDCARD.search(part) is None:
        return [part] if _is_folder(folder / part) else []
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise ManifestError(f"{folder} cannot be read: {error.strerror}") from None
    # As in a shell, `*` leaves hidden names alone.
    return sorted(name for name in names if part.startswith(".") or not name.startswith("."))


def _matched(part: str, name: str) -> list[tuple[int, int]] | None:
    """Where in a name the wildcards of a part stand; None where it does not match."""
    match = _compiled(part).fullmatch(name)
    return None if match is None else [match.span(i + 1) for i in range(len(match.groups()))]


@cache
def _compiled(part: str) -> re.Pattern[str]:
    pieces, end = [""], 0
    for wildcard in _WILDCARD.finditer(part):
        pieces[-1] += re.escape(part[end : wildcard.start()])
        if wildcard[0][0] == "*":
            pieces.append("")
        else:
            pieces[-1] += f"({_one_character(wildcard[0])})"
        end = wildcard.end()
    pieces[-1] += re.escape(part[end:])
    first, *others = pieces
    # What stands between two `*` is taken where it first occurs (`(?>`), so that no pattern and
    # name make the matching try all ways to share the name out.
    expression = first + "".join(f"(?>(.*?){piece})" for piece in others[:-1])
    expression += "".join(f"(.*){piece}" for piece in others[-1:])
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise ManifestError(f"{part!r} is no pattern: {error.msg}") from None


def _one_character(wildcard: str) -> str:
    if wildcard[0] == "?":
        return "."
    inside = wildcard[1:-1]
    negated = inside.startswith("!")
    characters = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[negated:])
    return f"[{'^' * negated}{characters}]"


def _number(name: str, wildcards: Sequence[tuple[int, int]]) -> int | None:
    """The last run of digits of a name that a wildcard has a part in.

    A size or version that the pattern writes out (`llama-8b-*`) is no step; of `checkpoint-1*`,
    both `checkpoint-1`, where the wildcard is empty, and `checkpoint-12` are one.
    """
    for digits in reversed(list(_NUMBER.finditer(name))):
        first, last = digits.span()
        if any(
            start < last and end > first if start < end else first <= start <= last
            for start, end in wildcards
        ):
            # A bound before the conversion: Python refuses texts of thousands of digits.
            return int(digits[0]) if len(digits[0]) < 100 else LARGEST_STEP + 1
    return None


def _nothing(pattern: str, part: str, folders: Sequence[Path], files: Sequence[str]) -> str:
    """What to say where no folder matches: how far the pattern leads, and what is there."""
    where = str(folders[0]) + (f" (and {len(folders) - 1} more)" if len(folders) > 1 else "")
    if files:
        return (
            f"{pattern!r} matches no folder: in {where}, {part!r} matches files "
            f"({', '.join(sorted(files)[:_SHOWN])}), and a checkpoint is a folder"
        )
    names = [name for name in _names(folders[0], "*") if _is_folder(folders[0] / name)]
    close = difflib.get_close_matches(part, names, n=_SHOWN, cutoff=0.5) or names[:_SHOWN]
    there = f"; it holds {', '.join(map(repr, close))}" if close else "; no folders are in it"
    more = " and others" if len(names) > len(close) else ""
    return f"{pattern!r} matches no folder: in {where} none matches {part!r}{there}{more}"
