"""What the plugins added: typed, each entry under one name, remembering who added it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ptharness.errors import PluginError, PtharnessError, TaskError, near_misses

# The base classes are imported where they are checked: `ptharness --help` needs none of them.
if TYPE_CHECKING:
    import click

    from ptharness.engines.base import Engine
    from ptharness.executors.base import Executor
    from ptharness.methods import Method
    from ptharness.tasks.base import Group, Listing, Task, TaskProvider

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Which plugin added an entry, and the distribution that the plugin came with."""

    plugin: str
    distribution: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {self.distribution}"


UNKNOWN_ORIGIN = Origin("(none)", "(none)")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One thing that a plugin added.

    `content` is the thing, or `"module:attribute"`, which is imported when first asked for.
    """

    name: str
    aliases: tuple[str, ...]
    content: T | str
    summary: str
    origin: Origin

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)


class Catalogue(Generic[T]):
    """The entries of one kind, under their names and aliases.

    Raises `PluginError` where an entry is not of the kind, `problem` says what is wrong with
    it, or a name is taken; a look-up raises `PtharnessError` naming near misses.
    """

    def __init__(
        self,
        kind: str,
        origin: Callable[[], Origin],
        accepts: Callable[[Any], bool],
        listed_by: str = "",
        problem: Callable[[Any], str] | None = None,
    ) -> None:
        self.kind, self.listed_by = kind, listed_by
        self._origin, self._accepts, self._problem = origin, accepts, problem
        self._entries: dict[str, Entry[T]] = {}
        self._by_name: dict[str, Entry[T]] = {}

    def add(
        self,
        content: T | str,
        *,
        name: str = "",
        aliases: Sequence[str] = (),
        summary: str = "",
    ) -> None:
        """Add one thing, or where to import it from as `"module:attribute"`.

        Name and aliases are taken from its own `name` and `aliases` unless given.
        """
        origin = self._origin()
        given = getattr(content, "name", "")
        name = name or (given if isinstance(given, str) else "")
        if not isinstance(content, str):
            self._check(name, content, origin)
        if not name:
            raise PluginError(f"{origin} adds {self.kind} {content!r} without a name; give name=")
        if not isinstance(content, str):
            aliases = tuple(aliases) or tuple(getattr(content, "aliases", ()))
        entry = Entry(name, tuple(aliases), content, summary, origin)
        for label in entry.names:
            if label in self._by_name:
                raise PluginError(
                    f"{origin} adds {self.kind} {label!r}, which {self._by_name[label].origin} "
                    f"has added already; rename it, or leave one out with --no-plugin"
                )
        self._entries[name] = entry
        self._by_name |= dict.fromkeys(entry.names, entry)

    def get(self, name: str) -> T:
        """The thing with this name or alias."""
        entry = self.entry(name)
        if isinstance(entry.content, str):
            content = _import(entry)
            self._check(name, content, entry.origin)
            return cast(T, content)
        return entry.content

    def entry(self, name: str) -> Entry[T]:
        """The entry with this name or alias."""
        if name not in self._by_name:
            listed = f"; `{self.listed_by}` lists them" if self.listed_by else ""
            raise PtharnessError(
                f"unknown {self.kind} {name!r}{near_misses(name, self._by_name)}{listed}"
            )
        return self._by_name[name]

    def names(self) -> tuple[str, ...]:
        """Every name and alias."""
        return tuple(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Entry[T]]:
        """The entries in the order in which they were added."""
        return iter(self._entries.values())

    def _check(self, name: str, content: Any, origin: Origin) -> None:
        named = f"{self.kind} {name!r}" if name else self.kind
        if not self._accepts(content):
            raise PluginError(
                f"{origin} adds {content!r} as {named}, which is not one; "
                "docs/reference/hooks.md says what to add"
            )
        if self._problem and (problem := self._problem(content)):
            raise PluginError(f"{origin} adds {named} {type(content).__name__}: {problem}")


def _import(entry: Entry[Any]) -> Any:
    module, _, attribute = entry.content.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except PtharnessError:
        raise
    except Exception as error:
        raise PluginError(
            f"{entry.origin}: {entry.content} cannot be imported: {type(error).__name__}: {error}"
        ) from error


class TaskCatalogue:
    """The task providers, asked in the order in which they were added."""

    def __init__(self, origin: Callable[[], Origin]) -> None:
        self._origin = origin
        self._providers: list[tuple[TaskProvider, Origin]] = []
        self._last: list[tuple[TaskProvider, Origin]] = []

    def add(self, provider: TaskProvider, *, last_resort: bool = False) -> None:
        """Add a provider of tasks. Raises `PluginError` if it is none.

        A `last_resort` is asked only for what no other provider knows: looking into it is
        slow, and its names may be taken.
        """
        from ptharness.tasks.base import TaskProvider

        if not isinstance(provider, TaskProvider):
            raise PluginError(f"{self._origin()} adds {provider!r}, which is no TaskProvider")
        (self._last if last_resort else self._providers).append((provider, self._origin()))

    def add_folder(self, path: Path | str) -> None:
        """Add every task, group and tag of a folder of lm-eval YAML files.

        Groups in it may name lm-eval's own tasks.
        """
        from ptharness.tasks.catalogue import LmEvalCatalogue, YamlFolder

        origin = self._origin().plugin
        self.add(YamlFolder(Path(path), origin=origin, fallback=LmEvalCatalogue()))

    def find(self, reference: str, folder: Path) -> Sequence[Task]:
        """The tasks that a name, group, tag or path means; relative paths start at `folder`.

        Raises `TaskError` where no provider knows it (with near misses), or where two do.
        """
        for providers in (self._providers, self._last):
            found = [
                (tasks, provider.origin)
                for provider, _ in providers
                if (tasks := provider.find(reference, folder))
            ]
            if len(found) > 1:
                origins = " and ".join(repr(origin) for _, origin in found)
                raise TaskError(
                    f"task {reference!r} is provided by {origins}; give the path of the YAML "
                    "file that you mean, or leave one plugin out with --no-plugin"
                )
            if found:
                return found[0][0]
        names = {listing.name for listing in self.listings()}
        raise TaskError(
            f"unknown task {reference!r}{near_misses(reference, names)}; "
            "`ptharness tasks TEXT` searches, and the path of a YAML file is a task too"
        )

    def groups(self, reference: str, folder: Path) -> Sequence[Group]:
        """The groups among what a reference means, by the provider that `find` asked."""
        for providers in (self._providers, self._last):
            for provider, _ in providers:
                if groups := provider.groups(reference, folder):
                    return groups
                if provider.find(reference, folder):
                    return ()
        return ()

    def listings(self) -> Sequence[Listing]:
        """Every task, group and tag of every provider."""
        return [listing for provider, _ in self for listing in provider.listings()]

    def __iter__(self) -> Iterator[tuple[TaskProvider, Origin]]:
        return iter((*self._providers, *self._last))


def _is_method(content: Any) -> bool:
    from ptharness.methods import Method

    return isinstance(content, Method)


def _method_problem(content: Any) -> str:
    from ptharness.method_problems import method_problem

    return method_problem(content)


def _is_engine(content: Any) -> bool:
    from ptharness.engines.base import Engine

    return isinstance(content, type) and issubclass(content, Engine)


def _is_command(content: Any) -> bool:
    import click

    return isinstance(content, click.Command)


def _is_executor(content: Any) -> bool:
    from ptharness.executors.base import Executor

    return isinstance(content, type) and issubclass(content, Executor)


@dataclass
class Registry:
    """Everything that the plugins added, by kind. `origin` is the plugin adding right now."""

    origin: Origin = UNKNOWN_ORIGIN
    methods: Catalogue[Method] = field(init=False)
    tasks: TaskCatalogue = field(init=False)
    engines: Catalogue[type[Engine]] = field(init=False)
    executors: Catalogue[type[Executor]] = field(init=False)
    analyses: Catalogue[Callable[..., Any]] = field(init=False)
    commands: Catalogue[click.Command] = field(init=False)

    def __post_init__(self) -> None:
        def now() -> Origin:
            return self.origin

        self.methods = Catalogue("method", now, _is_method, "ptharness methods", _method_problem)
        self.tasks = TaskCatalogue(now)
        self.engines = Catalogue("engine", now, _is_engine, "ptharness engines")
        self.executors = Catalogue("executor", now, _is_executor)
        self.analyses = Catalogue("analysis", now, callable)
        self.commands = Catalogue("command", now, _is_command)
