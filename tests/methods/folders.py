"""Folders as TRL leaves them, made small."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

CARD = """\
---
library_name: transformers
model_name: {name}
tags:
- generated_from_trainer
- trl
- {tag}
licence: license
---

# Model Card for {name}
"""

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


def with_card(folder: Path, tag: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(CARD.format(name="stage", tag=tag))
    return folder


def with_log(folder: Path, keys: Iterable[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"global_step": 2, "log_history": [dict.fromkeys(keys, 0.5), {"train_runtime": 1.0}]}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder
