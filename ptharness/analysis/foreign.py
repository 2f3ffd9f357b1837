"""Two checkpoints from counts alone, without a lineage."""

from __future__ import annotations

from typing import Any

from ptharness.analysis.comparison import Comparison, sensitivity
from ptharness.analysis.counts import TaskCounts
from ptharness.analysis.edges import SENSITIVITY, adjusted_alone
from ptharness.analysis.inputs import estimate_columns
from ptharness.analysis.roles import measured_role
from ptharness.analysis.threads import on_one_core
from ptharness.analysis_settings import Settings


def compare_counts(
    counts: TaskCounts, parent: str, child: str, settings: Settings
) -> dict[str, Any]:
    """Every quantity with its interval, the measured role, and the cells at other k.

    Plain values: `estimates` by quantity with the columns of the edges table, `sensitivity` by k.
    The two must have been sampled independently.
    """
    pair, shared = counts.pair(parent, child)
    draws = counts.draws(settings.replicates, settings.seed)
    draws = draws.within(shared) if shared.any() else draws
    with on_one_core():
        comparison = Comparison.of(pair, settings.k, draws, settings.seed)
    estimates = comparison.estimates(settings.level)
    shares = comparison.expansion_shares if comparison.reshaping else None
    measured = measured_role(estimates, adjusted_alone(estimates), shares, settings.thresholds)
    at_other_k = sensitivity(pair, SENSITIVITY, draws) if shared.any() else {}
    return {
        "parent": parent,
        "child": child,
        "items": int(shared.sum()),
        "k": settings.k,
        "level": settings.level,
        "estimates": {name: estimate_columns(found) for name, found in estimates.items()},
        "role_measured": measured.role,
        "attrition": measured.attrition,
        "harmful_reshaping": measured.harmful_reshaping,
        "reason": measured.reason,
        "sensitivity": {
            k: {
                name: float(means.values[means.names.index(name)]) for name in ("exp", "rsh", "att")
            }
            for k, means in at_other_k.items()
        },
    }
