"""The lineage as the report sees it: checkpoints in order, the main path, the scopes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ptharness.report.tables import Row, Tables


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with what was declared of the stage that made it."""

    index: int
    name: str
    parents: tuple[str, ...]
    teacher: str | None
    method: str | None
    provenance: str | None
    roles: tuple[str, ...]
    step: int | None
    replicate: int
    fingerprint: str | None
    declaration: str | None


@dataclass(frozen=True)
class Scope:
    """What an estimate rests on: one task, the tasks of a tag, or all of them."""

    index: int
    kind: str
    name: str

    @property
    def label(self) -> str:
        """As the page calls it."""
        if self.kind == "pooled":
            return "all tasks (mean)"
        return f"tag {self.name} (mean)" if self.kind == "tag" else self.name


@dataclass(frozen=True)
class Lineage:
    """Checkpoints, parents first, and the scopes that the tables have, pooled first."""

    name: str
    checkpoints: tuple[Checkpoint, ...]
    scopes: tuple[Scope, ...]
    _scope_of: dict[tuple[str, str], Scope] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Checkpoint]:
        return {checkpoint.name: checkpoint for checkpoint in self.checkpoints}

    @cached_property
    def tasks(self) -> tuple[Scope, ...]:
        return tuple(scope for scope in self.scopes if scope.kind == "task")

    @cached_property
    def stages(self) -> tuple[Checkpoint, ...]:
        """Checkpoints that a stage made."""
        return tuple(checkpoint for checkpoint in self.checkpoints if checkpoint.parents)

    @cached_property
    def leaves(self) -> tuple[Checkpoint, ...]:
        """Checkpoints that nothing was trained from."""
        used = {parent for checkpoint in self.checkpoints for parent in checkpoint.parents}
        return tuple(c for c in self.checkpoints if c.name not in used and c.parents)

    @cached_property
    def main_path(self) -> tuple[Checkpoint, ...]:
        """The longest way from a root; of several the one that comes first in the manifest.

        A merge is followed up its first parent, and a teacher is no parent. A stage's earlier
        steps come before its end and yet give way to it.
        """
        ways: dict[str, tuple[Checkpoint, ...]] = {}
        for checkpoint in self.checkpoints:
            before = max((ways.get(p, ()) for p in checkpoint.parents), key=len, default=())
            ways[checkpoint.name] = (*before, checkpoint)
        return max(
            ways.values(), key=lambda way: (len(way), not self.is_on_the_way(way[-1])), default=()
        )

    def is_on_the_way(self, checkpoint: Checkpoint) -> bool:
        """Whether it is an earlier step of a stage whose end is there too, as `steps:` names it."""
        end = self.by_name.get(checkpoint.name.removesuffix(f"-{checkpoint.step}"))
        return end is not None and end != checkpoint and end.parents == checkpoint.parents

    def scope(self, row: Row) -> Scope | None:
        """The scope of a row."""
        return self._scope_of.get((row["scope"], row["task"]))

    def known(self, name: str) -> bool:
        return name in self.by_name

    def order(self, name: str) -> int:
        """Place in the lineage; strangers last."""
        found = self.by_name.get(name)
        return len(self.checkpoints) if found is None else found.index


def read_lineage(tables: Tables) -> Lineage:
    """The lineage of the published tables, with the scopes of all tables."""
    rows = tables.rows("checkpoints")
    checkpoints = tuple(
        Checkpoint(
            index,
            row["checkpoint"],
            tuple(row["parents"] or ()),
            row["teacher"],
            row["method"],
            row["provenance"],
            tuple(row["role"] or ()),
            row["step"],
            row["replicate"] or 0,
            row["fingerprint"],
            row["declaration"],
        )
        for index, row in enumerate(rows)
    )
    scopes = _scopes(tables)
    return Lineage(
        str(tables.run.get("lineage") or (rows[0]["lineage"] if rows else "?")),
        checkpoints,
        scopes,
        {(scope.kind, scope.name): scope for scope in scopes},
    )


def _scopes(tables: Tables) -> tuple[Scope, ...]:
    """Pooled, then tags, then tasks in the run's order."""
    found: dict[tuple[str, str], None] = {}
    for table in ("edges", "measures", "verdicts"):
        found.update(dict.fromkeys((r["scope"], r["task"]) for r in tables.rows(table)))
    run = tables.run.get("tasks")
    tasks = list(run) if isinstance(run, dict) else []
    found.update(dict.fromkeys(("task", task) for task in _metric_tasks(tables)))
    kinds = {"pooled": 0, "tag": 1}
    place = {task: number for number, task in enumerate(tasks)}
    ordered = sorted(
        found, key=lambda key: (kinds.get(key[0], 2), place.get(key[1], len(place)), key[1])
    )
    return tuple(Scope(number, *key) for number, key in enumerate(ordered))


def _metric_tasks(tables: Tables) -> Iterable[str]:
    rows = tables.rows("metrics")
    # A group is no task of its own.
    return dict.fromkeys(row["task"] for row in rows if row.get("tasks") is None)
