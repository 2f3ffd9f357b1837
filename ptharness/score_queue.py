"""When what can be scored: a shard once its samples are there, metrics once its shards are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ptharness.planner import Work
from ptharness.scoring import ScoringPool
from ptharness.store import UnitStore
from ptharness.units import MetricsUnit, ScoreUnit, ScoringContext


class ScoreQueue:
    """Submits score units when their samples are in the store, and metrics units after those.

    `checkpoints` are the names that wait for a unit, by its key.
    """

    def __init__(self, work: Sequence[Work], store: UnitStore, pool: ScoringPool) -> None:
        self.pool = pool
        self.units: dict[str, tuple[ScoreUnit | MetricsUnit, ScoringContext]] = {}
        self.missing: dict[str, set[str]] = {}
        self.waiting_for: dict[str, list[str]] = defaultdict(list)
        self.checkpoints: dict[str, list[str]] = defaultdict(list)
        for w in work:
            generated = {u.key for u in w.generation if store.has("generation", u.key)}
            scored = {u.key for u in w.scores if store.has("score", u.key)}
            for score in w.scores:
                if score.key not in scored:
                    self._add(score, set(score.generation_keys) - generated, w)
            if not store.has("metrics", w.metrics.key):
                self._add(w.metrics, set(w.metrics.score_keys) - scored, w)

    def _add(self, unit: ScoreUnit | MetricsUnit, missing: set[str], work: Work) -> None:
        self.checkpoints[unit.key].append(work.checkpoint.name)
        if unit.key in self.units:
            return
        self.units[unit.key] = (unit, work.scoring_context)
        self.missing[unit.key] = missing
        for key in missing:
            self.waiting_for[key].append(unit.key)
        if not missing:
            self.pool.submit(*self.units[unit.key])

    def generated(self, key: str) -> None:
        """A generation unit is in the store."""
        self._supply(key)

    def made(self, key: str) -> None:
        """A score unit is in the store."""
        self._supply(key)

    def _supply(self, key: str) -> None:
        for waiting in self.waiting_for.pop(key, ()):
            self.missing[waiting].discard(key)
            if not self.missing[waiting]:
                self.pool.submit(*self.units[waiting])
