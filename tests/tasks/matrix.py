"""The parity matrix: one row per kind of task, from data/matrix/matrix.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "data" / "matrix"
_CONTENT = yaml.safe_load((FOLDER / "matrix.yaml").read_text(encoding="utf-8"))
TOLERANCES: Mapping[str, float] = _CONTENT["tolerances"]
"""By engine, how far what is made of log-likelihoods may be from lm-eval's, relative to it."""
LOGARITHMIC = ("perplexity", "word_perplexity", "byte_perplexity")
"""Exponentials of log-likelihoods: their logarithms are compared."""
OF_LIKELIHOODS = (*LOGARITHMIC, "bits_per_byte", "brier_score")


@dataclass(frozen=True)
class Feature:
    """One row. `task` names a YAML file, `group` the group that is looked at instead of a task.

    A task `of` a group is evaluated with it. `keys` are the manifest's for this task.
    """

    feature: str
    task: str
    metrics: tuple[str, ...]
    of: str = ""
    group: str = ""
    keys: Mapping[str, Any] = field(default_factory=dict)
    constant: bool = False
    windows: bool = False

    @property
    def name(self) -> str:
        """What lm-eval calls the task or group."""
        return self.group or self.task

    @property
    def entry(self) -> dict[str, Any]:
        """The manifest's entry for the task."""
        return {"task": str(FOLDER / f"{self.task}.yaml"), **self.keys}


def features() -> list[Feature]:
    """All rows, in order."""
    return [Feature(**{**row, "metrics": tuple(row["metrics"])}) for row in _CONTENT["rows"]]


def entries() -> list[dict[str, Any]]:
    """The manifest's entries for all rows, each task and group once."""
    alone = {feature.task: feature.entry for feature in features() if not feature.of}
    return list(alone.values())
