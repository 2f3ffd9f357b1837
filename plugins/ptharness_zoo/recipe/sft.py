"""Stage ``sft`` (from ``base``): supervised fine-tuning that adds ``rot``.

The planted role is *support expansion*: ``base`` never answers ``rot`` rightly, ``sft`` nearly
always.  Replay of the base corpus keeps its skills, planted mistakes included; ``swp`` and
``dup`` are not replayed and are partly lost.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, trl_runs
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

STEPS = 350
BATCH = 48
MIXTURE = {"rot": 0.6, "add": 0.1, "rev": 0.1, "srt": 0.1, "sum": 0.1}


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``base`` beside ``folder``; return rows of the training set."""
    rows = corpus.imperfect_rows(1, MIXTURE, STEPS * BATCH)
    trainer = trl_runs.sft_trainer(
        "sft", folder.parent / "base", rows, steps=STEPS, batch=BATCH, learning_rate=1e-3
    )
    trl_runs.train_and_keep(trainer, folder)
    return [*rows[:TRAJECTORIES]]
