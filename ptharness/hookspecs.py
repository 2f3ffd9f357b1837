"""The hooks: every way in which a plugin takes part. docs/reference/hooks.md explains each.

A hook is added here only when a second real user of it exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from ptharness.registry import Registry
    from ptharness.results import Results

PROJECT = "ptharness"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ptharness_register_methods(registry: Registry) -> None:
    """Add kinds of training stage: `registry.methods.add(MyMethod())`."""


@hookspec
def ptharness_register_tasks(registry: Registry) -> None:
    """Add eval tasks: `registry.tasks.add_folder(path)` or `registry.tasks.add(provider)`."""


@hookspec
def ptharness_register_engines(registry: Registry) -> None:
    """Add engines: `registry.engines.add(MyEngine)`."""


@hookspec
def ptharness_register_executors(registry: Registry) -> None:
    """Add executors, which hand units to workers: `registry.executors.add(MyExecutor)`."""


@hookspec
def ptharness_register_analyses(registry: Registry) -> None:
    """Add analyses of published tables: `registry.analyses.add(my_analysis, name="mine")`."""


@hookspec
def ptharness_register_commands(registry: Registry) -> None:
    """Add commands of `ptharness`: `registry.commands.add(my_click_command)`."""


@hookspec
def ptharness_run_finished(results: Results) -> None:
    """Act on a run's published results: an exporter, a logger."""
