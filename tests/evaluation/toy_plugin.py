"""A plugin with a task that needs no lm-eval: quick runs, and scorers that misbehave on demand.

The task `toy` reads `toy.json` beside the manifest: how many documents, their prompts and gold
answers, and which of them hang, raise or kill the process that scores them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.errors import TaskError
from ptharness.fingerprint import digest
from ptharness.hookspecs import hookimpl
from ptharness.prompts import PromptSet, PromptSetHeader, Template
from ptharness.registry import Registry
from ptharness.schema import PROMPTS
from ptharness.tasks.base import (
    Aggregate,
    Document,
    Listing,
    LoadedTask,
    Score,
    Task,
    TaskProvider,
    TaskSettings,
)

METRIC = ("exact_match", "none")


@dataclass(frozen=True)
class ToyTask(Task):
    """Asks for the gold answer; `file` says how it behaves."""

    name: str
    file: Path

    @property
    def foreign_code(self) -> tuple[Path, ...]:
        return ()

    def inputs_digest(self, settings: TaskSettings) -> str:
        if not self.file.exists():
            raise TaskError(f"{self.file}: no such file")
        return digest(self.name, self.file.read_text(), settings)

    def load(self, settings: TaskSettings) -> LoadedTask:
        return LoadedToyTask(self.name, json.loads(self.file.read_text()))


class LoadedToyTask(LoadedTask):
    """The task in a scoring process."""

    def __init__(self, name: str, behaviour: dict[str, Any]) -> None:
        self.name, self.behaviour = name, behaviour
        self.gold = str(behaviour.get("gold", "42"))

    def prompts(self, tokenizer_directory: Path, template: Template) -> PromptSet:
        rows = []
        for index in range(self.behaviour.get("documents", 100)):
            text = self.behaviour.get("prompt", "question {}").format(index)
            if "lengths" in self.behaviour:
                text = "q" * self.behaviour["lengths"][index]
            rows.append(
                {
                    "document": index,
                    "request": 0,
                    "item": f"{index}-{digest(text)[:8]}",
                    "cluster": f"{index}-{digest(text)[:8]}",
                    "document_digest": digest(text, self.gold),
                    "prompt": text,
                    "prompt_token_ids": [ord(character) for character in text],
                    "gold": self.gold,
                }
            )
        header = PromptSetHeader(
            task=self.name,
            kind="generate",
            documents=len(rows),
            generation={"temperature": 1.0, "max_gen_toks": 16},
            metrics=(METRIC,),
            primary=METRIC,
            score_digest=digest(self.behaviour),
        )
        return PromptSet(header, pa.Table.from_pylist(rows, schema=PROMPTS))

    def score(
        self, documents: Sequence[Document], on_document: Callable[[int], None]
    ) -> Iterator[Score]:
        for document in documents:
            on_document(document.index)
            self._misbehave(document.index)
            for sample, text in enumerate(document.responses[0]):
                values = {METRIC: float(text == self.gold)}
                yield Score(document.index, sample, values, answer=str(text))

    def _misbehave(self, index: int) -> None:
        if index in self.behaviour.get("raise", []):
            raise ValueError(f"planted: document {index}")
        if index in self.behaviour.get("die", []):
            os._exit(9)
        died = Path(self.behaviour.get("die_once", "/"))
        if not died.exists():
            died.touch()
            os._exit(9)
        if index in self.behaviour.get("hang", []):
            time.sleep(600)

    def aggregate(self, scores: Sequence[Score]) -> list[Aggregate]:
        values = [score.values.get(METRIC, 0.0) for score in scores]
        return [Aggregate(*METRIC, sum(values) / len(values), None, 1)]


class ToyTasks(TaskProvider):
    """Finds `toy` and `toy_FILE` (which reads FILE.json)."""

    origin = "tests"

    def find(self, reference: str, folder: Path) -> Sequence[Task]:
        file = folder / f"{reference}.json"
        return [ToyTask(reference, file)] if reference.startswith("toy") else []

    def listings(self) -> Sequence[Listing]:
        return [Listing("toy", "task", self.origin)]


@hookimpl
def ptharness_register_tasks(registry: Registry) -> None:
    registry.tasks.add(ToyTasks())
