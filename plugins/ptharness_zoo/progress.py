"""What a person sees while the zoo is trained: on standard error, a line for each stage."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ptharness_zoo.stages import Stage
from ptharness_zoo.training import Watcher


class ProgressWatcher(Watcher):
    """In a terminal a moving line for each running stage, and one that stays when it is done."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.lines: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressWatcher:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def started(self, stage: Stage) -> None:
        """A moving line says about how long it will take."""
        text = f"{stage.name:<12} {stage.trainer}, about {stage.seconds} s"
        self.lines[stage.name] = self.progress.add_task(text, total=None)

    def finished(self, stage: Stage, seconds: float) -> None:
        """A line that stays."""
        self.progress.remove_task(self.lines.pop(stage.name))
        self.console.print(f"{stage.name:<12} {seconds:5.0f} s  {stage.planted}", markup=False)
