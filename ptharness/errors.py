"""Every error that ptharness raises on purpose, and the exit code each ends with.

    PtharnessError
    ├── ManifestError      a manifest that cannot be read or resolved
    ├── PluginError        a plugin that cannot be loaded or breaks its contract
    ├── TaskError          a task that cannot be found, built or scored
    ├── CheckpointError    one checkpoint is unusable; the others go on
    ├── TrajectoryError    a training set that cannot be read, or a row of no known format
    ├── EngineError        an engine that cannot start or has died
    ├── StoreError         a unit or a table that cannot be read or written
    └── ResultsError       a results folder that cannot be opened or asked

The command line prints a `PtharnessError` as one line and leaves with its exit code; any
other exception is a bug and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class PtharnessError(Exception):
    """What went wrong, where, and what to do about it, in one line."""

    exit_code = 2


class ManifestError(PtharnessError):
    """A manifest that cannot be read or resolved.

    `path` is the file, `key` the dotted key in it.
    """

    def __init__(self, problem: str, *, path: Path | str | None = None, key: str = "") -> None:
        self.problem, self.path, self.key = problem, path, key
        where = ": ".join(str(part) for part in (path, key) if part)
        super().__init__(f"{where}: {problem}" if where else problem)


class PluginError(PtharnessError):
    """A plugin that cannot be loaded or breaks its contract."""


class TaskError(PtharnessError):
    """A task that cannot be found, built or scored."""


class CheckpointError(PtharnessError):
    """One checkpoint is unusable (unreadable, incomplete, non-finite); the others go on."""


class TrajectoryError(PtharnessError):
    """A training set that cannot be read, or a row of no known format; it names file and row."""


class EngineError(PtharnessError):
    """An engine that cannot start, or has died."""


class StoreError(PtharnessError):
    """A unit or a table that cannot be read or written."""


class ResultsError(PtharnessError):
    """A results folder that cannot be opened, or a table or column that it lacks."""


def near_misses(wrong: str, legal: Iterable[str], *, most: int = 3) -> str:
    """A remedy for an unknown name: ` (did you mean 'dpo'?)`, or the legal names if few.

    >>> near_misses("dpoo", ["dpo", "sft"])
    " (did you mean 'dpo'?)"
    """
    names = sorted(set(legal))
    folded = {name.casefold().replace("-", "_"): name for name in reversed(names)}
    close = [
        folded[name]
        for name in difflib.get_close_matches(
            wrong.casefold().replace("-", "_"), folded, n=most, cutoff=0.6
        )
    ]
    if close:
        return f" (did you mean {' or '.join(repr(name) for name in close)}?)"
    if names and len(names) <= 40:
        return f" (legal: {', '.join(names)})"
    return ""
