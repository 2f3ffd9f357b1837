"""The child process that trains one stage: ``python -m ptharness_zoo.recipe.one_stage STAGE``.

It works in the current folder, where ``training.py`` has put copies of the checkpoints that the
stage starts from, and leaves the checkpoint ``STAGE`` and ``STAGE.jsonl.gz`` there.
"""

from __future__ import annotations

import gzip
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptharness_zoo.recipe.corpus import Trajectory


def write_trajectories(rows: list[Trajectory], path: Path) -> None:
    """Write rows as compressed JSON lines, without the time and name that gzip would note."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
        compressed.write(lines.encode())


def main(stage: str) -> None:
    """Train ``stage`` on one thread, which the results depend on."""
    import torch

    torch.set_num_threads(1)
    rows = importlib.import_module(f"ptharness_zoo.recipe.{stage}").train(Path(stage))
    if rows:
        write_trajectories(rows, Path(f"{stage}.jsonl.gz"))


if __name__ == "__main__":
    main(sys.argv[1])
