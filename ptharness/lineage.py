"""Checkpoints, the stages that made them, and the graph they form: frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ptharness.errors import ManifestError
from ptharness.taxonomy import Interface, Provenance, Role


@dataclass(frozen=True)
class Stage:
    """The training step that made a checkpoint from its parents.

    `provenance`, `interface` and `roles` are what the method plugin or the manifest
    *declares*; what the data shows is measured elsewhere and never stored here.
    """

    method: str
    parents: tuple[str, ...]
    provenance: Provenance
    interface: Interface
    roles: tuple[Role, ...]
    reason: str = ""
    teacher: str | None = None
    trajectories: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """Weights, tokenizer and chat template on disk, and the stage that made them.

    `directory` holds the weights; with `adapter`, a LoRA adapter folder that is served on top
    of them. `source` is what the manifest says (a path or a hub id). The same weights under
    two names with different `replicate` give two independent sets of samples. `step` is the
    training step within the stage, of a root within its pre-training.
    """

    name: str
    directory: Path
    source: str
    adapter: Path | None = None
    replicate: int = 0
    stage: Stage | None = None
    step: int | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the checkpoints this one was trained from; empty for a root."""
        return self.stage.parents if self.stage else ()

    @property
    def tokenizer_directory(self) -> Path:
        """The adapter's folder if it brings a tokenizer, else the weights' folder."""
        if self.adapter and (self.adapter / "tokenizer_config.json").exists():
            return self.adapter
        return self.directory


@dataclass(frozen=True)
class Edge:
    """An ordered pair of checkpoints to compare; `relation` is edge, path or teacher."""

    source: str
    target: str
    relation: str


@dataclass(frozen=True)
class Lineage:
    """The directed acyclic graph of checkpoints, parents before children.

    Raises `ManifestError` where the checkpoints do not form one: an unknown parent or
    teacher, or a cycle (which is named).
    """

    name: str
    checkpoints: tuple[Checkpoint, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "checkpoints", _parents_first(self.checkpoints))

    @cached_property
    def by_name(self) -> Mapping[str, Checkpoint]:
        """The checkpoints under their names."""
        return {checkpoint.name: checkpoint for checkpoint in self.checkpoints}

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """Stages on the longest way from a root: 0 for a root."""
        depths: dict[str, int] = {}
        for checkpoint in self.checkpoints:
            depths[checkpoint.name] = max(
                (depths[parent] + 1 for parent in checkpoint.parents), default=0
            )
        return depths

    def edges(self) -> Iterator[Edge]:
        """Parent -> child, then root -> checkpoint over two or more stages, then teacher."""
        for child in self.checkpoints:
            for parent in child.parents:
                yield Edge(parent, child.name, "edge")
        for child in self.checkpoints:
            for root in self._roots[child.name]:
                if root != child.name and root not in child.parents:
                    yield Edge(root, child.name, "path")
        for child in self.checkpoints:
            if child.stage and child.stage.teacher:
                yield Edge(child.stage.teacher, child.name, "teacher")

    def relation(self, source: str, target: str) -> str:
        """What the source is to the target: child, parent, student, teacher, descendant, ancestor
        or other."""
        below, above = self.by_name[source], self.by_name[target]
        if target in below.parents:
            return "child"
        if source in above.parents:
            return "parent"
        if below.stage and below.stage.teacher == target:
            return "student"
        if above.stage and above.stage.teacher == source:
            return "teacher"
        if target in self._ancestors[source]:
            return "descendant"
        return "ancestor" if source in self._ancestors[target] else "other"

    @cached_property
    def _ancestors(self) -> Mapping[str, frozenset[str]]:
        """All checkpoints above each."""
        above: dict[str, frozenset[str]] = {}
        for one in self.checkpoints:
            above[one.name] = frozenset(one.parents).union(*(above[p] for p in one.parents))
        return above

    @cached_property
    def _roots(self) -> Mapping[str, tuple[str, ...]]:
        """The roots above each checkpoint; a root's own is itself."""
        roots: dict[str, tuple[str, ...]] = {}
        for checkpoint in self.checkpoints:
            above = [root for parent in checkpoint.parents for root in roots[parent]]
            roots[checkpoint.name] = tuple(dict.fromkeys(above)) or (checkpoint.name,)
        return roots


def _parents_first(checkpoints: tuple[Checkpoint, ...]) -> tuple[Checkpoint, ...]:
    """Order parents (and teachers) before children, otherwise as written; name any cycle."""
    by_name = {checkpoint.name: checkpoint for checkpoint in checkpoints}
    ordered: dict[str, Checkpoint] = {}
    for start in checkpoints:
        # A stack of our own: a chain of stages may be longer than Python's.
        trail = {start.name: _needed(start)}
        while trail:
            name = next(reversed(trail))
            missing = next((other for other in trail[name] if other not in ordered), None)
            if missing is None:
                ordered[name] = by_name[name]
                del trail[name]
            elif missing in trail:
                names = list(trail)
                cycle = " -> ".join((*names[names.index(missing) :], missing))
                raise ManifestError(
                    f"the checkpoints form a cycle: {cycle}; remove one of these parents "
                    "or teachers",
                    key=f"checkpoints.{missing}.parent",
                )
            else:
                trail[missing] = _needed(by_name[missing])
    return tuple(ordered.values())


def _needed(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What must come before a checkpoint: its parents and its teacher."""
    teacher = checkpoint.stage.teacher if checkpoint.stage else None
    return (*checkpoint.parents, *((teacher,) if teacher else ()))
