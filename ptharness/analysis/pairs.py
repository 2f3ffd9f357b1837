"""Which items do any two checkpoints solve that the other does not? The table `turnover`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from ptharness.analysis import gained_lost
from ptharness.analysis.counts import TaskCounts
from ptharness.analysis.inputs import Inputs, Row, estimate_columns, together
from ptharness.analysis.means import Means
from ptharness.analysis.resampling import Resampling
from ptharness.analysis_settings import Settings


def turnover_rows(
    inputs: Inputs, settings: Settings, draws: Mapping[str, Resampling]
) -> Iterator[Row]:
    """Rows of `schema.EDGES` for every two checkpoints, the earlier one of the lineage first.

    Intervals are Student's, clustered: there are many pairs, and they are not tested.
    """
    names = [checkpoint.name for checkpoint in inputs.lineage.checkpoints]
    for source, target in combinations(names, 2):
        parts: dict[str, Means] = {}
        comparables = {}
        for task, counts in inputs.counts.items():
            if not (counts.has_attempts and inputs.evaluated(task, source, target)):
                continue
            comparables[task], _ = inputs.comparable(source, target, task)
            of_task = _means(counts, source, target, settings.k, draws[task])
            if comparables[task] != "no" and of_task is not None:
                parts[task] = of_task
        for scope in inputs.scopes:
            tasks = [task for task in scope.tasks if task in parts]
            if scope.kind == "tag" or not tasks:
                continue
            means = Means.pooled([parts[task] for task in tasks])
            found = gained_lost.shares(means.estimates(settings.level))
            for quantity, estimate in found.items():
                yield {
                    **inputs.tags_of(target),
                    "source": source,
                    "target": target,
                    "relation": "pair",
                    "scope": scope.kind,
                    "task": scope.name,
                    "tasks": len(tasks),
                    **estimate_columns(estimate),
                    "k": settings.k,
                    "quantity": quantity,
                    "comparable": together(comparables[task] for task in tasks),
                }


def _means(counts: TaskCounts, source: str, target: str, k: int, draws: Resampling) -> Means | None:
    (n0, c0, n1, c1), shared = counts.pair(source, target)
    if not shared.any() or min(n0.min(), n1.min()) < k:
        return None
    names, columns = list(gained_lost.QUANTITIES), [gained_lost.item_terms(n0, c0, n1, c1, k)]
    for name, n, c in ((gained_lost.BASELINE, n0, c0), (gained_lost.TARGET_BASELINE, n1, c1)):
        if n.min() >= 2 * k:
            names.append(name)
            columns.append(gained_lost.baseline_terms(n, c, k)[:, None])
    return Means.of(names, np.column_stack(columns), draws.within(shared).first(0), bound=1.0)
