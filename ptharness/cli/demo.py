"""`ptharness demo`: the main job on the bundled lineage."""

from __future__ import annotations

from pathlib import Path

import click

from ptharness.cli.output import JSON_OPTION
from ptharness.cli.run import run_manifest
from ptharness.cli.session import Session

DOCUMENTS = 24
FULL_DOCUMENTS = 64
"""With fewer than all 200 documents the planted effects are plain already."""


@click.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder for units and tables.",
)
@click.option(
    "--full", is_flag=True, help="All checkpoints and skills of the zoo, on more documents."
)
@click.option("-q", "--quiet", is_flag=True, help="Print failures and nothing else.")
@JSON_OPTION
@click.pass_obj
def demo(session: Session, out: Path, full: bool, quiet: bool, as_json: bool) -> int:
    """Evaluate the bundled zoo: tiny checkpoints, really trained, each with a known effect.

    The main path base -> sft -> grpo -> process -> student_skd -> student, and sft a second time,
    where nothing should be found. It takes two to three minutes on two CPU cores. --full takes
    about twenty and adds what forks from sft: other methods, steps on the way, a careless
    fine-tune. Either publishes the same tables as any run.

    `ptharness zoo list` says what each stage was planted to do.

    \b
    Example:
        ptharness demo -o results
    """
    from ptharness_zoo import DEMO, MANIFEST

    manifest, limit = (MANIFEST, FULL_DOCUMENTS) if full else (DEMO, DOCUMENTS)
    return run_manifest(session, manifest, quiet=quiet, as_json=as_json, out=out, limit=limit)
