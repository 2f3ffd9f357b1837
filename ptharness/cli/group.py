"""The group that finds commands through the plugins' hook, importing only the one that is run."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ptharness.cli.session import Session
from ptharness.errors import near_misses
from ptharness.registry import Catalogue


class CommandGroup(click.Group):
    """Commands as the plugins registered them; `--help` imports none of ours."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Names in the order in which they were added: the usual ones first."""
        return [entry.name for entry in _catalogue(context)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command, imported now; None if there is none."""
        commands = _catalogue(context)
        return commands.get(name) if name in commands else None

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown name gets its near misses."""
        if args and not args[0].startswith("-") and args[0] not in _catalogue(context):
            legal = self.list_commands(context)
            raise click.UsageError(
                f"no command {args[0]!r}{near_misses(args[0], legal)}", ctx=context
            )
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """One line per command, without importing the commands."""
        rows: Sequence[tuple[str, str]] = [
            (entry.name, entry.summary or _short_help(entry.content))
            for entry in _catalogue(context)
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def session_of(context: click.Context) -> Session:
    """The session of this invocation, made from the global options read so far."""
    if not isinstance(context.obj, Session):
        context.obj = Session(
            named=tuple(context.params.get("plugin") or ()),
            disabled=tuple(context.params.get("no_plugin") or ()),
        )
    return context.obj


def _catalogue(context: click.Context) -> Catalogue[click.Command]:
    session = session_of(context)
    if "commands" not in context.meta:
        context.meta["commands"] = session.plugins.registry(["commands"]).commands
    catalogue: Catalogue[click.Command] = context.meta["commands"]
    return catalogue


def _short_help(content: click.Command | str) -> str:
    return content.get_short_help_str(80) if isinstance(content, click.Command) else ""
