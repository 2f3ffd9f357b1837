"""How an analysis is made. Apart from the estimators, whose imports take a second."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_ATTEMPTS = 1_000_000
"""The greatest support budget."""


@dataclass(frozen=True)
class Thresholds:
    """When a role is called: `fdr` is the false discovery rate, `level` that of intervals.

    `smallest_effect` (fraction of 1): a stage that does nothing is only called so where a change
    of this size would have been found.
    """

    fdr: float = 0.05
    level: float = 0.95
    smallest_effect: float = 0.02


@dataclass(frozen=True)
class Settings:
    """How the analysis is made; `thresholds` says when a role is called.

    `k` is the support budget: the attempts within which behaviour counts as reachable.
    """

    k: int = 16
    thresholds: Thresholds = field(default_factory=Thresholds)
    replicates: int = 2000
    seed: int = 0

    @property
    def level(self) -> float:
        """Confidence of every interval."""
        return self.thresholds.level
