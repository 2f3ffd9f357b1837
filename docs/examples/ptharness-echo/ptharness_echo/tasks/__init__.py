"""The tasks of this distribution: every YAML file in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl

if TYPE_CHECKING:
    from ptharness.registry import Registry


@hookimpl
def ptharness_register_tasks(registry: Registry) -> None:
    registry.tasks.add_folder(Path(__file__).parent)
