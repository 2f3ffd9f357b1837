"""Tasks that break one clause of the contract each, and some that keep it.

tests/test_task_testing.py runs the suite over them and checks which tests fail.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from ptharness.fingerprint import digest
from ptharness.hookspecs import hookimpl
from ptharness.prompts import PromptSet, PromptSetHeader, Template
from ptharness.registry import Registry
from ptharness.schema import PROMPTS
from ptharness.tasks.base import (
    Aggregate,
    Document,
    Group,
    Listing,
    LoadedTask,
    Score,
    Task,
    TaskProvider,
    TaskSettings,
)
from ptharness.testing import TaskContract

METRIC = ("exact_match", "none")
TURNS = itertools.count()


class Loaded(LoadedTask):
    """Three sums; keeps every clause."""

    def __init__(self, name: str) -> None:
        self.name = name

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "document": n,
                "request": 0,
                "item": f"{n}",
                "cluster": f"{n}",
                "document_digest": digest(n),
                "prompt": f"{n}+1=",
                "prompt_token_ids": [ord(c) for c in f"{n}+1="],
                "gold": f"{n + 1}",
                "metadata": "{}",
            }
            for n in range(3)
        ]

    def header(self) -> PromptSetHeader:
        return PromptSetHeader(self.name, "generate", 3, {}, (METRIC,), METRIC, score_digest="1")

    def prompts(self, tokenizer_directory: Path, template: Template) -> PromptSet:
        return PromptSet(self.header(), pa.Table.from_pylist(self.rows(), schema=PROMPTS))

    def score(
        self, documents: Sequence[Document], on_document: Callable[[int], None]
    ) -> Iterator[Score]:
        for document in documents:
            on_document(document.index)
            for sample, text in enumerate(document.responses[0]):
                yield self.score_of(document.index, sample, str(text))

    def score_of(self, index: int, sample: int, text: str) -> Score:
        right = text.encode("utf-8", "replace") == str(index + 1).encode()
        return Score(index, sample, {METRIC: float(right)}, answer="an answer")

    def aggregate(self, scores: Sequence[Score]) -> list[Aggregate]:
        values = [score.values.get(METRIC, 0.0) for score in scores]
        return [Aggregate(*METRIC, sum(values) / len(values), None, 1)]


class Sound(Task):
    """Keeps every clause."""

    heavy: type[Loaded] = Loaded

    def __init__(self, name: str) -> None:
        self.name = name

    def inputs_digest(self, settings: TaskSettings) -> str:
        return digest(self.name, settings)

    def load(self, settings: TaskSettings) -> LoadedTask:
        return self.heavy(self.name)


class MoodyDigest(Sound):
    """Nothing changed, and its digest did."""

    def inputs_digest(self, settings: TaskSettings) -> str:
        return digest(self.name, settings, next(TURNS))


class ForgetsSettings(Sound):
    """Prompts with examples would be taken for those without."""

    def inputs_digest(self, settings: TaskSettings) -> str:
        return digest(self.name)


class HeavyDigest(Sound):
    """Every command would import it."""

    def inputs_digest(self, settings: TaskSettings) -> str:
        import pandas  # noqa: F401

        return digest(self.name, settings)


class Unlisted(Sound):
    """Nobody learns its name."""


class FindsAnything(Sound):
    """Its provider takes every name for its own."""


class OthersInItsGroup(Sound):
    """Its group has tasks that the reference does not mean."""


class EmptyTag(Sound):
    """Nobody could ask for its tag."""

    tags = ("",)


class NoFolderName(Sound):
    """Its results could not be stored under its name."""


class _OtherRows(Loaded):
    def rows(self) -> list[dict[str, Any]]:
        return [{**row, "item": "same"} for row in super().rows()]


class OneItem(Sound):
    """All its documents have the same item."""

    heavy = _OtherRows


class _Backwards(Loaded):
    def rows(self) -> list[dict[str, Any]]:
        return super().rows()[::-1]


class Backwards(Sound):
    """Its documents are not in order."""

    heavy = _Backwards


class _Shuffles(Loaded):
    def rows(self) -> list[dict[str, Any]]:
        turn = next(TURNS)
        return [{**row, "prompt": f"{turn} {row['prompt']}"} for row in super().rows()]


class Shuffles(Sound):
    """Its prompts are others each time."""

    heavy = _Shuffles


class _OtherPrimary(Loaded):
    def header(self) -> PromptSetHeader:
        return replace(super().header(), primary=("acc", "none"))


class OtherPrimary(Sound):
    """Its primary metric is none of its own."""

    heavy = _OtherPrimary


class _Raises(Loaded):
    def score_of(self, index: int, sample: int, text: str) -> Score:
        text.encode()
        return super().score_of(index, sample, text)


class Raises(Sound):
    """A completion can end the scoring of all others."""

    heavy = _Raises


class _Silent(Loaded):
    def score(
        self, documents: Sequence[Document], on_document: Callable[[int], None]
    ) -> Iterator[Score]:
        return super().score(documents, lambda index: None)


class Silent(Sound):
    """Nobody notices where it hangs."""

    heavy = _Silent


class _FirstSample(Loaded):
    def score(
        self, documents: Sequence[Document], on_document: Callable[[int], None]
    ) -> Iterator[Score]:
        return (s for s in super().score(documents, on_document) if s.sample == 0)


class FirstSample(Sound):
    """It scores the first sample alone."""

    heavy = _FirstSample


class _Remembers(Loaded):
    seen = 0.0

    def score_of(self, index: int, sample: int, text: str) -> Score:
        self.seen += 1
        return Score(index, sample, {METRIC: self.seen})


class Remembers(Sound):
    """A score depends on how many there were before."""

    heavy = _Remembers


class _TooStrict(Loaded):
    def score_of(self, index: int, sample: int, text: str) -> Score:
        return Score(index, sample, {METRIC: 0.0})


class TooStrict(Sound):
    """Its right answers are wrong."""

    heavy = _TooStrict


class _Aggregates(Loaded):
    def aggregate(self, scores: Sequence[Score]) -> list[Aggregate]:
        return [replace(aggregate, metric="em") for aggregate in super().aggregate(scores)]


class AggregatesOthers(Sound):
    """It aggregates what it does not list."""

    heavy = _Aggregates


TASKS = (
    *(Sound, MoodyDigest, ForgetsSettings, HeavyDigest, Unlisted, FindsAnything),
    *(OthersInItsGroup, EmptyTag, NoFolderName, OneItem, Backwards, Shuffles, OtherPrimary, Raises),
    *(Silent, FirstSample, Remembers, TooStrict, AggregatesOthers),
)


class Provider(TaskProvider):
    """Finds one class of task, under its own name."""

    def __init__(self, task: type[Sound]) -> None:
        self.task, self.origin = task, f"tests of {task.__name__}"

    def find(self, reference: str, folder: Path) -> Sequence[Task]:
        name = "a task" if self.task is NoFolderName else self.task.__name__
        if reference == self.task.__name__ or self.task is FindsAnything:
            return [self.task(name)]
        return []

    def groups(self, reference: str, folder: Path) -> Sequence[Group]:
        if reference != self.task.__name__:
            return []
        others = ("other",) if self.task is OthersInItsGroup else ()
        return [Group("all", (self.find(reference, folder)[0].name, *others))]

    def listings(self) -> Sequence[Listing]:
        listing = Listing(self.task.__name__, "task", self.origin)
        return [] if self.task is Unlisted else [listing]


def _plugin(task: type[Sound]) -> ModuleType:
    module = ModuleType(f"plugin_{task.__name__.lower()}")

    @hookimpl
    def ptharness_register_tasks(registry: Registry) -> None:
        registry.tasks.add(Provider(task))

    module.ptharness_register_tasks = ptharness_register_tasks  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return module


class _Contract(TaskContract):
    def right(self, row: dict[str, Any]) -> str | None:
        return str(row["gold"])


for _task in TASKS:
    _name = f"Test{_task.__name__}"
    globals()[_name] = type(
        _name,
        (_Contract,),
        {"reference": _task.__name__, "plugin": _plugin(_task), "__module__": __name__},
    )
