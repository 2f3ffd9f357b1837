"""Which tasks, groups and tags a folder of lm-eval YAML files defines, and what a name means.

A group is its leaf tasks, through nested groups and tags, each with the settings that the
groups on the way lay over it (as lm-eval's own factory merges them); a tag is its members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptharness.errors import TaskError, near_misses
from ptharness.tasks.yaml_sources import read_config

_IGNORED_FOLDERS = {"__pycache__", ".ipynb_checkpoints"}
_GROUP_KEYS = {"group", "group_alias", "task", "aggregate_metric_list", "metadata"}
"""Keys of a group's YAML that describe the group; any other is a setting for its tasks."""


@dataclass(frozen=True)
class TaskIndex:
    """Names in one folder: tasks and groups with their YAML file, tags with their members."""

    tasks: Mapping[str, Path] = field(default_factory=dict)
    groups: Mapping[str, Path] = field(default_factory=dict)
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.tasks or name in self.groups or name in self.tags

    def names(self) -> Iterator[str]:
        """Every name that means something here."""
        yield from self.tasks
        yield from self.groups
        yield from self.tags


Lookup = Callable[[], TaskIndex]
"""An index that is built when a name is first looked for in it."""


@dataclass(frozen=True)
class Leaf:
    """One task that a name came down to.

    `settings` are laid over the YAML's own; for an `inline` one, written out in a group's
    YAML (`path`), they are all there is.
    """

    name: str
    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    inline: bool = False


@dataclass(frozen=True)
class GroupNode:
    """A group that a name came down through: its leaf tasks, and what it reports of them.

    `aggregations` are the entries of `aggregate_metric_list` as they are written in `path`.
    """

    name: str
    path: Path
    leaves: tuple[str, ...]
    aggregations: Sequence[Any]


@dataclass(frozen=True)
class Expansion:
    """What a name means: its leaf tasks, each once, and the groups on the way, outer ones first."""

    leaves: tuple[Leaf, ...] = ()
    groups: tuple[GroupNode, ...] = ()


def index_folder(folder: Path, *, recursive: bool = True) -> TaskIndex:
    """Read every `*.yaml` of a folder. A file that is no task or group is left out, as in lm-eval.

    Of two files that define the same name, the first by path counts.
    """
    files = folder.rglob("*.yaml") if recursive else folder.glob("*.yaml")
    remembered: dict[Path, Any] = {}
    tasks: dict[str, Path] = {}
    groups: dict[str, Path] = {}
    tags: dict[str, list[str]] = {}
    for path in sorted(files, key=lambda file: file.as_posix()):
        if _IGNORED_FOLDERS.intersection(path.parts):
            continue
        try:
            config, _ = read_config(path, remembered=remembered)
        except TaskError:
            continue
        name, kind = kind_of(config)
        if kind == "group" and name not in groups:
            groups[name] = path
        elif kind == "task" and name not in tasks:
            tasks[name] = path
            for tag in _as_list(config.get("tag")):
                tags.setdefault(str(tag), []).append(name)
    return TaskIndex(tasks, groups, {tag: sorted(members) for tag, members in tags.items()})


def kind_of(config: Mapping[str, Any]) -> tuple[str, str]:
    """Name and kind (task or group) of a YAML; an empty kind for a template of others."""
    if "group" in config and not isinstance(config.get("task"), str):
        return str(config["group"]), "group"
    if isinstance(config.get("task"), str):
        return str(config["task"]), "task"
    return "", ""


def expand(name: str, indexes: Sequence[Lookup]) -> Expansion:
    """What a name means; nothing where no index knows the name.

    Raises `TaskError` for a group that names an unknown member or contains itself.
    """
    walk = _Walk(indexes)
    return walk.expansion(walk.named(name, {}, ()))


def expand_file(path: Path, indexes: Sequence[Lookup]) -> Expansion:
    """What one YAML file defines. Raises `TaskError` if it is neither task nor group."""
    config, _ = read_config(path)
    name, kind = kind_of(config)
    if kind == "group":
        walk = _Walk(indexes)
        return walk.expansion(walk.group(name, config, path, {}, (name,)))
    if kind == "task":
        return Expansion((Leaf(name, path),))
    raise TaskError(f"{path}: defines neither a task nor a group; it needs `task:` or `group:`")


class _Walk:
    def __init__(self, indexes: Sequence[Lookup]) -> None:
        self.indexes = indexes
        self.groups: list[GroupNode] = []

    def expansion(self, leaves: Iterator[Leaf]) -> Expansion:
        once = {leaf.name: leaf for leaf in leaves}
        # A group is met after those inside it.
        return Expansion(tuple(once.values()), tuple(reversed(self.groups)))

    def named(
        self, name: str, settings: Mapping[str, Any], trail: tuple[str, ...]
    ) -> Iterator[Leaf]:
        if name in trail:
            raise TaskError(f"group {name!r} contains itself: {' -> '.join((*trail, name))}")
        index = next((known for index in self.indexes if name in (known := index())), None)
        if index is None:
            return
        if name in index.tasks:
            yield Leaf(name, index.tasks[name], settings)
        elif name in index.groups:
            path = index.groups[name]
            config, _ = read_config(path)
            below = {key: value for key, value in settings.items() if key != "task"}
            yield from self.group(name, config, path, below, (*trail, name))
        else:
            for member in index.tags[name]:
                yield from self.named(member, settings, (*trail, name))

    def group(
        self,
        group: str,
        config: Mapping[str, Any],
        path: Path,
        settings: Mapping[str, Any],
        trail: tuple[str, ...],
    ) -> Iterator[Leaf]:
        """The leaves of a group, which is remembered."""
        leaves: dict[str, None] = {}
        below = {key: value for key, value in config.items() if key not in _GROUP_KEYS}
        below |= settings
        for member in _as_list(config.get("task")):
            for leaf in self._member(group, member, path, below, trail):
                leaves[leaf.name] = None
                yield leaf
        aggregations = _as_list(config.get("aggregate_metric_list"))
        self.groups.append(GroupNode(group, path, tuple(leaves), aggregations))

    def _member(
        self,
        group: str,
        member: Any,
        path: Path,
        settings: Mapping[str, Any],
        trail: tuple[str, ...],
    ) -> Iterator[Leaf]:
        if isinstance(member, Mapping) and "group" in member:
            name = str(member["group"])
            if self._known(name):
                own = {key: value for key, value in member.items() if key != "group"}
                yield from self.named(name, {**settings, **own}, trail)
            else:
                inner = f"{group}::{name}"
                yield from self.group(inner, member, path, settings, (*trail, inner))
            return
        if isinstance(member, Mapping) and "task" in member:
            name, own = str(member["task"]), {**settings, **member}
        elif isinstance(member, str):
            name, own = member, dict(settings)
        else:
            raise TaskError(f"{path}: task: {member!r} is neither a name nor has `task:`/`group:`")
        if self._known(name):
            yield from self.named(name, own, trail)
        elif isinstance(member, Mapping) and {"dataset_path", "custom_dataset"} & own.keys():
            yield Leaf(f"{group}::{name}", path, own | {"task": f"{group}::{name}"}, inline=True)
        else:
            known = [other for index in self.indexes for other in index().names()]
            raise TaskError(f"{path}: task: {name!r} is unknown{near_misses(name, known)}")

    def _known(self, name: str) -> bool:
        return any(name in index() for index in self.indexes)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
