"""How commands print: tables for people, JSON for programs. All text is made safe here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any

import click

from ptharness.text import safe

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
"""The option that every command with something to show has."""

PIPE_WIDTH = 160
"""Columns where standard output is no terminal and its width is not known."""


def print_json(value: Any) -> None:
    """JSON in ASCII: what is not ASCII is escaped, so no text can reach the terminal raw."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str = "",
    spare: Sequence[str] = (),
) -> None:
    """A table whose cells are shown as they are: no markup, no control characters.

    Where a terminal is too narrow for a line a row, `spare` columns are left out, in this order.
    What is piped carries no blanks that only a terminal would fill.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else PIPE_WIDTH)
    cells = [[Text(safe(cell, keep_lines=True)) for cell in row] for row in rows]
    for left_out in range(len(spare) + 1):
        shown = [name not in spare[:left_out] for name in columns]
        table = Table(
            title=Text(safe(title)) if title else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for column in compress(columns, shown):
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*compress(row, shown))
        wide = console.options.update(max_width=10_000)
        if console.measure(table, options=wide).maximum <= console.width:
            break
    if terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table, soft_wrap=True)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n"))


def print_text(text: str) -> None:
    """A line of text, made safe."""
    click.echo(safe(text, keep_lines=True))


def counted(number: int, noun: str) -> str:
    """A number and its noun: `1 problem`, `2 problems`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
