"""The process that holds an engine and generates units.

It takes jobs (checkpoints and their units) from a pipe and answers with events. It writes each
finished unit itself; a crash loses only the units that were in flight, which it named before.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, zip_longest
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from ptharness.engines.base import Engine, EngineSettings, Generated, LoadReport, Scored
from ptharness.errors import CheckpointError, PtharnessError, StoreError
from ptharness.flight import Flight
from ptharness.lineage import Checkpoint
from ptharness.prompts import Kind
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
    """A checkpoint of the job cannot be evaluated; if it was the last one, the job is over."""

    checkpoint: str
    message: str


@dataclass(frozen=True)
class JobDone:
    """The job is finished; `seconds` of it were generation. `checkpoint`: or several names."""

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
        """Load the job's checkpoints and generate their units; every outcome is an event."""
        at_once = self.engine.capabilities.side_by_side
        seconds, loaded = 0.0, []
        try:
            for part in [job] if at_once > 1 else job.singly():
                names = self._load(part)
                begun = time.monotonic()
                for scored in (False, True):
                    units = [u for u in part.of(names).units if (u.kind != "generate") == scored]
                    if units:
                        self._run_units(_in_turn(units, at_once), begun, careful=job.careful)
                seconds += time.monotonic() - begun
                loaded += names
        except Exception as error:
            _fail(self.connection, error)
        if loaded:
            self.connection.send(JobDone(", ".join(loaded), seconds))

    def _load(self, job: Job) -> list[str]:
        """The names of the job's checkpoints that are in the engine now."""
        try:
            outcomes = self._load_all(job.checkpoints)
        except CheckpointError as error:
            outcomes = [error] * len(job.checkpoints)
        loaded = []
        for name, outcome in zip(job.names, outcomes, strict=True):
            if isinstance(outcome, CheckpointError):
                self.connection.send(CheckpointFailed(name, str(outcome)))
            else:
                self.connection.send(Loaded(outcome))
                loaded.append(name)
        return loaded

    def _load_all(
        self, checkpoints: Sequence[Checkpoint]
    ) -> Sequence[LoadReport | CheckpointError]:
        capabilities = self.engine.capabilities
        if checkpoints[0].adapter and not capabilities.adapters:
            return [
                CheckpointError(
                    f"{one.adapter}: engine {self.engine.name!r} serves no adapters; merge it into "
                    "its base and give the merged folder as its path, or use the vllm engine"
                )
                for one in checkpoints
            ]
        if checkpoints[0].adapter and capabilities.side_by_side > 1:
            return self.engine.load_adapters(checkpoints)
        return [self.engine.load(one) for one in checkpoints]

    def _run_units(self, units: Sequence[GenerationUnit], begun: float, *, careful: bool) -> None:
        flight = Flight(self.store, units, self.engine.capabilities.window, self._started)
        writes: list[Future[str]] = []
        reported = time.monotonic()
        for result in self._results(flight, units[0].kind, careful=careful):
            flight.add(result)
            writes += [self.writer.submit(self._write, *done) for done in flight.pop_finished()]
            now = time.monotonic()
            if now - reported > PROGRESS_INTERVAL_S:
                self.connection.send(Progress(*flight.pop_progress()))
                reported, writes = now, self._report_written(writes, begun)
        writes += [self.writer.submit(self._write, *done) for done in flight.pop_finished()]
        self.connection.send(Progress(*flight.pop_progress()))
        for write in writes:
            self.connection.send(UnitDone(write.result(), time.monotonic() - begun))

    def _results(
        self, flight: Flight, kind: Kind, *, careful: bool
    ) -> Iterator[Generated | Scored]:
        """The engine's results; where it died before, of a few requests at a time."""
        run: Any = self.engine.generate if kind == "generate" else self.engine.score
        requests = flight.requests()
        if not careful:
            yield from run(requests)
            return
        while few := list(islice(requests, CAREFUL_REQUESTS)):
            yield from run(few)

    def _started(self, units: Sequence[GenerationUnit]) -> None:
        self.connection.send(Started(tuple(unit.key for unit in units)))

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


def _in_turn(units: Sequence[GenerationUnit], at_once: int) -> list[GenerationUnit]:
    """Units of up to `at_once` checkpoints in turn, so that an engine has all of them to do."""
    queues: dict[str, list[GenerationUnit]] = {}
    for unit in units:
        queues.setdefault(unit.checkpoint, []).append(unit)
    waiting = list(queues.values())
    return [
        unit
        for first in range(0, len(waiting), at_once)
        for turn in zip_longest(*waiting[first : first + at_once])
        for unit in turn
        if unit is not None
    ]
