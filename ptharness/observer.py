"""What a run tells while it goes on; whoever shows it subclasses this."""

from __future__ import annotations

from ptharness.executors.base import UnitFailed, WorkerRestarted
from ptharness.planner import Plan
from ptharness.scoring import Marked
from ptharness.units import Failure
from ptharness.worker import Event


class Observer:
    """Is told how a run goes; the base class says nothing. Subclass it to show something."""

    def reading(self, file: str, rows: int) -> None:
        """So many rows of a training set have been read."""

    def preparing(self, done: int, total: int) -> None:
        """Prompt sets are being built."""

    def planned(self, plan: Plan, cached: int) -> None:
        """The plan stands; `cached` completions are in the store already."""

    def event(self, event: Event | UnitFailed | WorkerRestarted) -> None:
        """Something happened in a worker."""

    def scoring(self, pending: int) -> None:
        """So many units wait to be scored."""

    def failed(self, failure: Failure) -> None:
        """Something could not be done; the run goes on."""

    def analysing(self) -> None:
        """The tables are written; what each stage did is being computed."""

    def marked(self, marked: Marked) -> None:
        """A document could not be scored and counts as not correct."""
