"""`ptharness zoo`: the bundled lineage's checkpoints, and training them again."""

from __future__ import annotations

import click


@click.group()
def zoo() -> None:
    """The bundled zoo of tiny checkpoints that were really trained."""
