"""The zoo's part in ptharness: the command `ptharness zoo`, named by dotted string."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl

if TYPE_CHECKING:
    from ptharness.registry import Registry


@hookimpl
def ptharness_register_commands(registry: Registry) -> None:
    registry.commands.add(
        "ptharness_zoo.command:zoo",
        name="zoo",
        summary="List the bundled zoo's checkpoints, or train them again.",
    )
