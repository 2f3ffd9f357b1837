"""What multiple choice shows of a pair beside accuracy: belief in the right choice, what was
forgotten and what came back beyond what guessing shows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptharness.analysis.binomials import Floats
from ptharness.analysis.forgetting import choice_transitions
from ptharness.analysis.inputs import Inputs
from ptharness.analysis.ratios import MacroMeans
from ptharness.analysis.resampling import Codes, Estimate
from ptharness.analysis_settings import Settings
from ptharness.lineage import Edge

CHOICE_PROBABILITY = "choice_probability"
"""The metric that a scorer of multiple choice reports beside the task's own."""


def choice_changes(
    inputs: Inputs, edge: Edge, task: str, settings: Settings
) -> dict[str, Estimate]:
    """`choice_probability`, `forgetting` and `backward_transfer` of a pair on a choice task.

    Nothing where the samples are not at hand, or an item has no choices to guess among.
    """
    counts = inputs.counts[task]
    (n0, c0, n1, c1), shared = counts.pair(edge.source, edge.target)
    if inputs.samples is None or not shared.any() or (n0 != 1).any() or (n1 != 1).any():
        return {}
    columns = ["item", "choice_logprobs_nats", "scores"]
    before, samples = (inputs.samples(name, task, columns) for name in (edge.source, edge.target))
    items = pa.array([counts.items[place] for place in np.flatnonzero(shared)], pa.string())
    found = pc.list_value_length(samples["choice_logprobs_nats"])
    number = pc.fill_null(found.take(pc.index_in(items, samples["item"])), 0).to_numpy()
    if (number < 2).any():
        return {}
    clusters = counts.clusters[shared]
    changes = choice_transitions(c0, c1, number, clusters, level=settings.level)
    return {
        **_belief(before, samples, items, clusters, settings.level),
        "forgetting": changes.forgetting,
        "backward_transfer": changes.backward_transfer,
    }


def _belief(
    before: pa.Table, after: pa.Table, items: pa.Array, clusters: Codes, level: float
) -> dict[str, Estimate]:
    """The change of the probability of the right choice, paired by item."""
    sides = [_choice_probabilities(table, items) for table in (before, after)]
    change = sides[1] - sides[0]
    known = np.isfinite(change)
    if not known.any():
        return {}
    terms = np.stack([change[known], np.ones(known.sum())], axis=1)
    found = MacroMeans.of(terms, clusters[known]).ratio("items", level)
    return {"choice_probability": found.within(-1.0, 1.0)}


def _choice_probabilities(samples: pa.Table, items: pa.Array) -> Floats:
    """Of each of `items`, in their order; NaN where it is not known."""
    entries = samples["scores"].combine_chunks()
    rows, flat = pc.list_parent_indices(entries), pc.list_flatten(entries)
    chosen = pc.equal(pc.struct_field(flat, "metric"), CHOICE_PROBABILITY)
    values = pc.struct_field(flat, "value").filter(chosen)
    names = samples["item"].combine_chunks().take(rows.filter(chosen))
    # Of several filters the first: they see the same log-likelihoods.
    found = values.take(pc.index_in(items, names))
    return np.asarray(pc.fill_null(found, np.nan), np.float64)
