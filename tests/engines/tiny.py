"""The tiny checkpoints that authors of engines are given too."""

from __future__ import annotations

from ptharness.testing.tiny_models import CHARACTERS, SPECIAL, edit_tensors
from ptharness.testing.tiny_models import write_model as make_checkpoint

__all__ = ["CHARACTERS", "SPECIAL", "edit_tensors", "make_checkpoint"]
