"""The verdict that stands for a stage, among those of its edge and of its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ptharness.report.lineage import Checkpoint, Lineage, Scope
from ptharness.report.tables import Row, Tables

MARKS = {"supported": "\u2713", "contradicted": "\u2717", "undetermined": "?"}
"""A verdict without colour."""


@dataclass(frozen=True)
class Verdict:
    """One row of verdicts.parquet."""

    source: str
    relation: str
    measured: str
    verdict: str
    declared: tuple[str, ...]
    attrition: bool
    harmful: bool
    comparable: str
    reason: str
    tasks: int

    @property
    def mark(self) -> str:
        return MARKS.get(self.verdict, "?")


class Verdicts:
    """Verdicts by stage and scope."""

    def __init__(self, tables: Tables, lineage: Lineage) -> None:
        self.lineage = lineage
        self._found: dict[tuple[str, int], list[Verdict]] = {}
        for row in tables.rows("verdicts"):
            scope = lineage.scope(row)
            if scope is not None:
                self._found.setdefault((row["target"], scope.index), []).append(_verdict(row))

    def of(self, stage: Checkpoint, scope: Scope) -> list[Verdict]:
        """All verdicts of a stage at a scope: its edges, then its teacher's, then paths."""
        order = {"edge": 0, "replicate": 1, "teacher": 2, "path": 3}
        return sorted(
            self._found.get((stage.name, scope.index), ()),
            key=lambda verdict: order.get(verdict.relation, 4),
        )

    def main(self, stage: Checkpoint, scope: Scope | None = None) -> Verdict | None:
        """The verdict that stands for a stage, pooled unless told otherwise.

        That of its edge; but that of its teacher where this finds the consolidation that the
        stage declares, which an edge alone cannot show.
        """
        found = self.of(stage, scope) if scope else next(self._pooled(stage), [])
        near = [verdict for verdict in found if verdict.relation in ("edge", "teacher")]
        taught = (
            verdict
            for verdict in near
            if verdict.relation == "teacher"
            and verdict.measured == "consolidation"
            and "consolidation" in stage.roles
        )
        return next(taught, near[0] if near else None)

    def _pooled(self, stage: Checkpoint) -> Iterator[list[Verdict]]:
        """What is pooled first; of a run with one task only, that task's."""
        for scope in self.lineage.scopes:
            if scope.kind == "pooled" or len(self.lineage.tasks) == 1:
                found = self.of(stage, scope)
                if found:
                    yield found


def _verdict(row: Row) -> Verdict:
    return Verdict(
        row["source"],
        row["relation"],
        row["role_measured"],
        row["verdict"],
        tuple(row["role_declared"] or ()),
        bool(row["attrition"]),
        bool(row["harmful_reshaping"]),
        row["comparable"],
        row["reason"] or "",
        row["tasks"],
    )
