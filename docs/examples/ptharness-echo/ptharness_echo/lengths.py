"""`ptharness lengths RESULTS`: how long the completions of each checkpoint are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table
from ptharness.hookspecs import hookimpl

if TYPE_CHECKING:
    from ptharness.registry import Registry


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@JSON_OPTION
def lengths(results: Path, as_json: bool) -> int:
    """Show the mean length of the completions in RESULTS, in tokens.

    \b
    Example:
        ptharness lengths results/arith
    """
    from ptharness import Results  # here, not above: every command loads this module

    samples = Results(results).read("samples", ["checkpoint", "task", "completion_tokens"])
    means = samples.groupby(["checkpoint", "task"], observed=True).completion_tokens.mean()
    rows = means.dropna().rename("mean_completion_tokens").reset_index().to_dict("records")
    if as_json:
        print_json(rows)
        return 0
    print_table(
        ("checkpoint", "task", "mean completion tokens"),
        [(*names, f"{mean:.1f}") for *names, mean in (row.values() for row in rows)],
    )
    return 0


@hookimpl
def ptharness_register_commands(registry: Registry) -> None:
    registry.commands.add(lengths, summary="Show how long the completions are.")
