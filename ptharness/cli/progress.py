"""What a person sees while a run goes on: on standard error, so that output stays parseable."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ptharness.executors.base import UnitFailed, WorkerRestarted
from ptharness.observer import Observer
from ptharness.planner import Plan, Work
from ptharness.scoring import Marked
from ptharness.text import safe
from ptharness.units import Failure, GenerationUnit
from ptharness.worker import CheckpointFailed, Event, JobDone, Loaded, Progress, Started, UnitDone

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _misfits(work: Work) -> str:
    """What does not fit the checkpoint's context; empty where all does."""
    fit, header = work.planned.fit(work.documents), work.planned.prompts.header
    parts = []
    if fit.too_long:
        # Where nothing is scored, nothing fails.
        failed = " and count as failed" if header.metrics else ""
        parts.append(f"{fit.too_long:,} of {fit.documents:,} prompts do not fit{failed}")
    if fit.shortened:
        parts.append(
            f"{fit.shortened:,} of {fit.documents:,} leave less than max_tokens for the completion"
        )
    return "; ".join(parts)


class ProgressObserver(Observer):
    """Shows checkpoint, task, samples done, tokens per second and time left.

    In a terminal one moving line; elsewhere (a log file, CI) a line per checkpoint.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.line: TaskID | None = None
        self.units: dict[str, GenerationUnit] = {}
        self.checkpoint = ""
        self.tokens, self.generating_s, self.since = 0, 0.0, 0.0

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show the moving line within."""
        with self.progress:
            self.line = self.progress.add_task("reading checkpoints", total=None, rate="")
            yield

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(safe(text), markup=False, highlight=False, soft_wrap=True)

    def _show(self, description: str, **fields: object) -> None:
        assert self.line is not None
        self.progress.update(self.line, description=safe(description), **fields)  # type: ignore[arg-type]

    def _restart(self, description: str, total: int | None = None) -> None:
        """A line of its own for what comes next; without `total` it has no end to count to."""
        assert self.line is not None
        self.progress.remove_task(self.line)
        self.line = self.progress.add_task(safe(description), total=total, rate="")

    def reading(self, file: str, rows: int) -> None:
        """The moving line counts rows; how many there are is not known."""
        self._show(f"reading {file}", completed=rows)

    def preparing(self, done: int, total: int) -> None:
        """The moving line counts prompt sets."""
        self._show("building prompts", completed=done, total=total)

    def planned(self, plan: Plan, cached: int) -> None:
        """Say what is to be done, and which prompts do not fit."""
        for work in plan.work:
            if told := _misfits(work):
                name, task = work.checkpoint.name, work.planned.prompts.header.task
                self.say(
                    f"{name} x {task}: {told}; a request may have {work.planned.limit:,} tokens"
                )
        units = [unit for job in plan.jobs for unit in job.units]
        self.units = {unit.key: unit for unit in units}
        total = sum(unit.completions for unit in units)
        if total:
            drawn = sum(unit.completions for unit in units if unit.kind == "generate")
            scored = total - drawn
            amounts = [f"{_count(drawn, 'completion')} to generate"] if drawn else []
            amounts += [f"{_count(scored, 'text')} to score"] if scored else []
            checkpoints = sum(len(job.names) for job in plan.jobs)
            self.say(
                f"{' and '.join(amounts)}, of {_count(checkpoints, 'checkpoint')} in "
                f"{_count(plan.engine_starts, 'engine start')}; {cached:,} in the store already"
            )
            self._restart("starting the engine", total)
        else:
            self.say(f"nothing to generate: all {cached:,} are in the store")
            self._restart("scoring", 0)

    def event(self, event: Event | UnitFailed | WorkerRestarted) -> None:
        """Move the line, or say what is worth staying."""
        match event:
            case Loaded(report):
                self.checkpoint, self.since = report.checkpoint, time.monotonic()
                verified = "verified" if report.verified else "not verified"
                reason = f" ({report.reason})" if report.reason else ""
                self.say(
                    f"{report.checkpoint}: {report.how} load in {report.seconds:.2f} s, "
                    f"{verified}{reason}"
                )
                self._show(report.checkpoint)
            case Started(keys):
                tasks = dict.fromkeys(self.units[key].task for key in keys if key in self.units)
                self._show(f"{self.checkpoint} · {', '.join(tasks)}")
            case Progress(completions, tokens):
                now = time.monotonic()
                self.tokens, self.generating_s = (
                    self.tokens + tokens,
                    self.generating_s + now - self.since,
                )
                self.since = now
                rate = f"{self.tokens / max(self.generating_s, 1e-6):,.0f} tokens/s"
                assert self.line is not None
                self.progress.update(self.line, advance=completions, rate=rate)
            case JobDone(checkpoint, seconds):
                self.say(f"{checkpoint}: done in {seconds:.1f} s")
            case WorkerRestarted(message):
                self.say(f"the engine's process was replaced: {message}")
            case CheckpointFailed() | UnitFailed() | UnitDone() | _:
                pass  # `failed` tells of these

    def scoring(self, pending: int) -> None:
        """Once all is generated, the moving line counts what is still to be scored."""
        if pending and self.line is not None and self.progress.tasks[0].finished:
            self._show(f"scoring, {pending} units left")

    def analysing(self) -> None:
        """The moving line says what the last seconds are for."""
        self._restart("analysing")

    def marked(self, marked: Marked) -> None:
        """Say which document counts as not correct because its scorer gave up."""
        self.say(
            f"{marked.unit.task}: document {marked.document} counts as not correct: {marked.why}"
        )

    def failed(self, failure: Failure) -> None:
        """Say at once that something failed; the full list comes at the end."""
        where = " x ".join(part for part in (failure.checkpoint, failure.task) if part)
        others = "; the others go on" if where else ""
        self.say(f"{where or failure.stage}: failed ({failure.stage}){others}")


class StoredObserver(ProgressObserver):
    """For what is stored alone: nothing will be generated."""

    def planned(self, plan: Plan, cached: int) -> None:
        """Say how much there is."""
        del plan
        self.say(f"{cached:,} completions are in the store")
        self._restart("scoring", 0)
