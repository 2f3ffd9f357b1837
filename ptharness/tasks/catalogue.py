"""Finds tasks: in a folder of YAML files, in lm-eval's own catalogue, or at a path."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

from ptharness.errors import TaskError
from ptharness.fingerprint import cache_directory, digest, write_atomically
from ptharness.tasks.base import Aggregation, Group, Listing, Task, TaskProvider
from ptharness.tasks.lm_eval import LmEvalTask, folder_name
from ptharness.tasks.task_index import (
    Expansion,
    GroupNode,
    Leaf,
    Lookup,
    TaskIndex,
    expand,
    expand_file,
    index_folder,
)
from ptharness.tasks.yaml_sources import FunctionReference

_INDEX_FORMAT = "1"


def lm_eval_tasks_folder() -> Path | None:
    """Where lm-eval keeps its tasks, found without importing it; None if not installed."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]).resolve() / "tasks"


class _IndexedProvider(TaskProvider):
    """A provider with an index of names; `trusted` folders hold code that may run unnamed."""

    def __init__(
        self, origin: str, trusted: Sequence[Path], fallback: _IndexedProvider | None = None
    ) -> None:
        self.origin, self.trusted, self.fallback = origin, tuple(trusted), fallback

    @property
    def index(self) -> TaskIndex:
        """The names that this provider knows."""
        raise NotImplementedError

    def find(self, reference: str, folder: Path) -> Sequence[Task]:
        """The tasks of that name, group or tag; empty if it is none of these."""
        return [self._task(leaf) for leaf in self._expand(reference, folder).leaves]

    def groups(self, reference: str, folder: Path) -> Sequence[Group]:
        """The groups among them, as their YAML describes them. Raises `TaskError`."""
        return [_group(node) for node in self._expand(reference, folder).groups]

    def _expand(self, reference: str, folder: Path) -> Expansion:  # noqa: ARG002
        if reference not in self.index:
            return Expansion()
        return expand(reference, self._chain(lambda: self.index))

    def _chain(self, first: Lookup) -> Sequence[Lookup]:
        """`first`, then the fallback's names, built only where `first` lacks one."""
        fallback = self.fallback
        return [first] if fallback is None else [first, lambda: fallback.index]

    def _task(self, leaf: Leaf) -> Task:
        return LmEvalTask(leaf.name, leaf.path, leaf.settings, leaf.inline, self._trusted())

    def _trusted(self) -> tuple[Path, ...]:
        own = lm_eval_tasks_folder()
        return (*self.trusted, *([own.parent] if own else []))

    def listings(self) -> Sequence[Listing]:
        """Tasks, groups and tags, each with its file."""
        index = self.index
        files = [("task", index.tasks), ("group", index.groups)]
        named = [
            Listing(name, kind, self.origin, str(path))
            for kind, paths in files
            for name, path in paths.items()
        ]
        return named + [Listing(name, "tag", self.origin) for name in index.tags]


def _group(node: GroupNode) -> Group:
    aggregations = []
    for entry in node.aggregations:
        where = f"{node.path}: aggregate_metric_list"
        if not isinstance(entry, Mapping) or "metric" not in entry:
            raise TaskError(f"{where}: {entry!r} has no `metric:`; write `- {{metric: NAME}}`")
        # As in lm-eval, a function of the group's own changes nothing: it is always the mean.
        way = entry.get("aggregation", "mean")
        if way != "mean" and not isinstance(way, FunctionReference):
            raise TaskError(f"{where}: aggregation: {way!r} is not supported (supported: mean)")
        filters = entry.get("filter_list")
        names = [filters] if isinstance(filters, str) else filters
        if not (names is None or isinstance(names, list)):
            raise TaskError(
                f"{where}: filter_list: {names!r} is neither a name nor a list of names"
            )
        # A function is no metric's name, so lm-eval finds nothing to aggregate.
        if not isinstance(entry["metric"], FunctionReference):
            chosen = None if names is None else tuple(str(name) for name in names)
            by_size = bool(entry.get("weight_by_size", True))
            aggregations.append(Aggregation(str(entry["metric"]), chosen, by_size))
    tasks = tuple(folder_name(leaf) for leaf in node.leaves)
    return Group(folder_name(node.name), tasks, tuple(aggregations))


class LmEvalCatalogue(_IndexedProvider):
    """lm-eval's own tasks, groups and tags.

    Reading its 14,000 YAML files takes half a minute, so what they define is remembered
    per version and place of installation.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__("lm-eval", ())
        self._given = folder

    @cached_property
    def index(self) -> TaskIndex:
        """Read from the cache, or built once with a notice. Empty if lm-eval is not installed."""
        folder = self._given or lm_eval_tasks_folder()
        if folder is None or not folder.is_dir():
            return TaskIndex()
        remembered = _index_file(folder)
        index = _read_index(remembered, folder)
        if index is None:
            sys.stderr.write(
                "ptharness: reading lm-eval's task catalogue (once per installed version) ...\n"
            )
            index = index_folder(folder)
            write_atomically(remembered, _index_as_json(index, folder))
        return index

    def _trusted(self) -> tuple[Path, ...]:
        return (*super()._trusted(), *([self._given] if self._given else []))


def _index_file(folder: Path) -> Path:
    try:
        version = metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        version = "none"
    key = digest(_INDEX_FORMAT, version, str(folder))[:12]
    return cache_directory() / "catalogue" / f"lm-eval-{version}-{key}.json"


def _index_as_json(index: TaskIndex, folder: Path) -> bytes:
    def relative(paths: Mapping[str, Path]) -> dict[str, str]:
        return {name: path.relative_to(folder).as_posix() for name, path in paths.items()}

    tags = {name: list(members) for name, members in index.tags.items()}
    content = {"tasks": relative(index.tasks), "groups": relative(index.groups), "tags": tags}
    return json.dumps(content).encode()


def _read_index(file: Path, folder: Path) -> TaskIndex | None:
    try:
        content = json.loads(file.read_bytes())
        return TaskIndex(
            {name: folder / path for name, path in content["tasks"].items()},
            {name: folder / path for name, path in content["groups"].items()},
            content["tags"],
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


class YamlFolder(_IndexedProvider):
    """The tasks of a folder of YAML files, a plugin's for example.

    Its groups may name lm-eval's tasks (those of `fallback`) too. `trusted` says whether the
    folder's own `!function` code counts as installed on purpose, as a plugin's does.
    """

    def __init__(
        self,
        folder: Path,
        origin: str,
        *,
        trusted: bool = True,
        fallback: _IndexedProvider | None = None,
    ) -> None:
        self.folder = folder.resolve()
        super().__init__(origin, (self.folder,) if trusted else (), fallback or LmEvalCatalogue())

    @cached_property
    def index(self) -> TaskIndex:
        """Read from the files, once. Raises `TaskError` where the folder is missing."""
        if not self.folder.is_dir():
            raise TaskError(f"{self.folder}: the task folder of {self.origin} is missing")
        return index_folder(self.folder)


class PathTasks(_IndexedProvider):
    """The tasks of one YAML file that a manifest names by its path.

    A group in it may name tasks of the files beside it and those of `fallback`. Naming the
    file is consent to run its `!function` code; `LmEvalTask.foreign_code` says what that is.
    """

    def __init__(self, fallback: _IndexedProvider | None = None) -> None:
        super().__init__("path", (), fallback or LmEvalCatalogue())

    @property
    def index(self) -> TaskIndex:
        """Empty: a path is not a name."""
        return TaskIndex()

    def _expand(self, reference: str, folder: Path) -> Expansion:
        """What a `*.yaml` file defines; nothing for a reference that is no such path.

        Raises `TaskError` for a path to a file that is missing or is no task.
        """
        if not reference.endswith((".yaml", ".yml")):
            return Expansion()
        path = (folder / Path(reference).expanduser()).resolve()
        if not path.is_file():
            raise TaskError(f"{reference}: there is no such file in {folder}")
        beside = cache(lambda: index_folder(path.parent, recursive=False))
        return expand_file(path, self._chain(beside))
