"""Is what was gained still there, and did the student get it? The table `retention`, and the
evidence on which consolidation is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import Counts
from ptharness.analysis.consolidation import recovered_gap, retention
from ptharness.analysis.inputs import Inputs, Row, Scope, estimate_columns
from ptharness.analysis.resampling import Estimate
from ptharness.analysis.roles import Consolidation
from ptharness.analysis_settings import Settings
from ptharness.lineage import Edge

Evidence = Mapping[tuple[Edge, Scope], Sequence[Consolidation]]


def retention_rows(inputs: Inputs, settings: Settings) -> Iterator[Row]:
    """Rows of `schema.RETENTION`: each stage's gain, at every later checkpoint."""
    later = _descendants(inputs)
    for edge in inputs.edges:
        if edge.relation != "edge":
            continue
        for checkpoint in later[edge.target]:
            for scope in inputs.scopes:
                asked = (edge.source, edge.target, checkpoint)
                found = _retention(inputs, asked, scope, settings)
                if found is None:
                    continue
                estimate, tasks = found
                yield {
                    **inputs.tags_of(checkpoint),
                    "source": edge.source,
                    "target": edge.target,
                    "relation": "edge",
                    "scope": scope.kind,
                    "task": scope.name,
                    "tasks": tasks,
                    **estimate_columns(estimate),
                    "quantity": "retention",
                }


def consolidation(inputs: Inputs, settings: Settings) -> Evidence:
    """What speaks for or against consolidation, of every pair whose target declares it.

    On teacher -> student: the share of the gap between the student's start and its teacher that
    was closed. Everywhere: how much of what the source had gained since the root is there.
    """
    found: dict[tuple[Edge, Scope], list[Consolidation]] = {}
    for edge in inputs.edges:
        if edge.relation == "replicate" or "consolidation" not in inputs.rows[edge.target]["role"]:
            continue
        for scope in inputs.scopes:
            found[edge, scope] = list(_evidence(inputs, edge, scope, settings))
    return found


def _evidence(
    inputs: Inputs, edge: Edge, scope: Scope, settings: Settings
) -> Iterator[Consolidation]:
    if edge.relation == "teacher":
        for start in inputs.rows[edge.target]["parents"]:
            if start == edge.source:
                continue
            taken = take(inputs, (start, edge.target, edge.source), scope)
            if taken is not None:
                begin, student, teacher = taken.attempts
                gap = recovered_gap(
                    begin, student, teacher, taken.clusters, tasks=taken.tasks, level=settings.level
                )
                yield Consolidation(f"the gap recovered from {start}", gap)
    source = edge.source
    if edge.relation == "path":
        # What the parent had, for the root has gained nothing.
        source = inputs.rows[edge.target]["parents"][0]
    root = _root(inputs, source)
    if root != source:
        kept = _retention(inputs, (root, source, edge.target), scope, settings)
        if kept is not None:
            yield Consolidation(f"retention of what {source} had gained since {root}", kept[0])


def _retention(
    inputs: Inputs, checkpoints: tuple[str, str, str], scope: Scope, settings: Settings
) -> tuple[Estimate, int] | None:
    taken = take(inputs, checkpoints, scope)
    if taken is None:
        return None
    before, after, later = taken.attempts
    found = retention(
        before,
        after,
        later,
        taken.clusters,
        tasks=taken.tasks,
        level=settings.level,
        seed=settings.seed,
    )
    return found, taken.count


@dataclass(frozen=True)
class Taken:
    """Counts (n, c) of several checkpoints on the items that all have, over `count` tasks.

    `clusters` and `tasks` say of each item to which it belongs.
    """

    attempts: list[tuple[Counts, Counts]]
    clusters: list[str]
    tasks: list[str]
    count: int


def take(inputs: Inputs, checkpoints: Sequence[str], scope: Scope) -> Taken | None:
    """The counts on a scope's tasks with attempts; None where the checkpoints share none."""
    parts: list[npt.NDArray[np.int64]] = []
    clusters: list[str] = []
    tasks: list[str] = []
    for task in scope.tasks:
        counts = inputs.counts[task]
        if not (counts.has_attempts and inputs.evaluated(task, *checkpoints)):
            continue
        pairs = combinations(checkpoints, 2)
        if any(inputs.comparable(one, other, task)[0] == "no" for one, other in pairs):
            continue
        rows = [counts.row(name) for name in checkpoints]
        shared = (counts.n[rows] > 0).all(axis=0)
        if not shared.any():
            continue
        parts.append(np.stack([counts.n[rows][:, shared], counts.c[rows][:, shared]], axis=1))
        clusters += [f"{task}/{code}" for code in counts.clusters[shared]]
        tasks += [task] * int(shared.sum())
    if not parts:
        return None
    joined = np.concatenate(parts, axis=2)
    return Taken([(n, c) for n, c in joined], clusters, tasks, len(parts))


def _descendants(inputs: Inputs) -> Mapping[str, list[str]]:
    """The checkpoints that come after each one, parents first."""
    names = list(inputs.rows)
    after: dict[str, set[str]] = {name: set() for name in names}
    # `names` has parents first, so from the end each child is complete before its parents.
    for name in reversed(names):
        for parent in inputs.rows[name]["parents"]:
            after[parent] |= {name} | after[name]
    return {name: [other for other in names if other in after[name]] for name in names}


def _root(inputs: Inputs, name: str) -> str:
    """The root above a checkpoint, by its first parents."""
    while parents := inputs.rows[name]["parents"]:
        name = parents[0]
    return name
