"""Checkpoint folders as training frameworks leave them, made small.

Each function adds one file to a folder, which it makes if need be, and returns the folder, so
that they chain: `leave_trainer_state(leave_card(folder, "grpo"), GRPO_KEYS)`.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

CARD = """\
---
library_name: transformers
model_name: stage
tags:
- generated_from_trainer
- trl
{tags}
licence: license
---

# Model Card for stage
"""
"""As TRL writes it."""

SFT_KEYS = ("loss", "grad_norm", "mean_token_accuracy", "num_tokens", "entropy", "step", "epoch")
DPO_KEYS = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "logps/chosen",
    "mean_token_accuracy",
)
GRPO_KEYS = (
    "loss",
    "reward",
    "reward_std",
    "frac_reward_zero_std",
    "completions/mean_length",
    "rewards/right/mean",
    "clip_ratio/low_mean",
)
DISTILLATION_KEYS = ("loss", "completions/mean_length", "num_tokens")
GKD_KEYS = ("loss", "grad_norm", "learning_rate")


def leave_card(folder: Path, *tags: str) -> Path:
    """TRL's model card; TRL tags it with its trainer's name: sft, dpo, grpo, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = "\n".join(f"- {tag}" for tag in tags)
    (folder / "README.md").write_text(CARD.format(tags=listed), encoding="utf-8")
    return folder


def leave_trainer_state(folder: Path, keys: Iterable[str], *, step: int = 2) -> Path:
    """The trainer's state after `step` steps, with a log of the quantities `keys`, all 0.5."""
    folder.mkdir(parents=True, exist_ok=True)
    history = [dict.fromkeys(keys, 0.5), {"train_runtime": 1.0}]
    state = {"global_step": step, "log_history": history}
    (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    return folder


def leave_adapter_config(folder: Path, base: str = "org/base", **settings: object) -> Path:
    """PEFT's `adapter_config.json` of a LoRA adapter on `base`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 8, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def leave_training_arguments(folder: Path, class_name: str, module: str = "trl.trainer") -> Path:
    """`training_args.bin` as `torch.save` writes it: a zipped pickle of the trainer's settings."""
    folder.mkdir(parents=True, exist_ok=True)
    # GLOBAL, EMPTY_TUPLE, REDUCE: the first opcodes of a saved object, all that is ever read.
    content = f"\x80\x02c{module}\n{class_name}\n)R.".encode("latin-1")
    with zipfile.ZipFile(folder / "training_args.bin", "w") as archive:
        archive.writestr("training_args/data.pkl", content)
    return folder


def write_safetensors(path: Path, value: float = 0.0) -> None:
    """A whole safetensors file with one tensor of one number."""
    header = {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + struct.pack("<f", value))


def write_checkpoint(folder: Path, **config: object) -> Path:
    """A folder that passes for a checkpoint until an engine looks into it.

    `folder` must not exist.
    """
    folder.mkdir(parents=True)
    shape = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(shape | config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    write_safetensors(folder / "model.safetensors", float(len(str(folder))))
    return folder
