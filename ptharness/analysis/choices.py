"""What was forgotten and what came back on multiple choice, beyond what guessing shows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptharness.analysis.forgetting import choice_transitions
from ptharness.analysis.inputs import Inputs
from ptharness.analysis.resampling import Estimate
from ptharness.analysis_settings import Settings
from ptharness.lineage import Edge


def choice_changes(
    inputs: Inputs, edge: Edge, task: str, settings: Settings
) -> dict[str, Estimate]:
    """`forgetting` and `backward_transfer` of a pair on a task of multiple choice.

    Nothing where the samples are not at hand, or an item has no choices to guess among.
    """
    counts = inputs.counts[task]
    (n0, c0, n1, c1), shared = counts.pair(edge.source, edge.target)
    if inputs.samples is None or not shared.any() or (n0 != 1).any() or (n1 != 1).any():
        return {}
    samples = inputs.samples(edge.target, task, ["item", "choice_logprobs_nats"])
    items = pa.array([counts.items[place] for place in np.flatnonzero(shared)], pa.string())
    found = pc.list_value_length(samples["choice_logprobs_nats"])
    number = pc.fill_null(found.take(pc.index_in(items, samples["item"])), 0).to_numpy()
    if (number < 2).any():
        return {}
    clusters = counts.clusters[shared]
    changes = choice_transitions(c0, c1, number, clusters, level=settings.level)
    return {"forgetting": changes.forgetting, "backward_transfer": changes.backward_transfer}
