"""What every command shares: the plugins chosen on the command line, and the registry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptharness.plugins import Plugins
    from ptharness.registry import Registry


@dataclass
class Session:
    """The global options; click hands it to commands by `@click.pass_obj`.

    `installed` says whether plugins of other distributions are loaded.
    """

    named: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    installed: bool = True

    @cached_property
    def plugins(self) -> Plugins:
        """The loaded plugins."""
        from ptharness.plugins import load_plugins

        return load_plugins(self.named, self.disabled, installed=self.installed)

    @cached_property
    def registry(self) -> Registry:
        """Everything that the plugins added."""
        return self.plugins.registry()
