"""A plugin with the tasks of the parity matrix, as a third party would add its own folder."""

from pathlib import Path

from ptharness.hookspecs import hookimpl
from ptharness.registry import Registry


@hookimpl
def ptharness_register_tasks(registry: Registry) -> None:
    registry.tasks.add_folder(Path(__file__).parents[1] / "tasks" / "data" / "matrix")
