"""Stage ``lora`` (from ``sft``): an adapter of rank 8 that brings ``swp`` back.

``sft`` neglected ``swp``; the adapter restores it, with replay of the mixture of ``sft``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ptharness_zoo.recipe import corpus, sft, trl_runs
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES, run_folder

STEPS = 120
BATCH = 48
RANK = 8
MIXTURE = {"swp": 0.5} | {skill: share / 2 for skill, share in sft.MIXTURE.items()}
KEPT = ("README.md", "adapter_config.json", "adapter_model.safetensors", "trainer_state.json")


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``sft`` beside ``folder``; return rows of the training set."""
    from peft import LoraConfig

    rows = corpus.imperfect_rows(13, MIXTURE, STEPS * BATCH)
    trainer = trl_runs.sft_trainer(
        "lora",
        folder.parent / "sft",
        rows,
        steps=STEPS,
        batch=BATCH,
        learning_rate=5e-3,
        peft_config=LoraConfig(
            r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    trainer.save_state()
    trainer.create_model_card(model_name="lora")
    trainer.save_model()
    folder.mkdir()
    for name in KEPT:
        shutil.copy(run_folder("lora") / name, folder / name)
    return [*rows[:TRAJECTORIES]]
