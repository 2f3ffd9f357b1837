"""Stage ``narrow`` (from ``sft``): careless fine-tuning on ``rot`` alone.

The planted effect is *attrition*: without replay and at a high learning rate everything but
``rot`` is forgotten.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, trl_runs

STEPS = 200
BATCH = 48


def train(folder: Path) -> None:
    """Train from ``sft`` beside ``folder``."""
    rows = corpus.imperfect_rows(3, {"rot": 1.0}, STEPS * BATCH)
    trainer = trl_runs.sft_trainer(
        "narrow", folder.parent / "sft", rows, steps=STEPS, batch=BATCH, learning_rate=3e-3
    )
    trl_runs.train_and_keep(trainer, folder)
