"""How much of each stage's trajectories is scored, and where the classes part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ptharness.analysis.provenance import Thresholds


@dataclass(frozen=True)
class ProvenanceSettings:
    """How much is scored. `rare_below` is a probability; `samples` are own ones per prompt.

    `stages` (patterns of names) asks for these alone; `file` for this one, that no stage need have
    learned from, in their place.
    """

    stages: tuple[str, ...] = ()
    file: Path | None = None
    prompts: int = 200
    per_prompt: int = 8
    samples: int = 8
    rare_below: float = 1e-4
    level: float = 0.95
    thresholds: Thresholds = field(default_factory=Thresholds)
