"""Any two checkpoints of a results folder, by the analysis' own estimators.

The lineage need not relate them. With the settings of the analysis that is in the folder, what it
has of them already comes out the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ptharness.analysis import certify, minimum_detectable_effect, pass_at_k, turnover
from ptharness.analysis.binomials import PairCounts
from ptharness.analysis.choices import choice_changes
from ptharness.analysis.edges import Compared, compare
from ptharness.analysis.inputs import POOLED, Inputs
from ptharness.analysis.resampling import Codes, Estimate
from ptharness.analysis.threads import on_one_core
from ptharness.analysis_settings import Settings
from ptharness.errors import ResultsError
from ptharness.lineage import Edge
from ptharness.publish import default_settings
from ptharness.publish.analysis_tables import read_inputs
from ptharness.results import Results

Row: TypeAlias = dict[str, Any]

GAINED, LOST = "gained", "lost"
RELATION = "pair"


@dataclass(frozen=True)
class _OnePair(Inputs):
    """The same inputs with one pair to compare in place of the lineage's."""

    pair: Edge = field(default_factory=lambda: Edge("", "", RELATION))

    @cached_property
    def edges(self) -> list[Edge]:
        return [self.pair]


@dataclass(frozen=True)
class Turned:
    """The items of one task that one side solves within its samples and the other does not.

    `within_k` has the expected shares at `k` attempts: `new`, `lost` and `same_model_new`.
    `certified` are items certified to be newly (or no longer) reachable at the support budget,
    with their q; some may not be among `items`. `reason` says what is undefined, and why.
    """

    task: str
    comparable: str
    note: str | None
    shared: int
    k: int
    items: tuple[Row, ...]
    within_k: Mapping[str, Estimate]
    certified: Mapping[str, float]
    reason: str | None


class PairView:
    """Source and target, as they stand in a results folder. Raises `ResultsError`."""

    def __init__(
        self, results: Results, source: str, target: str, settings: Settings, task: str | None
    ) -> None:
        self.results, self.settings = results, settings
        self.source, self.target = source, target
        if source == target:
            raise ResultsError(f"{source!r} is compared with itself; name two checkpoints")
        self.inputs = read_inputs(results)
        self.tasks = [
            name
            for name in self.inputs.counts
            if task in (None, name) and self.inputs.evaluated(name, source, target)
        ]
        if not self.tasks:
            where = f"task {task!r}" if task else "one task"
            raise ResultsError(
                f"{results.path}: {source!r} and {target!r} were not both evaluated on {where}"
            )

    @property
    def relations(self) -> list[str]:
        """How the lineage relates the two, if it does: `edge`, `path`, `teacher`, `replicate`."""
        pairs = ((self.source, self.target), (self.target, self.source))
        return [
            edge.relation if (edge.source, edge.target) == pairs[0] else f"reverse {edge.relation}"
            for edge in self.inputs.edges
            if (edge.source, edge.target) in pairs
        ]

    def compared(self) -> list[Row]:
        """A row per task, and one over all of them where there are several.

        Raises `ResultsError` where no task may be compared.
        """
        everything = {f.name: getattr(self.inputs, f.name) for f in fields(self.inputs)}
        everything["counts"] = {task: self.inputs.counts[task] for task in self.tasks}
        inputs = _OnePair(**everything, pair=Edge(self.source, self.target, RELATION))
        with on_one_core():
            # Of all tasks: a task's draws depend on its place among them.
            found = compare(inputs, self.settings, self.inputs.draws(self.settings))
        by_task = {one.scope.name: one for one in found if one.scope.kind == "task"}
        self._refuse_unless_any({task: (c.comparable, c.note) for task, c in by_task.items()})
        rows = [self._row(one, [one]) for one in by_task.values()]
        if len(rows) > 1:
            (pooled,) = [one for one in found if one.scope.kind == POOLED]
            rows.append(self._row(pooled, list(by_task.values())))
        return rows

    def _row(self, one: Compared, parts: list[Compared]) -> Row:
        rested_on = [
            part
            for part in parts
            if part.comparison.means
            and (part.comparison.reshaping or not one.comparison.reshaping)
            and (part.comparison.of_accuracy or len(parts) == 1)
        ]
        values = [self._values(part.scope.name) for part in rested_on]
        source, target = np.mean(values, axis=0).tolist() if values else (None, None)
        return {
            "scope": one.scope.kind,
            "task": one.scope.name,
            "tasks": [part.scope.name for part in rested_on],
            "comparable": one.comparable,
            "note": one.note,
            "reason": one.comparison.reason,
            "is_accuracy": one.comparison.of_accuracy,
            "source": source,
            "target": target,
            "not_whole": {
                rate: [self._rates.get((name, one.scope.name, rate)) for name in self._sides]
                for rate in ("truncation_rate", "too_long_rate")
            },
            "estimates": {
                name: {
                    "quantity": name,
                    **asdict(estimate),
                    "minimum_detectable_effect": self._detectable(estimate),
                }
                for name, estimate in {**one.estimates, **self._of_choices(one)}.items()
            },
        }

    def _of_choices(self, one: Compared) -> Mapping[str, Estimate]:
        """What multiple choice has in place of a decomposition."""
        task = one.scope.name
        if one.scope.kind != "task" or one.comparable == "no":
            return {}
        if not self.inputs.counts[task].is_choice:
            return {}
        edge = Edge(self.source, self.target, RELATION)
        return choice_changes(self.inputs, edge, task, self.settings)

    @property
    def _sides(self) -> tuple[str, str]:
        return self.source, self.target

    @cached_property
    def _rates(self) -> Mapping[tuple[str, str, str], float]:
        """(checkpoint, task, metric) -> value of every published metric that is a rate."""
        columns = ["checkpoint", "task", "metric", "value"]
        rows = self.results.arrow("metrics", columns).to_pylist()
        return {
            (row["checkpoint"], row["task"], row["metric"]): row["value"]
            for row in rows
            if row["metric"].endswith("_rate")
        }

    def _values(self, task: str) -> tuple[float, float]:
        """The means whose difference is the change."""
        counts = self.inputs.counts[task]
        rows = counts.row(self.source), counts.row(self.target)
        if not counts.is_binary:
            scores = counts.scores[list(rows)]
            first, second = scores[:, np.isfinite(scores).all(axis=0)].mean(axis=1)
            return float(first), float(second)
        (n0, c0, n1, c1), _ = counts.pair(self.source, self.target)
        return float(pass_at_k(n0, c0, 1).mean()), float(pass_at_k(n1, c1, 1).mean())

    def _detectable(self, estimate: Estimate) -> float | None:
        # Equal on all items: the standard error of 0 would say that anything is seen.
        if not estimate.stderr:
            return None
        return minimum_detectable_effect(estimate.stderr, self.settings.level)

    def turned(self, direction: str) -> list[Turned]:
        """Per task the items gained from source to target, or lost.

        Raises `ResultsError` where no task may be compared.
        """
        allowed = {task: self._comparable(task) for task in self.tasks}
        self._refuse_unless_any(allowed)
        return list(self._turned(direction, allowed))

    def _turned(
        self, direction: str, allowed: Mapping[str, tuple[str, str | None]]
    ) -> Iterator[Turned]:
        for task, (comparable, note) in allowed.items():
            counts = self.inputs.counts[task]
            pair, shared = counts.pair(self.source, self.target)
            _, c0, _, c1 = pair
            nothing = Turned(task, comparable, note, len(c0), 0, (), {}, {}, None)
            if comparable == "no":
                yield replace(nothing, reason=f"refused: {note}")
                continue
            if not len(c0):
                yield replace(nothing, reason="no item has yes/no scores on both sides")
                continue
            names = [counts.items[place] for place in np.flatnonzero(shared)]
            turned = (c0 == 0) & (c1 > 0) if direction == GAINED else (c0 > 0) & (c1 == 0)
            one = replace(nothing, items=tuple(_items(task, names, pair, turned)))
            if counts.has_attempts:
                yield self._with_luck(one, direction, names, pair, counts.clusters[shared])
            else:
                reason = "one answer per item: how many a second run would show is not known"
                yield replace(one, reason=reason)

    def _with_luck(
        self, one: Turned, direction: str, names: list[str], pair: PairCounts, clusters: Codes
    ) -> Turned:
        """With what luck alone shows, and the items for which it is ruled out."""
        settings = self.settings
        # The baseline needs two runs of k attempts from the samples of one.
        k = max(1, min(settings.k, int(min(pair[0].min(), pair[2].min())) // 2))
        with on_one_core():
            shares = turnover(
                *pair,
                k,
                clusters,
                level=settings.level,
                replicates=settings.replicates,
                seed=settings.seed,
            )
            found = certify(*pair, settings.k, settings.thresholds.fdr)
        sure, q = (
            (found.newly_reachable, found.newly_reachable_q)
            if direction == GAINED
            else (found.no_longer_reachable, found.no_longer_reachable_q)
        )
        certified = {names[place]: float(q[place]) for place in np.flatnonzero(sure)}
        return replace(
            one,
            k=k,
            within_k={name: getattr(shares, name) for name in ("new", "lost", "same_model_new")},
            certified=certified,
            reason=None if certified else found.reason,
        )

    def _comparable(self, task: str) -> tuple[str, str | None]:
        return self.inputs.comparable(self.source, self.target, task)

    def _refuse_unless_any(self, allowed: Mapping[str, tuple[str, str | None]]) -> None:
        if any(comparable != "no" for comparable, _ in allowed.values()):
            return
        notes = dict.fromkeys(note for _, note in allowed.values() if note)
        raise ResultsError(
            f"{self.source!r} and {self.target!r} may not be compared on "
            f"{_tasks(allowed)}: {'; '.join(notes)}"
        )


def _items(
    task: str, names: Sequence[str], pair: PairCounts, chosen: npt.NDArray[np.bool_]
) -> Iterator[Row]:
    columns = ("source_n", "source_c", "target_n", "target_c")
    for place in np.flatnonzero(chosen):
        counts = zip(columns, (int(column[place]) for column in pair), strict=True)
        yield {"task": task, "item": names[place], **dict(counts)}


def settings_of(results: Results, k: int | None = None, level: float | None = None) -> Settings:
    """Those of the analysis that is in the folder, else the defaults, with what is given."""
    found, about = default_settings(results), results.analysis
    budget = about.get("support_budget")
    if isinstance(budget, int) and budget > 0:
        found = replace(found, k=budget)
    for key, name in (("level", "level"), ("false_discovery_rate", "fdr")):
        value = about.get(key)
        if isinstance(value, float) and 0 < value < 1:
            found = replace(found, thresholds=replace(found.thresholds, **{name: value}))
    if level is not None:
        found = replace(found, thresholds=replace(found.thresholds, level=level))
    return found if k is None else replace(found, k=k)


def _tasks(names: Collection[str]) -> str:
    (first, *others) = names
    return f"task {first!r}" if not others else f"any of their {len(names)} tasks"
