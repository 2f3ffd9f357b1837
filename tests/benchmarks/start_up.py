"""How long one waits before anything happens: listing tasks, and a run by a task's name.

Beside each command of ours stands lm-eval's for the same. No model takes part: ours runs with
the fake engine, lm-eval with its `dummy` model, on one document. Medians of three.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import yaml
from ptharness_tasks import TASKS as FOLDER
from ptharness_zoo import CHECKPOINTS

from tests.benchmarks import common

ROUNDS = 3
TASK = "arith_add"


def main() -> str:
    """Time all commands and return the figures as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = [sys.executable, "-m", "ptharness"]
        theirs = [sys.executable, "-m", "lm_eval"]
        manifest = write_manifest(folder)
        by_name = [*ours, "run", str(manifest), "--limit", "1", "-q", "-o"]
        rows = [
            (
                "list the tasks",
                median([*ours, "tasks"]),
                median([*theirs, "ls", "tasks"]),
            ),
            (
                "run a task by name, for the first time",
                statistics.median(
                    timed([*by_name, str(folder / f"out{number}")]) for number in range(ROUNDS)
                ),
                median(
                    [
                        *(*theirs, "run", "--model", "dummy", "--tasks", TASK, "--limit", "1"),
                        *("--include_path", str(FOLDER / "arith")),
                    ]
                ),
            ),
            ("the same again", median([*by_name, str(folder / "out0")]), None),
        ]
    lines = [
        f"### Start-up ({common.machine()})",
        "",
        "| | ptharness s | lm_eval s |",
        "|---|---|---|",
        *(
            f"| {label} | {mine:.1f} | {'' if other is None else f'{other:.1f}'} |"
            for label, mine, other in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def write_manifest(folder: Path) -> Path:
    """One checkpoint, one task by its name, the fake engine."""
    path = folder / "one.yaml"
    manifest = {
        "lineage": "one",
        "checkpoints": {"sft": {"path": str(CHECKPOINTS / "sft")}},
        "evaluate": {"tasks": [TASK]},
        "engine": {"name": "fake"},
    }
    path.write_text(yaml.safe_dump(manifest))
    return path


def median(words: list[str]) -> float:
    """Seconds of a command, the median of three."""
    return statistics.median(timed(words) for _ in range(ROUNDS))


def timed(words: list[str]) -> float:
    """Seconds of a command."""
    began = time.perf_counter()
    common.run(words, cwd=FOLDER / "arith")
    return time.perf_counter() - began


if __name__ == "__main__":
    print(main())
