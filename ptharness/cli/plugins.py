"""`ptharness plugins`: what is loaded, from where, and which hooks it implements."""

from __future__ import annotations

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table
from ptharness.cli.session import Session

PREFIX = "ptharness_"


@click.command()
@JSON_OPTION
@click.pass_obj
def plugins(session: Session, as_json: bool) -> int:
    """List the loaded plugins, where they come from, and the hooks that they implement.

    A distribution registers plugins under the entry-point group `ptharness`; `--plugin` loads
    one more, `--no-plugin NAME` and the environment's PTHARNESS_DISABLE leave one out.

    \b
    Example:
        ptharness --plugin my_plugin.py plugins
    """
    loaded = session.plugins
    described = [
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "location": plugin.location,
            "hooks": loaded.hooks_of(plugin),
        }
        for plugin in loaded.loaded
    ]
    if as_json:
        print_json(described)
        return 0
    print_table(
        ("plugin", "from", "where", "hooks"),
        [
            (
                plugin.name,
                plugin.distribution,
                plugin.location,
                "\n".join(hook.removeprefix(PREFIX) for hook in loaded.hooks_of(plugin)),
            )
            for plugin in loaded.loaded
        ],
    )
    return 0
