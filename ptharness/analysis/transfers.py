"""Further quantities of a pair beside its cells: certified items, transfer, what attempts buy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ptharness.analysis.attempts import crossover, pass_at_k
from ptharness.analysis.choices import choice_changes
from ptharness.analysis.consolidation import (
    amortisation,
    break_even,
    novelty,
    recovered_gap,
    support_transfer,
)
from ptharness.analysis.forgetting import squared_movement
from ptharness.analysis.inputs import Inputs, Scope
from ptharness.analysis.resampling import Estimate
from ptharness.analysis.retained import take
from ptharness.analysis_settings import Settings
from ptharness.lineage import Edge


def further(inputs: Inputs, edge: Edge, scope: Scope, settings: Settings) -> dict[str, Estimate]:
    """What is defined for a relation in a scope, under the quantity's name.

    On edges and from teachers: `amortisation` (how much of what k attempts buy the source the
    target has in one). On one task: `movement`, and in attempts `crossover` and `break_even`. From
    teachers: `recovered_gap`, `support_transfer`, and on one task `novelty`. On multiple choice
    `forgetting` and `backward_transfer` alone.
    """
    if edge.relation == "replicate":
        return {}
    if scope.kind == "task" and inputs.counts[scope.name].is_choice:
        return choice_changes(inputs, edge, scope.name, settings)
    taken = take(inputs, (edge.source, edge.target), scope)
    if taken is None:
        return {}
    source, target = taken.attempts
    of_task = scope.kind == "task"
    level, k = settings.level, settings.k
    found = {}
    if int(np.min(source[0])) >= k:
        bought = pass_at_k(*source, k)
        found["amortisation"] = amortisation(
            target, source, bought, taken.clusters, tasks=taken.tasks, level=level
        )
    if of_task:
        pair = (*source, *target)
        found["crossover"] = crossover(*pair, taken.clusters, level=level)
        found["break_even"] = break_even(source, target, taken.clusters, level=level)
        found["movement"] = squared_movement(*pair, taken.clusters, level=level)
    if edge.relation == "teacher":
        found |= _transfer(inputs, edge, scope, settings)
        if of_task:
            found["novelty"] = novelty(target, source, k, taken.clusters, level=level)
    return found


def _transfer(inputs: Inputs, edge: Edge, scope: Scope, settings: Settings) -> dict[str, Estimate]:
    """From the student's start, which has to be another checkpoint than its teacher."""
    starts: Sequence[str] = inputs.rows[edge.target]["parents"]
    if starts[0] == edge.source:
        reason = "the student started from its teacher, so there is no gap between the two"
        return dict.fromkeys(("recovered_gap", "support_transfer"), Estimate(reason=reason))
    taken = take(inputs, (starts[0], edge.target, edge.source), scope)
    if taken is None:
        return {}
    start, student, teacher = taken.attempts
    clusters, tasks, level, k = taken.clusters, taken.tasks, settings.level, settings.k
    return {
        "recovered_gap": recovered_gap(start, student, teacher, clusters, tasks=tasks, level=level),
        "support_transfer": support_transfer(
            start, student, teacher, k, clusters, tasks=tasks, level=level
        ),
    }
