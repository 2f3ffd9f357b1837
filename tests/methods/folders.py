"""Folders as TRL leaves them: those of `ptharness.testing`, which plugin authors use too."""

from __future__ import annotations

from ptharness.testing import (
    DISTILLATION_KEYS,
    DPO_KEYS,
    GKD_KEYS,
    GRPO_KEYS,
    SFT_KEYS,
)
from ptharness.testing import leave_card as with_card
from ptharness.testing import leave_trainer_state as with_log

__all__ = [
    "DISTILLATION_KEYS",
    "DPO_KEYS",
    "GKD_KEYS",
    "GRPO_KEYS",
    "SFT_KEYS",
    "with_card",
    "with_log",
]
