"""What the TRL stages share: settings for one CPU thread, and what is kept of a run.

Stages run inside a work folder and name everything relative to it, so that no path of the machine
ends up in a model card or a trainer state.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptharness_zoo.recipe import network, vocabulary

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl import SFTTrainer
    from trl.trainer.base_trainer import _BaseTrainer

    from ptharness_zoo.recipe.corpus import Row

KEPT = ("README.md", "trainer_state.json")
TRAJECTORIES = 384
"""How many of what a stage trained on are kept."""


def run_folder(stage: str) -> Path:
    """Return where TRL writes during a stage; only ``KEPT`` survives from it."""
    return Path("runs") / stage


def cpu_settings(stage: str, steps: int, batch: int, learning_rate: float) -> dict[str, Any]:
    """Return the arguments which every TRL configuration of the recipe has in common."""
    return {
        "output_dir": str(run_folder(stage)),
        "seed": 0,
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(20, steps // 5),
        "logging_steps": 10 if steps >= 50 else 1,
        "save_strategy": "no",
        "save_only_model": True,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }


def sft_trainer(
    stage: str,
    start: Path | Any,
    rows: list[Row],
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    peft_config: Any = None,
) -> SFTTrainer:
    """Prepare supervised fine-tuning of ``start`` (a folder or a model) on ``rows``."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    settings = cpu_settings(stage, steps, batch, learning_rate)
    return SFTTrainer(
        model=network.read_model(start) if isinstance(start, Path) else start,
        args=SFTConfig(max_length=128, **settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=vocabulary.build_tokenizer(),
        peft_config=peft_config,
    )


def train_and_keep(trainer: _BaseTrainer, folder: Path) -> None:
    """Train, write the checkpoint to ``folder``, and add TRL's model card and trainer state."""
    trainer.train()
    trainer.save_state()
    trainer.create_model_card(model_name=folder.name)
    network.write_checkpoint(trainer.model, folder)
    for name in KEPT:
        shutil.copy(run_folder(folder.name) / name, folder / name)


def saving_at(steps: Collection[int]) -> TrainerCallback:
    """Make a callback that has TRL save ``checkpoint-N`` after each of ``steps``."""
    from transformers import TrainerCallback

    class SavingAt(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_save = control.should_save or state.global_step in steps

    return SavingAt()


def keep_steps(folder: Path, steps: Collection[int]) -> None:
    """Keep the saved ``steps`` below ``folder`` as TRL laid them out, rounded to bfloat16."""
    for step in steps:
        name = f"checkpoint-{step}"
        saved = run_folder(folder.name) / name
        network.write_checkpoint(network.read_model(saved), folder / name)
        shutil.copy(saved / "trainer_state.json", folder / name / "trainer_state.json")
