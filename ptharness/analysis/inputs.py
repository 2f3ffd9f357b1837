"""What the analysis starts from: counts, the lineage, and how each checkpoint was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.analysis.comparability import Asked, Comparable, comparability
from ptharness.analysis.counts import TaskCounts
from ptharness.analysis.resampling import Estimate, Resampling
from ptharness.analysis_settings import Settings
from ptharness.lineage import Checkpoint, Edge, Lineage, Stage
from ptharness.schema import TAGS
from ptharness.taxonomy import Interface, Provenance, Role

POOLED = "pooled"
Row = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """What a row is about: one task, the tasks of a tag, or all of them."""

    kind: str
    name: str
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """The published tables as the analysis takes them.

    `checkpoints` is the table of that name. `asked` says how each checkpoint was asked on each
    task; `tags` are those of each task. `samples(checkpoint, task)` reads columns of the samples
    of one pair, where there are any.
    """

    checkpoints: pa.Table
    counts: Mapping[str, TaskCounts]
    asked: Mapping[tuple[str, str], Asked]
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    samples: Callable[[str, str, Sequence[str]], pa.Table] | None = None

    @cached_property
    def rows(self) -> Mapping[str, Row]:
        """Each checkpoint's row, parents first."""
        return {row["checkpoint"]: row for row in self.checkpoints.to_pylist()}

    def tags_of(self, checkpoint: str) -> Row:
        """The columns of `schema.TAGS` for a checkpoint."""
        row = self.rows[checkpoint]
        return {column.name: row[column.name] for column in TAGS}

    @cached_property
    def lineage(self) -> Lineage:
        """The graph of checkpoints; paths of files are not known any more."""
        name = next((str(row["lineage"]) for row in self.rows.values()), "")
        return Lineage(name, tuple(_checkpoint(row) for row in self.rows.values()))

    @cached_property
    def edges(self) -> list[Edge]:
        """Every pair to compare: the lineage's, and runs of the same weights (`replicate`)."""
        first: dict[str, str] = {}
        repeated = []
        for name, row in self.rows.items():
            weights = row["fingerprint"]
            if weights and first.setdefault(weights, name) != name:
                repeated.append(Edge(first[weights], name, "replicate"))
        return [*self.lineage.edges(), *repeated]

    @cached_property
    def scopes(self) -> list[Scope]:
        """Every task, every tag that several tasks share but not all, and all tasks."""
        tasks = tuple(self.counts)
        members: dict[str, list[str]] = {}
        for task in tasks:
            for tag in self.tags.get(task, ()):
                members.setdefault(tag, []).append(task)
        tags = [
            Scope("tag", tag, tuple(of)) for tag, of in members.items() if 1 < len(of) < len(tasks)
        ]
        return [
            *(Scope("task", task, (task,)) for task in tasks),
            *tags,
            Scope(POOLED, POOLED, tasks),
        ]

    def evaluated(self, task: str, *checkpoints: str) -> bool:
        """Whether all these were evaluated on a task."""
        return set(checkpoints) <= set(self.counts[task].checkpoints)

    def comparable(self, source: str, target: str, task: str) -> tuple[Comparable, str | None]:
        """Whether two checkpoints may be compared on a task, and what to know about it."""
        if self._samples_are_shared(source, target):
            return "no", (
                "the samples of the same weights are the same; another `replicate` gives "
                "independent ones"
            )
        first, second = self.asked.get((source, task)), self.asked.get((target, task))
        if first is None or second is None:
            return "no", "it is not recorded how they were asked"
        return comparability(first, second)

    def _samples_are_shared(self, source: str, target: str) -> bool:
        """Same weights and same random streams: no independent runs, as every estimate needs."""
        first, second = self.rows[source], self.rows[target]
        weights = first["fingerprint"]
        return bool(weights) and (weights, first["replicate"]) == (
            second["fingerprint"],
            second["replicate"],
        )

    def draws(self, settings: Settings) -> Mapping[str, Resampling]:
        """Draws of clusters for each task: joint over checkpoints, independent between tasks."""
        return {
            task: counts.draws(settings.replicates, settings.seed + place)
            for place, (task, counts) in enumerate(self.counts.items())
        }


def together(comparables: Iterable[Comparable]) -> Comparable:
    """What can be said of the comparisons that may be made: native if one is, else same."""
    found = set(comparables)
    return next((c for c in ("native", "same") if c in found), "no")


def estimate_columns(found: Estimate) -> Row:
    """The columns that an estimate fills."""
    return {
        "estimate": found.estimate,
        "stderr": found.stderr,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "ci_method": found.ci_method,
        "level": found.level if found.ci_method else None,
        "p": found.p,
        "items": found.items,
        "reason": found.reason,
    }


def _checkpoint(row: Row) -> Checkpoint:
    name, parents = row["checkpoint"], tuple(row["parents"])
    stage = None
    if parents:
        stage = Stage(
            row["method"],
            parents,
            Provenance(row["provenance"]),
            Interface(row["interface"]),
            tuple(Role(role) for role in row["role"]),
            teacher=row["teacher"],
        )
    return Checkpoint(name, Path(name), row["path"] or name, stage=stage, step=row["step"])
