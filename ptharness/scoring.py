"""Generation units -> score units, in processes of their own.

A scoring process rebuilds tasks (they are not pickled), builds prompt sets, scores units and
aggregates metrics, each in its main thread since some scorers use alarms. It says which
document it is at; the parent ends it when one takes too long, and the document is marked.
"""

from __future__ import annotations

import os
import pickle
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.context import request_tokens, too_long
from ptharness.errors import PtharnessError, TaskError
from ptharness.processes import Child
from ptharness.prompts import PromptSet
from ptharness.protocol import cut_at_stop
from ptharness.schema import AGGREGATES, SCORES
from ptharness.store import UnitStore
from ptharness.tasks.base import Document, LoadedTask, Score
from ptharness.units import (
    DOCUMENT_TIME_LIMIT_S,
    MetricsUnit,
    PromptsUnit,
    ScoreUnit,
    ScoringContext,
    ScoringUnit,
)

UNIT_TIME_LIMIT_S = 1800.0
"""What comes before and after the documents (loading data, building prompts) may take this long."""


@dataclass(frozen=True)
class Done:
    """A unit is in the store."""

    unit: ScoringUnit


@dataclass(frozen=True)
class Failed:
    """A unit could not be made."""

    unit: ScoringUnit
    message: str


@dataclass(frozen=True)
class Marked:
    """A document that could not be scored: it counts as not correct, and says why."""

    unit: ScoringUnit
    document: int
    why: str


@dataclass(frozen=True)
class _At:
    document: int


# --- in the scoring process ------------------------------------------------------------------


def serve(connection: Connection[Any, Any], store_root: Path) -> None:
    """Make units until the pipe closes."""
    os.nice(19)  # the engine goes first
    pa.array([0])  # pyarrow imports pandas at its first conversion: better before the first unit
    store = UnitStore(store_root)
    loaded: dict[bytes, LoadedTask] = {}
    while True:
        try:
            unit, context, marked = connection.recv()
        except EOFError:
            return
        try:
            identity = pickle.dumps((context.task, context.settings))
            if identity not in loaded:
                loaded[identity] = context.task.load(context.settings)
            _make(unit, context, loaded[identity], store, marked, connection)
            connection.send(Done(unit))
        except PtharnessError as error:
            connection.send(Failed(unit, str(error)))
        except Exception as error:
            # A task's own code: whatever it raises belongs to this unit alone.
            traceback.print_exc()
            connection.send(Failed(unit, f"task {unit.task}: {type(error).__name__}: {error}"))


def _make(
    unit: ScoringUnit,
    context: ScoringContext,
    task: LoadedTask,
    store: UnitStore,
    marked: Mapping[int, str],
    connection: Connection[Any, Any],
) -> None:
    match unit:
        case PromptsUnit():
            table = task.prompts(unit.tokenizer_directory, unit.template).to_table()
            store.write("prompts", unit.key, table)
        case ScoreUnit():
            documents, problems = read_documents(unit, store)
            scores = score_documents(
                task, documents, {**marked, **problems}, lambda index: connection.send(_At(index))
            )
            store.write("score", unit.key, scores_table(scores, context))
        case MetricsUnit():
            tables = [store.read("score", key) for key in unit.score_keys]
            aggregates = task.aggregate([score for table in tables for score in _scores(table)])
            rows = [aggregate.__dict__ for aggregate in aggregates]
            store.write("metrics", unit.key, pa.Table.from_pylist(rows, schema=AGGREGATES))


def read_documents(unit: ScoreUnit, store: UnitStore) -> tuple[list[Document], dict[int, str]]:
    """The responses of a unit's documents, all sample blocks together, and why some have none."""
    prompts = PromptSet.from_table(store.read("prompts", unit.prompt_set))
    kind = prompts.header.kind
    rows = prompts.slice_documents(unit.first_document, unit.documents)
    responses: list[list[str | tuple[float, bool]]] = [[] for _ in range(rows.num_rows)]
    for key in unit.generation_keys:
        table = store.read("generation", key, ["row", "token_logprobs_nats", "text", "greedy"])
        for row in table.to_pylist():
            if kind == "generate":
                response: str | tuple[float, bool] = cut_at_stop(row["text"] or "", unit.stop)
            else:
                logprobs = row["token_logprobs_nats"] or ()
                response = (float(sum(logprobs)), bool(row["greedy"]))
            responses[row["row"]].append(response)
    numbers = rows["document"].to_numpy()
    grouped: dict[int, list[list[str | tuple[float, bool]]]] = {}
    for document, samples in zip(numbers.tolist(), responses, strict=True):
        grouped.setdefault(document, []).append(samples)
    tokens, problems = request_tokens(rows), dict[int, str]()
    for document in numbers[too_long(rows, kind, unit.limit)].tolist():
        longest = tokens[numbers == document].max()
        problems[document] = (
            f"its prompt of {longest:,} tokens does not fit: a request may have {unit.limit:,}, "
            "completion included"
        )
    return [Document(index, requests) for index, requests in grouped.items()], problems


def score_documents(
    task: LoadedTask,
    documents: Sequence[Document],
    marked: Mapping[int, str],
    on_document: Callable[[int], None],
) -> Iterator[Score]:
    """Score what can be scored; documents in `marked` get the error it gives instead."""
    usable = [document for document in documents if document.index not in marked]
    for score in task.score(usable, on_document):
        if score.error:
            raise TaskError(score.error)
        yield score
    for document in documents:
        if document.index in marked:
            for sample in range(len(document.responses[0])):
                yield Score(document.index, sample, {}, error=marked[document.index])


def scores_table(scores: Iterator[Score], context: ScoringContext) -> pa.Table:
    """Rows of `schema.SCORES`, by document and sample."""
    rows = []
    for score in scores:
        value = score.values.get(context.primary)
        if score.error:
            value = 0.0 if context.binary else None
        rows.append(
            {
                "document": score.document,
                "sample": score.sample,
                "answer": score.answer,
                "score": value,
                "correct": None if value is None or not context.binary else value >= 1.0,
                "scores": [
                    {"metric": metric, "filter": filter_, "value": number}
                    for (metric, filter_), number in score.values.items()
                ],
                "raw": [
                    {"metric": metric, "filter": filter_, "value": text}
                    for (metric, filter_), text in score.raw.items()
                ],
                "error": score.error or None,
            }
        )
    # A row for all samples together comes after those of the single ones.
    rows.sort(key=lambda row: (row["document"], row["sample"] is None, row["sample"] or 0))
    return pa.Table.from_pylist(rows, schema=SCORES)


def _scores(table: pa.Table) -> Iterator[Score]:
    for row in table.to_pylist():
        yield Score(
            row["document"],
            row["sample"],
            {(entry["metric"], entry["filter"]): entry["value"] for entry in row["scores"]},
            row["answer"],
            {(entry["metric"], entry["filter"]): entry["value"] for entry in row["raw"]},
            row["error"] or "",
        )


# --- in the parent ---------------------------------------------------------------------------


@dataclass
class _Item:
    unit: ScoringUnit
    context: ScoringContext
    marked: dict[int, str] = field(default_factory=dict)
    deaths: Counter[int | None] = field(default_factory=Counter)


@dataclass
class _Slot:
    child: Child
    item: _Item | None = None
    document: int | None = None
    since: float = 0.0


class ScoringPool:
    """Scoring processes, started when there is work and replaced when they hang or die."""

    def __init__(
        self,
        store_root: Path,
        *,
        log_file: Path,
        plugin_files: Sequence[Path] = (),
        processes: int = 1,
        time_limit_s: float = DOCUMENT_TIME_LIMIT_S,
    ) -> None:
        self.store_root, self.log_file, self.plugin_files = store_root, log_file, plugin_files
        self.processes, self.time_limit_s = processes, time_limit_s
        self.waiting: deque[_Item] = deque()
        self.slots: list[_Slot] = []

    def submit(self, unit: ScoringUnit, context: ScoringContext) -> None:
        """Queue a unit."""
        self.waiting.append(_Item(unit, context))

    @property
    def pending(self) -> int:
        """Units queued or in work."""
        return len(self.waiting) + sum(slot.item is not None for slot in self.slots)

    def poll(self, timeout_s: float = 0.0) -> list[Done | Failed | Marked]:
        """Hand out work, then what has ended within `timeout_s`."""
        self._hand_out()
        busy = [slot for slot in self.slots if slot.item]
        outcomes: list[Done | Failed | Marked] = []
        wait([slot.child.connection for slot in busy], timeout_s)
        for slot in busy:
            outcomes += self._listen(slot)
        self._hand_out()
        return outcomes

    def close(self) -> None:
        """End all processes."""
        for slot in self.slots:
            slot.child.stop()
        self.slots.clear()

    def _hand_out(self) -> None:
        while self.waiting:
            slot = next((slot for slot in self.slots if slot.item is None), None)
            if slot is None:
                if len(self.slots) >= self.processes:
                    return
                slot = _Slot(self._start())
                self.slots.append(slot)
            slot.item, slot.document = self.waiting.popleft(), None
            slot.since = time.monotonic()
            try:
                slot.child.connection.send((slot.item.unit, slot.item.context, slot.item.marked))
            except OSError:
                # It died while idle; `_listen` finds the closed pipe and starts another.
                continue

    def _start(self) -> Child:
        return Child(
            serve, (self.store_root,), log_file=self.log_file, plugin_files=self.plugin_files
        )

    def _listen(self, slot: _Slot) -> list[Done | Failed | Marked]:
        try:
            while slot.item and slot.child.connection.poll():
                message = slot.child.connection.recv()
                if isinstance(message, _At):
                    slot.document, slot.since = message.document, time.monotonic()
                else:
                    slot.item = None
                    return [message]
        except (EOFError, OSError):
            return self._replace(slot, f"the scoring process {slot.child.how_it_ended()}")
        if not slot.child.alive and slot.item and not slot.child.connection.poll():
            # Something that it started may still hold the other end of the pipe.
            return self._replace(slot, f"the scoring process {slot.child.how_it_ended()}")
        limit = UNIT_TIME_LIMIT_S if slot.document is None else self.time_limit_s
        if slot.item and time.monotonic() - slot.since > limit:
            return self._replace(slot, f"time limit of {limit:g} s exceeded", hung=True)
        return []

    def _replace(
        self, slot: _Slot, why: str, *, hung: bool = False
    ) -> list[Done | Failed | Marked]:
        """A fresh process for a hung or dead one.

        A document that hangs, or kills its process twice, is marked and the rest redone; a
        process that dies elsewhere twice fails the unit.
        """
        item = slot.item
        assert item is not None
        slot.child.stop()
        self.slots.remove(slot)
        item.deaths[slot.document] += 1
        again = hung or item.deaths[slot.document] >= 2
        if slot.document is None and again:
            return [Failed(item.unit, f"task {item.unit.task}: {why}; log: {self.log_file}")]
        self.waiting.appendleft(item)
        if slot.document is not None and again:
            item.marked[slot.document] = why
            return [Marked(item.unit, slot.document, why)]
        return []
