"""What a results folder says of single items: names as people type them in, rows as values out.

Only the files that hold an item are read, and neither pandas nor the analysis is imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, TypeAlias

from ptharness.errors import ResultsError, near_misses
from ptharness.publish.files import samples_file
from ptharness.report.tables import Tables
from ptharness.results import Results

Row: TypeAlias = dict[str, Any]

DOCUMENT_COLUMNS = ("task", "item", "cluster", "prompt", "gold", "metadata")
SAMPLE_COLUMNS = (
    "item",
    "sample",
    "prompt_digest",
    "completion",
    "finish_reason",
    "logprob_nats",
    "answer",
    "score",
    "correct",
    "scores",
    "choice_logprobs_nats",
    "error",
)

_MOST_NAMES_COMPARED = 5000
"""Near misses among more item names than that would take seconds."""


_ALIKE = ("completion", "finish_reason", "correct", "score", "error")


@dataclass(frozen=True)
class Equal:
    """Completions of one checkpoint for one item that are the same text, judged the same."""

    text: str
    count: int
    first: Row
    """The first of these samples."""


class ItemView:
    """The items of one results folder. Raises `ResultsError` for names that are not there."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.tables = Tables(results)

    @cached_property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints, parents first."""
        names = self.results.arrow("checkpoints", ["checkpoint"])["checkpoint"].to_pylist()
        return [str(name) for name in names]

    @cached_property
    def names(self) -> list[tuple[str, str]]:
        """Task and item of every document, in the order of the evaluation."""
        table = self.results.arrow("documents", ["task", "item"])
        return list(zip(table["task"].to_pylist(), table["item"].to_pylist(), strict=True))

    @cached_property
    def tasks(self) -> Counter[str]:
        """Every task and how many items it has."""
        return Counter(task for task, _ in self.names)

    @cached_property
    def evaluated(self) -> dict[str, list[str]]:
        """The checkpoints that have items of a task, in the lineage's order."""
        table = self.results.arrow("items", ["task", "checkpoint"])
        pairs = set(zip(table["task"].to_pylist(), table["checkpoint"].to_pylist(), strict=True))
        return {task: [c for c in self.checkpoints if (task, c) in pairs] for task in self.tasks}

    def described(self, task: str) -> Row:
        """What run.json says of a task: its kind, its primary metric and filter."""
        tasks = self.results.run.get("tasks")
        found = tasks.get(task) if isinstance(tasks, dict) else None
        return found if isinstance(found, dict) else {}

    def task(self, name: str) -> str:
        """The task of this name."""
        return _known(self.results, "task", name, self.tasks)

    def checkpoint(self, name: str) -> str:
        """The checkpoint of this name."""
        return _known(self.results, "checkpoint", name, self.checkpoints)

    def asked(self, task: str, names: Sequence[str] = ()) -> list[str]:
        """Those of these checkpoints (all, if none is named) that were evaluated on a task."""
        there = self.evaluated[task]
        for name in names:
            if self.checkpoint(name) not in there:
                raise ResultsError(
                    f"{self.results.path}: checkpoint {name!r} was not evaluated on task {task!r} "
                    f"(these were: {', '.join(there)})"
                )
        return list(dict.fromkeys(names)) or there

    def items(self, task: str) -> list[str]:
        """The items of a task, in the order of the evaluation."""
        return [item for of, item in self.names if of == task]

    def find(self, text: str, task: str | None = None) -> tuple[str, str]:
        """Task and item that `text` names: the item's index, its id, or how only one id begins."""
        names = [(of, item) for of, item in self.names if task in (None, of)]
        found = (
            [name for name in names if name[1] == text]
            or [name for name in names if text.isdecimal() and name[1].split("-")[0] == text]
            or [name for name in names if text and name[1].startswith(text)]
        )
        if len(found) == 1:
            return found[0]
        where = f"{self.results.path}: "
        if not found:
            raise ResultsError(where + self._no_item(text, task, names))
        tasks = list(dict.fromkeys(of for of, _ in found))
        if len(tasks) > 1:
            raise ResultsError(
                f"{where}{len(tasks)} tasks have an item {text!r}: {_some(tasks)}; "
                "name one with --task"
            )
        raise ResultsError(
            f"{where}{len(found)} items of task {tasks[0]!r} begin with {text!r}: "
            f"{_some([item for _, item in found])}; give more of it, or its index"
        )

    def _no_item(self, text: str, task: str | None, names: Sequence[tuple[str, str]]) -> str:
        legal = [item for _, item in names]
        close = near_misses(text, legal) if len(legal) <= _MOST_NAMES_COMPARED else ""
        if "legal:" in close:
            close = ""  # a list of ids helps nobody
        of = f"task {task!r}" if task else "any task"
        hint = "" if task is None else f"; it has {len(legal)}, {legal[0]} to {legal[-1]}"
        return f"no item {text!r} in {of}{close}{hint}; `ptharness show` with --task lists items"

    def documents(self, task: str, items: Collection[str]) -> dict[str, Row]:
        """Prompt, gold and the rest of some items of a task."""
        path = self.results.path / "documents.parquet"
        rows = self.tables.of_items(path, DOCUMENT_COLUMNS, items)
        return {row["item"]: row for row in rows if row["task"] == task}

    def counts(self, task: str) -> dict[tuple[str, str], Row]:
        """n, c and mean_score of every (checkpoint, item) of a task."""
        table = self.results.arrow("items", ["checkpoint", "item", "n", "c", "mean_score", "task"])
        found: dict[tuple[str, str], Row] = {}
        start = 0
        # A checkpoint's items of a task stand together. Arrow's own filters would import pandas.
        for name, run in groupby(table["task"].to_pylist()):
            length = sum(1 for _ in run)
            if name == task:
                for row in table.slice(start, length).drop_columns(["task"]).to_pylist():
                    found[row.pop("checkpoint"), row.pop("item")] = row
            start += length
        return found

    def samples(self, checkpoint: str, task: str, item: str) -> list[Row]:
        """A checkpoint's samples of an item in their order, those taken together last."""
        path = self.results.path / samples_file(checkpoint, task)
        if not path.is_file():
            raise ResultsError(f"{path}: missing; run the evaluation again, which writes it")
        rows = list(self.tables.of_items(path, SAMPLE_COLUMNS, {item}))
        return sorted(rows, key=lambda row: (row["sample"] is None, row["sample"] or 0))


def equal_completions(samples: Iterable[Row]) -> list[Equal]:
    """Completions by how often they came, the most frequent first."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in samples:
        if row["completion"] is not None:
            key = tuple(row[name] for name in _ALIKE)
            found.setdefault(key, []).append(row)
    groups = [Equal(rows[0]["completion"], len(rows), rows[0]) for rows in found.values()]
    return sorted(groups, key=lambda group: -group.count)


def _known(results: Results, what: str, name: str, legal: Collection[str]) -> str:
    if name in legal:
        return name
    close = near_misses(name, legal) or f" ({len(legal)} others are there)"
    raise ResultsError(f"{results.path}: no {what} {name!r}{close}")


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + " ..." * (len(names) > most)
