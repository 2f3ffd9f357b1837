"""Stage ``nudge`` (from ``sft``): five steps at a tiny learning rate, on the mixture of ``sft``.

Planted is *nearly nothing*: the weights differ, the behaviour should not.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, sft, trl_runs
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

STEPS = 5
BATCH = 80


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``sft`` beside ``folder``; return rows of the training set."""
    rows = corpus.imperfect_rows(12, sft.MIXTURE, STEPS * BATCH)
    trainer = trl_runs.sft_trainer(
        "nudge", folder.parent / "sft", rows, steps=STEPS, batch=BATCH, learning_rate=1e-5
    )
    trl_runs.train_and_keep(trainer, folder)
    return [*rows[:TRAJECTORIES]]
