"""What an executor is: it runs jobs in workers and tells what happens as events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ptharness.engines.base import Engine, EngineSettings
from ptharness.units import GenerationUnit, Job
from ptharness.worker import Event


@dataclass(frozen=True)
class UnitFailed:
    """A unit that a worker died on twice, the second time alone."""

    unit: GenerationUnit
    message: str


@dataclass(frozen=True)
class WorkerRestarted:
    """A worker died; what was in flight is tried again, one unit at a time."""

    message: str


@dataclass(frozen=True)
class WorkerContext:
    """What every worker is started with."""

    engine: type[Engine]
    store: Path
    log_file: Path
    plugin_files: tuple[Path, ...] = ()


class Executor(ABC):
    """Base of every executor."""

    name: ClassVar[str]

    def __init__(self, context: WorkerContext) -> None:
        self.context = context

    def warm(self) -> None:
        """Start what is slow to start, before the jobs are known."""

    @abstractmethod
    def run(
        self, jobs: Sequence[Job], settings: EngineSettings
    ) -> Iterator[Event | UnitFailed | WorkerRestarted | None]:
        """Run all jobs, yielding events as they come and None at least every 0.2 s."""

    def close(self) -> None:
        """End all workers."""
