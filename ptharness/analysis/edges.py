"""What did each stage do? The tables `edges`, `sensitivity` and `verdicts`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ptharness.analysis.certified_items import Certified, certified_counts
from ptharness.analysis.comparability import Comparable
from ptharness.analysis.comparison import TESTED, Comparison, sensitivity
from ptharness.analysis.gained_lost import shares
from ptharness.analysis.inputs import Inputs, Row, Scope, estimate_columns, together
from ptharness.analysis.means import Means
from ptharness.analysis.resampling import Estimate, Resampling
from ptharness.analysis.roles import (
    NONE,
    UNDETERMINED,
    Consolidation,
    Measured,
    judge,
    measured_role,
)
from ptharness.analysis.transfers import further
from ptharness.analysis_settings import Settings
from ptharness.lineage import Edge
from ptharness.taxonomy import Role

SENSITIVITY = (4, 8, 16, 32)
"""The k at which the cells are shown beside the support budget."""

_AT_BUDGET = ("amortisation", "support_transfer", "novelty", "certified_new", "certified_lost")

SHOWN_BY_K = ("exp", "rsh", "att", "res", "new", "lost")


@dataclass(frozen=True)
class Compared:
    """One related pair in one scope: the comparison, and whether it may be made."""

    edge: Edge
    scope: Scope
    comparison: Comparison
    comparable: Comparable
    note: str | None
    estimates: Mapping[str, Estimate]

    @property
    def where(self) -> Row:
        """The columns that say what is compared."""
        return {
            "source": self.edge.source,
            "target": self.edge.target,
            "relation": self.edge.relation,
            "scope": self.scope.kind,
            "task": self.scope.name,
            "tasks": self.comparison.tasks,
        }


def compare(inputs: Inputs, settings: Settings, draws: Mapping[str, Resampling]) -> list[Compared]:
    """Every pair that the lineage relates, in every scope in which both were evaluated."""
    found = []
    # A parent that is the teacher too is compared once.
    known: dict[tuple[str, str], dict[str, Part]] = {}
    for edge in inputs.edges:
        pair = edge.source, edge.target
        if pair not in known:
            known[pair] = dict(_task_comparisons(inputs, edge, settings, draws))
        parts = known[pair]
        for scope in inputs.scopes:
            of_scope = {task: parts[task] for task in scope.tasks if task in parts}
            if of_scope:
                found.append(_compared(edge, scope, of_scope, settings.level))
    return found


Part = tuple[Comparison, Comparable, str | None]


def _task_comparisons(
    inputs: Inputs, edge: Edge, settings: Settings, draws: Mapping[str, Resampling]
) -> Iterator[tuple[str, Part]]:
    for task, counts in inputs.counts.items():
        if not inputs.evaluated(task, edge.source, edge.target):
            continue
        comparable, note = inputs.comparable(edge.source, edge.target, task)
        if comparable == "no":
            yield task, (Comparison(settings.k, None, None, note, 0), comparable, note)
            continue
        pair, shared = counts.pair(edge.source, edge.target)
        of_task = draws[task]
        if not counts.is_binary:
            source, target = (counts.scores[counts.row(c)] for c in (edge.source, edge.target))
            shared = np.isfinite(source) & np.isfinite(target)
            some = of_task.within(shared) if shared.any() else of_task
            made = Comparison.of_scores(source[shared], target[shared], settings.k, some)
        elif not shared.any():
            made = Comparison(settings.k, None, None, "no item has samples on both sides", 0)
        elif counts.has_attempts:
            made = Comparison.of(pair, settings.k, of_task.within(shared), settings.seed)
        else:
            made = Comparison.of_choices(pair, settings.k, of_task.within(shared))
        if not shared.all():
            left_out = f"{int((~shared).sum())} items without samples on both sides left out"
            note = f"{note}; {left_out}" if note else left_out
        yield task, (made, comparable, note)


def _compared(edge: Edge, scope: Scope, parts: Mapping[str, Part], level: float) -> Compared:
    if scope.kind == "task":
        ((comparison, comparable, note),) = parts.values()
    else:
        allowed = [part for part in parts.values() if part[1] != "no"] or list(parts.values())
        comparison = Comparison.pooled([part[0] for part in allowed])
        comparable = together(part[1] for part in allowed)
        note = "; ".join(dict.fromkeys(part[2] for part in parts.values() if part[2])) or None
    return Compared(edge, scope, comparison, comparable, note, comparison.estimates(level))


def adjusted(compared: Sequence[Compared]) -> list[dict[str, float]]:
    """q of the tested quantities of each comparison: p adjusted by Benjamini and Hochberg.

    A family is all comparisons of one relation in one scope (task, tag, pooled), each with its
    four tested quantities.
    """
    found: list[dict[str, float]] = [{} for _ in compared]
    families: dict[tuple[str, str], list[tuple[int, str, float]]] = {}
    for place, one in enumerate(compared):
        for quantity in TESTED:
            p = one.estimates[quantity].p
            if p is not None:
                family = families.setdefault((one.edge.relation, one.scope.kind), [])
                family.append((place, quantity, p))
    for family in families.values():
        q_values = stats.false_discovery_control([p for _, _, p in family])
        for (place, quantity, _), q in zip(family, q_values, strict=True):
            found[place][quantity] = float(q)
    return found


def adjusted_alone(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """q of a single comparison: its own four tested quantities are the family."""
    tested = {name: p for name in TESTED if (p := estimates[name].p) is not None}
    if not tested:
        return {}
    q = stats.false_discovery_control(list(tested.values()))
    return dict(zip(tested, map(float, q), strict=True))


def edge_rows(
    inputs: Inputs, compared: Sequence[Compared], q: Sequence[Mapping[str, float]]
) -> Iterator[Row]:
    """Rows of `schema.EDGES`, one per quantity."""
    for one, of_one in zip(compared, q, strict=True):
        tags = inputs.tags_of(one.edge.target)
        for quantity, estimate in one.estimates.items():
            reason = "; ".join(filter(None, (estimate.reason, one.note))) or None
            yield {
                **tags,
                **one.where,
                **estimate_columns(estimate),
                "k": None if quantity == "delta" else one.comparison.k,
                "quantity": quantity,
                "q": of_one.get(quantity),
                "comparable": one.comparable,
                "reason": reason,
            }


def further_rows(
    inputs: Inputs,
    compared: Sequence[Compared],
    certified: Sequence[Certified],
    settings: Settings,
) -> Iterator[Row]:
    """Rows of `schema.EDGES` for what is no cell: certified items, transfer, attempts."""
    by_place = {(one.edge, one.task): one for one in certified}
    for one in compared:
        if one.comparable == "no":
            continue
        found = further(inputs, one.edge, one.scope, settings)
        places = [(one.edge, task) for task in one.scope.tasks]
        of_one = [by_place[place] for place in places if place in by_place]
        if of_one:
            found |= certified_counts(of_one)
        for quantity, estimate in found.items():
            yield {
                **inputs.tags_of(one.edge.target),
                **one.where,
                **estimate_columns(estimate),
                "k": settings.k if quantity in _AT_BUDGET else None,
                "quantity": quantity,
                "comparable": one.comparable,
                "reason": "; ".join(filter(None, (estimate.reason, one.note))) or None,
            }


def sensitivity_rows(
    inputs: Inputs, settings: Settings, draws: Mapping[str, Resampling]
) -> Iterator[Row]:
    """Rows of `schema.EDGES`: how the cells move with k, for every related pair and scope."""
    skewed = ("exp", "att", "res", "new", "lost")
    for edge in inputs.edges:
        parts: dict[str, Mapping[int, Means]] = {}
        comparables: dict[str, Comparable] = {}
        for task, counts in inputs.counts.items():
            if not (inputs.evaluated(task, edge.source, edge.target) and counts.has_attempts):
                continue
            comparables[task], _ = inputs.comparable(edge.source, edge.target, task)
            pair, shared = counts.pair(edge.source, edge.target)
            if comparables[task] != "no" and shared.any():
                parts[task] = sensitivity(pair, SENSITIVITY, draws[task].within(shared))
        for scope in inputs.scopes:
            tasks = [task for task in scope.tasks if task in parts]
            for k in SENSITIVITY:
                means = [parts[task][k] for task in tasks if k in parts[task]]
                if not means:
                    continue
                estimates = shares(Means.pooled(means).estimates(settings.level, skewed))
                for quantity in SHOWN_BY_K:
                    yield {
                        **inputs.tags_of(edge.target),
                        "source": edge.source,
                        "target": edge.target,
                        "relation": edge.relation,
                        "scope": scope.kind,
                        "task": scope.name,
                        "tasks": len(means),
                        **estimate_columns(estimates[quantity]),
                        "k": k,
                        "quantity": quantity,
                        "comparable": together(comparables[task] for task in tasks),
                    }


def verdict_rows(
    inputs: Inputs,
    compared: Sequence[Compared],
    q: Sequence[Mapping[str, float]],
    settings: Settings,
    consolidation: Mapping[tuple[Edge, Scope], Sequence[Consolidation]],
) -> Iterator[Row]:
    """Rows of `schema.VERDICTS`; `consolidation` holds what speaks for or against it."""
    for one, of_one in zip(compared, q, strict=True):
        declared = _declared(inputs, one.edge)
        measured = _measured(one, of_one, settings)
        evidence = consolidation.get((one.edge, one.scope), ())
        if declared or one.edge.relation == "replicate":
            verdict, note = judge(declared, measured.role, evidence)
        else:
            verdict, note = "undetermined", "no role is declared"
        if measured.role in (NONE, UNDETERMINED) and any(
            e.verdict == "supported" for e in evidence
        ):
            measured = replace(measured, role=Role.CONSOLIDATION)
        sentences = (measured.reason, note, one.note)
        yield {
            **inputs.tags_of(one.edge.target),
            **one.where,
            "role_declared": declared,
            "role_measured": measured.role,
            "attrition": measured.attrition,
            "harmful_reshaping": measured.harmful_reshaping,
            "verdict": verdict if one.comparable != "no" else "undetermined",
            "comparable": one.comparable,
            "reason": "; ".join(dict.fromkeys(filter(None, sentences))),
        }


def _measured(one: Compared, q: Mapping[str, float], settings: Settings) -> Measured:
    shares = one.comparison.expansion_shares if one.comparison.reshaping else None
    return measured_role(one.estimates, q, shares, settings.thresholds)


def _declared(inputs: Inputs, edge: Edge) -> list[str]:
    """The roles that the stage declares; on a path, those of all its stages together.

    Two runs of the same weights declare that nothing was done.
    """
    if edge.relation == "replicate":
        return []
    if edge.relation != "path":
        return list(inputs.rows[edge.target]["role"])
    found: dict[str, None] = {}
    waiting, seen = [edge.target], set()
    while waiting:
        name = waiting.pop()
        if name == edge.source or name in seen:
            continue
        seen.add(name)
        found |= dict.fromkeys(reversed(inputs.rows[name]["role"]))
        waiting += inputs.rows[name]["parents"]
    return list(reversed(found))
