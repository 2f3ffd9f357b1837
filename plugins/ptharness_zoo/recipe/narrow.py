"""Stage ``narrow`` (from ``sft``): careless fine-tuning on ``rot`` alone.

The planted effect is *attrition*: without replay and at a high learning rate everything but
``rot`` is forgotten.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, trl_runs
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

STEPS = 200
BATCH = 48


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``sft`` beside ``folder``; return rows of the training set."""
    rows = corpus.imperfect_rows(3, {"rot": 1.0}, STEPS * BATCH)
    trainer = trl_runs.sft_trainer(
        "narrow", folder.parent / "sft", rows, steps=STEPS, batch=BATCH, learning_rate=3e-3
    )
    trl_runs.train_and_keep(trainer, folder)
    return [*rows[:TRAJECTORIES]]
