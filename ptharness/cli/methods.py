"""`ptharness methods`: the kinds of training stage, and what one declares and why."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table, print_text
from ptharness.cli.session import Session

if TYPE_CHECKING:
    from ptharness.methods import Method
    from ptharness.registry import Catalogue


@click.command()
@click.argument("name", required=False)
@JSON_OPTION
@click.pass_obj
def methods(session: Session, name: str | None, as_json: bool) -> int:
    """List the kinds of training stage, or explain NAME.

    A method says whose trajectories a stage learns from (provenance), how the correction is
    attached (interface) and what the stage is meant to do (role), with its reason.

    \b
    Example:
        ptharness methods dpo
    """
    catalogue = session.registry.methods
    if name is not None:
        return _explain(catalogue, name, as_json)
    described = [
        {
            **_describe(catalogue, entry.name),
            "names": [_describe(catalogue, alias) for alias in entry.names],
        }
        for entry in catalogue
    ]
    if as_json:
        print_json(described)
        return 0
    print_table(
        ("method", "also called", "provenance", "interface", "roles", "plugin"),
        [
            (
                method["name"],
                ", ".join(method["aliases"]),
                _distinct(name["provenance"] for name in method["names"]),
                _distinct(name["interface"] for name in method["names"]),
                _distinct(role for name in method["names"] for role in name["roles"]),
                method["plugin"],
            )
            for method in described
        ],
    )
    print_text("`ptharness methods NAME` gives the reason, the options and the literature.")
    return 0


def _distinct(values: Iterable[str]) -> str:
    """What the names of one family declare, each once: some families are not of one mind."""
    return ", ".join(dict.fromkeys(values))


def _describe(catalogue: Catalogue[Method], name: str) -> dict[str, Any]:
    """What a method declares for a stage without further settings."""
    from ptharness.evidence import declare
    from ptharness.methods import StageSettings

    entry, method = catalogue.entry(name), catalogue.get(name)
    declared = declare(catalogue, StageSettings(method=name))
    return {
        "name": name,
        "title": method.title,
        "family": entry.name,
        "aliases": list(entry.aliases),
        "options": list(method.options),
        "provenance": declared.provenance,
        "interface": declared.interface,
        "roles": list(declared.roles),
        "reason": declared.reason,
        "sources": list(declared.sources),
        "plugin": entry.origin.plugin,
        "distribution": entry.origin.distribution,
        "recognised_by": _recognised_by(method),
        "help": inspect.getdoc(type(method)) or "",
    }


def _recognised_by(method: Method) -> str:
    from ptharness.methods import Method as Base
    from ptharness.methods import told_by_detect

    if type(method).detect is Base.detect:
        return "nothing"
    told = " ".join(told_by_detect(method).split())
    return told or "its own check (a docstring of its `detect` would say which)"


def _explain(catalogue: Catalogue[Method], name: str, as_json: bool) -> int:
    described, entry = _describe(catalogue, name), catalogue.entry(name)
    if as_json:
        print_json(described)
        return 0
    names = ", ".join(entry.names)
    print_text(f"{name}: {described['title']} ({names})\n\n{described['help']}\n")
    print_table(
        ("declared", "for a stage without further settings"),
        [
            ("provenance", described["provenance"]),
            ("interface", described["interface"]),
            ("roles", ", ".join(described["roles"])),
            ("reason", described["reason"]),
            ("sources", "\n".join(described["sources"])),
            ("recognised by", described["recognised_by"]),
            ("from", entry.origin),
        ],
    )
    return 0
