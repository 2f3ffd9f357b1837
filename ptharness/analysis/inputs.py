"""What the analysis starts from: counts, the lineage, and how each checkpoint was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.analysis.comparability import (
    Asked,
    Comparable,
    comparability,
    seeds_are_shared,
)
from ptharness.analysis.counts import TaskCounts
from ptharness.analysis.resampling import Estimate, Resampling
from ptharness.analysis_settings import Settings
from ptharness.lineage import Checkpoint, Edge, Lineage, Stage
from ptharness.schema import TAGS
from ptharness.taxonomy import Interface, Provenance, Role

POOLED = "pooled"
Row = dict[str, Any]
Model = tuple[str, str | None, str | None]
"""Digests of weights, architecture and tokenizer."""


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
        """Every pair to compare: the lineage's, and runs of the same model (`replicate`)."""
        first: dict[Model, str] = {}
        repeated = []
        for name, row in self.rows.items():
            model = _model(row)
            if model and first.setdefault(model, name) != name:
                repeated.append(Edge(first[model], name, "replicate"))
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
        first, second = self.asked.get((source, task)), self.asked.get((target, task))
        one, other = self.rows[source], self.rows[target]
        streams = [(row["fingerprint"], row["replicate"]) for row in (one, other)]
        alike = bool(streams[0][0]) and streams[0] == streams[1]
        stops = [asked.stop_token_ids for asked in (first, second) if asked]
        if alike and _model(one) == _model(other) and len(set(stops)) < 2:
            return "no", (
                "the samples of the same weights are the same; another `replicate` gives "
                "independent ones"
            )
        if first is None or second is None:
            return "no", "it is not recorded how they were asked"
        found = comparability(first, second)
        if alike and found[0] != "no" and seeds_are_shared(first, second):
            return "no", (
                "the same weights, under another config.json, tokenizer or end-of-sequence token, "
                "drew from the same seeds, so the samples are not independent; another "
                "`replicate` of one of them gives independent ones"
            )
        return found

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


def _model(row: Row) -> Model | None:
    """What decides, beside prompts and randomness, what a checkpoint says; None if not known.

    Tables of before say nothing of architectures.
    """
    weights = row["fingerprint"]
    if not weights:
        return None
    return weights, row.get("architecture_fingerprint"), row["tokenizer_fingerprint"]


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
