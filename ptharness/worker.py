"""The process that holds an engine and generates units.

It takes jobs (a checkpoint and its units) from a pipe and answers with events. It writes each
finished unit itself; a crash loses only the units that were in flight, which it named before.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from ptharness.engines.base import (
    Completion,
    Engine,
    EngineSettings,
    Generated,
    GenerateRequest,
    LoadReport,
    Scored,
    ScoreRequest,
)
from ptharness.errors import CheckpointError, PtharnessError, StoreError
from ptharness.prompts import Kind, PromptSet
from ptharness.protocol import SAMPLE_BLOCK, derive_seed
from ptharness.schema import GENERATIONS
from ptharness.store import UnitStore
from ptharness.units import GenerationUnit, Job

PROGRESS_INTERVAL_S = 0.2
CAREFUL_REQUESTS = 4


@dataclass(frozen=True)
class Loaded:
    """A checkpoint is in the engine."""

    report: LoadReport


@dataclass(frozen=True)
class Started:
    """These units are in flight from now on."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """Completions and tokens since the last such event."""

    completions: int
    tokens: int


@dataclass(frozen=True)
class UnitDone:
    """A generation unit is in the store. `seconds` since the job began."""

    key: str
    seconds: float


@dataclass(frozen=True)
class CheckpointFailed:
    """The job's checkpoint cannot be evaluated; the worker is ready for the next job."""

    checkpoint: str
    message: str


@dataclass(frozen=True)
class JobDone:
    """The job is finished; `seconds` of it were generation."""

    checkpoint: str
    seconds: float


@dataclass(frozen=True)
class WorkerFailed:
    """The engine raised: the worker ends, and units in flight want another.

    `disk` says that writing failed instead, which no other worker would do better.
    """

    message: str
    disk: bool = False


Event = Loaded | Started | Progress | UnitDone | CheckpointFailed | JobDone | WorkerFailed


def serve(connection: Connection[Any, Any], engine_class: type[Engine], store: Path) -> None:
    """Run jobs until the pipe closes. The first message is the engine's settings."""
    try:
        engine_class.preload()
        # pyarrow imports pandas at its first conversion: better now than with requests waiting.
        pa.array([0])
        settings: EngineSettings = connection.recv()
        engine = engine_class(settings)
    except EOFError:
        return
    except Exception as error:
        _fail(connection, error)
    worker = Worker(engine, UnitStore(store), connection)
    try:
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            worker.run(job)
    finally:
        worker.close()


def _fail(connection: Connection[Any, Any], error: Exception) -> NoReturn:
    """Say what happened and end: an engine that raised is not to be trusted further."""
    handled = isinstance(error, PtharnessError)
    message = str(error) if handled else f"{type(error).__name__}: {error}"
    traceback.print_exc()
    connection.send(WorkerFailed(message, disk=isinstance(error, StoreError)))
    raise SystemExit(1)


class Worker:
    """One engine and the units it is asked for."""

    def __init__(self, engine: Engine, store: UnitStore, connection: Connection[Any, Any]) -> None:
        self.engine, self.store, self.connection = engine, store, connection
        # Writing is the disk's time, not the engine's.
        self.writer = ThreadPoolExecutor(max_workers=1)

    def close(self) -> None:
        """Finish writing, then give the engine's memory back."""
        self.writer.shutdown()
        self.engine.close()

    def run(self, job: Job) -> None:
        """Load the job's checkpoint and generate its units; every outcome is an event."""
        try:
            self.connection.send(Loaded(self.engine.load(job.checkpoint)))
        except CheckpointError as error:
            self.connection.send(CheckpointFailed(job.checkpoint.name, str(error)))
            return
        except Exception as error:
            _fail(self.connection, error)
        begun = time.monotonic()
        try:
            for kind in ("generate", "loglikelihood"):
                units = [unit for unit in job.units if unit.kind == kind]
                if units:
                    self._run_units(units, begun, careful=job.careful)
        except Exception as error:
            _fail(self.connection, error)
        self.connection.send(JobDone(job.checkpoint.name, time.monotonic() - begun))

    def _run_units(self, units: Sequence[GenerationUnit], begun: float, *, careful: bool) -> None:
        flight = _Flight(self.store, self.connection, units, self.engine.capabilities.window)
        writes: list[Future[str]] = []
        reported, completions, tokens = time.monotonic(), 0, 0
        for result in self._results(flight, units[0].kind, careful=careful):
            rows = flight.add(result)
            completions += len(rows)
            tokens += sum(len(row["token_ids"]) for row in rows)
            if (done := flight.pop_finished(result.index)) is not None:
                writes.append(self.writer.submit(self._write, *done))
            now = time.monotonic()
            if now - reported > PROGRESS_INTERVAL_S:
                self.connection.send(Progress(completions, tokens))
                reported, completions, tokens = now, 0, 0
                writes = self._report_written(writes, begun)
        self.connection.send(Progress(completions, tokens))
        for write in writes:
            self.connection.send(UnitDone(write.result(), time.monotonic() - begun))

    def _results(
        self, flight: _Flight, kind: Kind, *, careful: bool
    ) -> Iterator[Generated | Scored]:
        """The engine's results; where it died before, of a few requests at a time."""
        run: Any = self.engine.generate if kind == "generate" else self.engine.score
        requests = flight.requests()
        if not careful:
            yield from run(requests)
            return
        while few := list(islice(requests, CAREFUL_REQUESTS)):
            yield from run(few)

    def _report_written(self, writes: list[Future[str]], begun: float) -> list[Future[str]]:
        """Tell of finished writes (raising what they raised); what is left of the list."""
        for write in writes:
            if write.done():
                self.connection.send(UnitDone(write.result(), time.monotonic() - begun))
        return [write for write in writes if not write.done()]

    def _write(self, unit: GenerationUnit, rows: list[dict[str, Any]]) -> str:
        rows.sort(key=lambda row: (row["row"], row["sample"]))
        self.store.write("generation", unit.key, pa.Table.from_pylist(rows, schema=GENERATIONS))
        return unit.key


@dataclass
class _Pending:
    unit: GenerationUnit
    waiting: int
    rows: list[dict[str, Any]] = field(default_factory=list)


class _Flight:
    """Units in flight: their requests in, their finished rows out.

    Units are opened a pool at a time, the longest requests of a pool first; a pool is opened
    while the engine still works on the one before, so it neither drains at the end of a unit
    nor keeps all units open until the end.
    """

    def __init__(
        self,
        store: UnitStore,
        connection: Connection[Any, Any],
        units: Sequence[GenerationUnit],
        window: int,
    ) -> None:
        self.store, self.connection, self.window = store, connection, window
        self.units = units
        self.places: dict[int, tuple[_Pending, int, int]] = {}
        self.prompt_sets: dict[str, PromptSet] = {}

    def requests(self) -> Iterator[GenerateRequest | ScoreRequest]:
        """Every request of every unit, pool by pool."""
        index = 0
        for pool in _pools(self.units, self.window):
            self.connection.send(Started(tuple(unit.key for unit in pool)))
            requests: list[GenerateRequest | ScoreRequest] = []
            for unit in pool:
                pending = _Pending(unit, unit.rows)
                for row, request in enumerate(unit_requests(unit, self._prompts(unit), index)):
                    seed = request.seed if isinstance(request, GenerateRequest) else 0
                    self.places[index] = (pending, row, seed)
                    requests.append(request)
                    index += 1
            if pool[0].kind == "generate":
                requests.sort(key=_length, reverse=True)
            yield from requests

    def _prompts(self, unit: GenerationUnit) -> PromptSet:
        if unit.prompt_set not in self.prompt_sets:
            table = self.store.read("prompts", unit.prompt_set)
            self.prompt_sets[unit.prompt_set] = PromptSet.from_table(table)
        return self.prompt_sets[unit.prompt_set]

    def add(self, result: Generated | Scored) -> list[dict[str, Any]]:
        """Keep a result; its rows."""
        pending, row, seed = self.places[result.index]
        rows = _rows_of(result, row, pending.unit, seed)
        pending.rows += rows
        pending.waiting -= 1
        return rows

    def pop_finished(self, index: int) -> tuple[GenerationUnit, list[dict[str, Any]]] | None:
        """The unit and rows that request `index` completed, if it was the last one."""
        pending = self.places.pop(index)[0]
        return (pending.unit, pending.rows) if pending.waiting == 0 else None


def _pools(units: Iterable[GenerationUnit], window: int) -> Iterator[list[GenerationUnit]]:
    """Neighbouring units with about two windows of requests in each pool."""
    remaining = iter(units)
    while pool := list(islice(remaining, 1)):
        requests = pool[0].rows
        for unit in remaining:
            pool.append(unit)
            requests += unit.rows
            if requests >= 2 * window:
                break
        yield pool


def _length(request: GenerateRequest | ScoreRequest) -> int:
    assert isinstance(request, GenerateRequest)
    return len(request.prompt_token_ids) + request.sampling.max_tokens


def unit_requests(
    unit: GenerationUnit, prompts: PromptSet, first_index: int = 0
) -> Iterator[GenerateRequest | ScoreRequest]:
    """A unit's requests in row order, numbered from `first_index`, each with its own seed."""
    rows = prompts.slice_documents(unit.first_document, unit.documents)
    columns = ["prompt_token_ids", "continuation_token_ids", "prompt_digest", "occurrence"]
    values = zip(*(rows[name].to_pylist() for name in columns), strict=True)
    block = unit.first_sample // SAMPLE_BLOCK
    for index, (prompt, continuation, prompt_digest, occurrence) in enumerate(values, first_index):
        if unit.kind == "loglikelihood":
            yield ScoreRequest(index, tuple(prompt), tuple(continuation))
            continue
        seed = derive_seed(*unit.stream, prompt_digest, occurrence, block)
        yield GenerateRequest(
            index, tuple(prompt), unit.samples, seed, unit.sampling, unit.stop_token_ids
        )


def _rows_of(
    result: Generated | Scored, row: int, unit: GenerationUnit, seed: int
) -> list[dict[str, Any]]:
    """Rows of `schema.GENERATIONS`."""
    if isinstance(result, Scored):
        values = np.asarray(result.token_logprobs_nats, dtype=np.float32)
        return [
            {
                "row": row,
                "sample": 0,
                "token_ids": [],
                "token_logprobs_nats": values.tolist(),
                "greedy": result.greedy,
            }
        ]
    return [
        _completion_row(completion, row, unit.first_sample + j, seed)
        for j, completion in enumerate(result.completions)
    ]


def _completion_row(completion: Completion, row: int, sample: int, seed: int) -> dict[str, Any]:
    return {
        "row": row,
        "sample": sample,
        "token_ids": completion.token_ids,
        "token_logprobs_nats": completion.token_logprobs_nats,
        # A completion may hold half a surrogate pair; Arrow holds UTF-8 alone.
        "text": completion.text.encode("utf-8", "replace").decode(),
        "finish_reason": completion.finish_reason,
        "seed": seed,
    }
