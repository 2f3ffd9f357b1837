"""Finding, loading and calling plugins. A factory makes the manager: there is no global one.

Built-ins go through the same hooks as anybody's, named by dotted strings. A plugin that fails
to load stops the program with its name, its distribution and the cause.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from ptharness import hookspecs
from ptharness.errors import PluginError, PtharnessError, near_misses
from ptharness.hookspecs import PROJECT
from ptharness.importing import import_file
from ptharness.registry import Origin, Registry

if TYPE_CHECKING:
    from ptharness.results import Results

BUILT_IN = {
    "builtin": "ptharness.builtin",
    "sft": "ptharness_methods.sft",
    "preference": "ptharness_methods.preference",
    "online_preference": "ptharness_methods.online_preference",
    "on_policy_rl": "ptharness_methods.on_policy_rl",
    "process_supervision": "ptharness_methods.process_supervision",
    "verifier_guided": "ptharness_methods.verifier_guided",
    "distillation": "ptharness_methods.distillation",
    "hybrid": "ptharness_methods.hybrid",
    "zoo": "ptharness_zoo.plugin",
}
"""Our own plugins: name -> module."""

KINDS = ("methods", "tasks", "engines", "executors", "analyses", "commands")


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: its name, what it is, and where it came from."""

    name: str
    content: object
    distribution: str
    location: str

    @property
    def origin(self) -> Origin:
        """What its entries remember."""
        return Origin(self.name, self.distribution)


@dataclass
class Plugins:
    """The plugins of one program run, in the order in which they were loaded.

    Made by `load_plugins`. `files` are those that were named by path: a child process must
    load them too.
    """

    manager: pluggy.PluginManager
    loaded: list[Plugin] = field(default_factory=list)
    disabled: frozenset[str] = frozenset()
    files: tuple[Path, ...] = ()

    def registry(self, kinds: Iterable[str] = KINDS) -> Registry:
        """A fresh registry, filled with the given kinds of things by every plugin."""
        registry = Registry()
        for kind in kinds:
            for plugin in self._implementing(f"{PROJECT}_register_{kind}"):
                registry.origin = plugin.origin
                self._call(plugin, f"{PROJECT}_register_{kind}", registry=registry)
        return registry

    def run_finished(self, results: Results) -> None:
        """Tell every plugin that a run has published its results."""
        for plugin in self._implementing(f"{PROJECT}_run_finished"):
            self._call(plugin, f"{PROJECT}_run_finished", results=results)

    def hooks_of(self, plugin: Plugin) -> list[str]:
        """The hooks that a plugin implements."""
        callers = self.manager.get_hookcallers(plugin.content) or []
        return sorted(caller.name for caller in callers)

    def _implementing(self, hook: str) -> Iterator[Plugin]:
        return (plugin for plugin in self.loaded if hook in self.hooks_of(plugin))

    def _call(self, plugin: Plugin, hook: str, **arguments: Any) -> None:
        others = [other.content for other in self.loaded if other is not plugin]
        try:
            self.manager.subset_hook_caller(hook, others)(**arguments)
        except PtharnessError:
            raise
        except Exception as error:
            raise PluginError(
                f"{plugin.origin} failed in {hook}: {type(error).__name__}: {error}; "
                f"`--no-plugin {plugin.name}` leaves it out"
            ) from error


def load_plugins(
    named: Sequence[str | Path] = (), disabled: Sequence[str] = (), *, installed: bool = True
) -> Plugins:
    """Load the built-in plugins, the installed ones and those `named` by module or file.

    `disabled` names plugins to leave out, as does the environment's `PTHARNESS_DISABLE`
    (separated by commas; names unknown there are ignored). `installed=False` leaves out what
    distributions registered under the entry-point group `ptharness`. Raises `PluginError`.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    from_environment = os.environ.get("PTHARNESS_DISABLE", "").split(",")
    blocked = {*disabled, *(name.strip() for name in from_environment)} - {""}
    plugins = Plugins(manager, disabled=frozenset(blocked))
    seen = [*BUILT_IN]
    for name, module in BUILT_IN.items():
        if name not in blocked:
            _add(plugins, name, _import_module(name, module, PROJECT), PROJECT, module)
    if installed:
        seen += _add_installed(plugins)
    seen += _add_named(plugins, named)
    for name in disabled:
        if name not in seen:
            raise PluginError(f"--no-plugin {name}: no such plugin{near_misses(name, seen)}")
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise _not_a_hook(plugins, error) from error
    return plugins


def _add_installed(plugins: Plugins) -> list[str]:
    """Load entry points, each once although its distribution may lie on the path twice."""
    unique = {
        (entry.name, entry.value): (entry, entry.dist.name if entry.dist else "an unknown package")
        for entry in entry_points(group=PROJECT)
    }
    for entry, distribution in unique.values():
        if entry.name in plugins.disabled:
            continue
        try:
            content = entry.load()
        except (Exception, SystemExit) as error:
            raise _failed(entry.name, distribution, error) from error
        _add(plugins, entry.name, content, distribution, entry.value)
    return [name for name, _ in unique]


def _add_named(plugins: Plugins, named: Sequence[str | Path]) -> list[str]:
    names = []
    for reference in named:
        path = Path(reference).expanduser()
        is_file = path.suffix == ".py" or os.sep in str(reference)
        name = path.stem if is_file else str(reference)
        names.append(name)
        if name in plugins.disabled:
            continue
        if not is_file:
            content = _import_module(name, name, f"module {name}")
            _add(plugins, name, content, f"module {name}", name)
            continue
        path = path.absolute()
        content = import_file(path)
        if Path(content.__file__ or "") != path:
            raise PluginError(
                f"{path}: a plugin file named {path.name} is loaded already, from "
                f"{content.__file__}; rename one"
            )
        plugins.files += (path,)
        _add(plugins, name, content, f"file {path}", str(path))
    return names


def _import_module(name: str, module: str, distribution: str) -> object:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _failed(name, distribution, error) from error


def _failed(name: str, distribution: str, error: BaseException) -> PluginError:
    return PluginError(
        f"{Origin(name, distribution)} failed to load: {type(error).__name__}: {error}; "
        f"repair it, or leave it out with `--no-plugin {name}`"
    )


def _add(plugins: Plugins, name: str, content: object, distribution: str, location: str) -> None:
    plugin = Plugin(name, content, distribution, location)
    for other in plugins.loaded:
        if other.name == name or other.content is content:
            raise PluginError(
                f"{plugin.origin} and {other.origin} are two plugins of one name (or one plugin "
                "named twice); rename or leave out one"
            )
    try:
        plugins.manager.register(content, name=name)
    except pluggy.PluginValidationError as error:
        text = " ".join(str(error).split())
        raise PluginError(f"{plugin.origin} has a hook of the wrong shape: {text}") from error
    plugins.loaded.append(plugin)
    unmarked = [
        attribute
        for attribute, value in inspect.getmembers(content, inspect.isroutine)
        if attribute.startswith(f"{PROJECT}_") and not hasattr(value, f"{PROJECT}_impl")
    ]
    if unmarked:
        raise PluginError(
            f"{plugin.origin}: {unmarked[0]} is not marked; put `@hookimpl` above it "
            "(from ptharness.hookspecs import hookimpl)"
        )
    if not plugins.manager.get_hookcallers(content):
        raise PluginError(f"{plugin.origin} implements no hook; docs/reference/hooks.md lists them")


def _not_a_hook(plugins: Plugins, error: pluggy.PluginValidationError) -> PluginError:
    """A misspelt hook, named with its plugin and the nearest real one."""
    legal = [name for name in vars(hookspecs) if name.startswith(f"{PROJECT}_")]
    for plugin in plugins.loaded:
        for hook in plugins.hooks_of(plugin):
            if hook not in legal:
                return PluginError(f"{plugin.origin}: no hook {hook!r}{near_misses(hook, legal)}")
    return PluginError(" ".join(str(error).split()))
