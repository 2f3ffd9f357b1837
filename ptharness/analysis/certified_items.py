"""Which items certainly became reachable, or no longer are? The table `certified`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ptharness.analysis.binomials import Counts
from ptharness.analysis.certification import Certification, Mask, certify
from ptharness.analysis.inputs import Inputs, Row
from ptharness.analysis.resampling import Estimate
from ptharness.analysis_settings import Settings
from ptharness.lineage import Edge

DIRECTIONS = {"certified_new": "newly_reachable", "certified_lost": "no_longer_reachable"}


@dataclass(frozen=True)
class Certified:
    """The certification of one pair on one task; `items` are the names of its items."""

    edge: Edge
    task: str
    items: list[str]
    counts: Counts
    found: Certification

    def mask(self, direction: str) -> Mask:
        """Which items are certified."""
        mask: Mask = getattr(self.found, direction)
        return mask


def certify_all(inputs: Inputs, settings: Settings) -> list[Certified]:
    """Every pair that the lineage relates, on every task with attempts."""
    made = []
    for edge in inputs.edges:
        for task, counts in inputs.counts.items():
            if not (counts.has_attempts and inputs.evaluated(task, edge.source, edge.target)):
                continue
            if inputs.comparable(edge.source, edge.target, task)[0] == "no":
                continue
            pair, shared = counts.pair(edge.source, edge.target)
            if shared.any():
                names = [counts.items[place] for place in np.flatnonzero(shared)]
                found = certify(*pair, settings.k, settings.thresholds.fdr)
                made.append(Certified(edge, task, names, np.stack(pair), found))
    return made


def certified_rows(inputs: Inputs, settings: Settings, made: list[Certified]) -> Iterator[Row]:
    """Rows of `schema.CERTIFIED`: the certified items alone."""
    for one in made:
        for direction in DIRECTIONS.values():
            for place in np.flatnonzero(one.mask(direction)):
                n0, c0, n1, c1 = (int(value) for value in one.counts[:, place])
                yield {
                    **inputs.tags_of(one.edge.target),
                    "source": one.edge.source,
                    "target": one.edge.target,
                    "relation": one.edge.relation,
                    "task": one.task,
                    "item": one.items[place],
                    "direction": direction,
                    "k": settings.k,
                    "source_n": n0,
                    "source_c": c0,
                    "target_n": n1,
                    "target_c": c1,
                    "p": float(getattr(one.found, f"{direction}_p")[place]),
                    "q": float(getattr(one.found, f"{direction}_q")[place]),
                }


def certified_counts(made: list[Certified]) -> dict[str, Estimate]:
    """The numbers of certified items over one pair's tasks; undefined where no n is enough."""
    items = sum(len(one.items) for one in made)
    found = {}
    for quantity, direction in DIRECTIONS.items():
        number = sum(int(one.mask(direction).sum()) for one in made)
        found[quantity] = Estimate(float(number), items=items)
        if not any(one.found.is_possible(direction) for one in made):
            reasons = dict.fromkeys(filter(None, (one.found.reason for one in made)))
            found[quantity] = Estimate(items=items, reason="; ".join(reasons))
    return found
