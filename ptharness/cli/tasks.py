"""`ptharness tasks`: what can be evaluated, by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table, print_text
from ptharness.cli.session import Session

MOST_ROWS = 60


@click.command()
@click.argument("text", required=False)
@click.option("--all", "show_all", is_flag=True, help=f"Print more than {MOST_ROWS} of an origin.")
@JSON_OPTION
@click.pass_obj
def tasks(session: Session, text: str | None, show_all: bool, as_json: bool) -> int:
    """List the eval tasks, groups and tags, or those whose name contains TEXT.

    Any of them may stand under `evaluate: tasks:` in a manifest; so may the path of a YAML
    file of your own.

    \b
    Example:
        ptharness tasks gsm8k
    """
    found = [
        listing
        for listing in session.registry.tasks.listings()
        if text is None or text.casefold() in listing.name.casefold()
    ]
    if as_json:
        print_json([asdict(listing) for listing in found])
        return 0
    if not found:
        print_text(f"no task contains {text!r}")
        return 0
    counts = Counter(listing.origin for listing in found)
    shown = [listing for listing in found if show_all or counts[listing.origin] <= MOST_ROWS]
    if shown:
        rows = [(listing.name, listing.kind, listing.origin) for listing in shown]
        print_table(("name", "kind", "origin"), rows)
    for origin, count in counts.items():
        if count > MOST_ROWS and not show_all:
            print_text(f"{origin}: {count:,} more; `ptharness tasks TEXT` searches, --all lists")
    return 0
