"""`ptharness engines`: what can generate."""

from __future__ import annotations

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table
from ptharness.cli.session import Session


@click.command()
@JSON_OPTION
@click.pass_obj
def engines(session: Session, as_json: bool) -> int:
    """List the engines that a manifest or `--engine` may name.

    \b
    Example:
        ptharness run lineage.yaml --engine vllm
    """
    described = [
        {
            "name": entry.name,
            "summary": entry.summary or _first_line(entry.content),
            "plugin": entry.origin.plugin,
            "distribution": entry.origin.distribution,
        }
        for entry in session.registry.engines
    ]
    if as_json:
        print_json(described)
        return 0
    print_table(("engine", "what it is", "plugin"), [tuple(row.values())[:3] for row in described])
    return 0


def _first_line(engine: object) -> str:
    return "" if isinstance(engine, str) else (engine.__doc__ or "").strip().partition("\n")[0]
