"""This machine: one worker process, replaced when it dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ptharness.engines.base import EngineSettings
from ptharness.errors import StoreError
from ptharness.executors.base import Executor, UnitFailed, WorkerContext, WorkerRestarted
from ptharness.processes import Child
from ptharness.store import UnitStore
from ptharness.units import GenerationUnit, Job
from ptharness.worker import (
    CheckpointFailed,
    Event,
    JobDone,
    Started,
    UnitDone,
    WorkerFailed,
    serve,
)

TICK_S = 0.1
LOAD_ATTEMPTS = 2


class LocalExecutor(Executor):
    """Runs jobs one after another in one worker process on this machine."""

    name = "local"

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context)
        self.store = UnitStore(context.store)
        self.worker: Child | None = None
        self.settings: EngineSettings | None = None
        self.failed_loads: Counter[tuple[str, ...]] = Counter()

    def warm(self) -> None:
        """Start the worker: it imports the engine's library while the plan is being made."""
        if self.worker is None:
            self.worker = Child(
                serve,
                (self.context.engine, self.context.store),
                log_file=self.context.log_file,
                plugin_files=self.context.plugin_files,
            )
            self.settings = None

    def close(self) -> None:
        """End the worker, leaving it a moment to close its engine."""
        if self.worker:
            self.worker.stop(grace_s=5.0)
            self.worker = None

    def run(
        self, jobs: Sequence[Job], settings: EngineSettings
    ) -> Iterator[Event | UnitFailed | WorkerRestarted | None]:
        """Run the jobs in order; see `Executor.run`."""
        queue = deque(jobs)
        while queue:
            yield from self._run_job(queue.popleft(), settings, queue)

    def _run_job(
        self, job: Job, settings: EngineSettings, queue: deque[Job]
    ) -> Iterator[Event | UnitFailed | WorkerRestarted | None]:
        remaining = {unit.key: unit for unit in job.units}
        started: set[str] = set()
        failed: set[str] = set()
        for event in self._events(job, settings):
            if isinstance(event, WorkerFailed):
                self._discard_worker()
                if event.disk:
                    raise StoreError(event.message)
                # What it wrote and had no time to tell of is done.
                for key in [key for key in remaining if self.store.has("generation", key)]:
                    del remaining[key]
                    yield UnitDone(key, 0.0)
                in_flight = [unit for key, unit in remaining.items() if key in started]
                rest = [unit for key, unit in remaining.items() if key not in started]
                if not remaining:
                    return
                outcome, again = self._after_failure(job, event.message, in_flight, rest)
                queue.extendleft(reversed(again))
                yield outcome
                return
            if isinstance(event, Started):
                started.update(event.keys)
                self.failed_loads.pop(job.names, None)
            elif isinstance(event, UnitDone):
                remaining.pop(event.key, None)
            elif isinstance(event, CheckpointFailed):
                failed.add(event.checkpoint)
                remaining = {k: u for k, u in remaining.items() if u.checkpoint not in failed}
            yield event
            if isinstance(event, JobDone) or failed.issuperset(job.names):
                return

    def _after_failure(
        self, job: Job, message: str, in_flight: list[GenerationUnit], rest: list[GenerationUnit]
    ) -> tuple[UnitFailed | WorkerRestarted | CheckpointFailed, list[Job]]:
        """What to tell of a dead worker, and the jobs to do again.

        Units in flight are tried singly, once; a load is tried twice, of several checkpoints
        the second time singly.
        """
        message = f"{message} (log: {self.context.log_file})"
        left = replace(job, units=tuple(rest)).of({unit.checkpoint for unit in rest})
        if not in_flight:
            if len(left.checkpoints) > 1:
                return WorkerRestarted(message), left.singly()
            self.failed_loads[left.names] += 1
            if self.failed_loads[left.names] >= LOAD_ATTEMPTS:
                return CheckpointFailed(left.names[0], message), []
            return WorkerRestarted(message), [left]
        if job.careful:
            return UnitFailed(job.units[0], message), []
        again = [
            replace(job, units=(unit,), careful=True).of({unit.checkpoint}) for unit in in_flight
        ]
        if rest:
            again.append(left)
        return WorkerRestarted(message), again

    def _events(self, job: Job, settings: EngineSettings) -> Iterator[Event | None]:
        """What the worker says; its death as a `WorkerFailed`."""
        self.warm()
        assert self.worker is not None
        try:
            if self.settings is None:
                self.worker.connection.send(settings)
                self.settings = settings
            self.worker.connection.send(job)
            while True:
                if self.worker.connection.poll(TICK_S):
                    yield self.worker.connection.recv()
                elif self.worker.alive:
                    yield None
                elif not self.worker.connection.poll():
                    # Something that it started may still hold the other end of the pipe.
                    raise EOFError
        except (EOFError, OSError):
            yield WorkerFailed(f"the worker process {self.worker.how_it_ended()}")

    def _discard_worker(self) -> None:
        if self.worker:
            self.worker.stop()
            self.worker = None
