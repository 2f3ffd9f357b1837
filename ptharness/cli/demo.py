"""`ptharness demo`: the main job on the bundled lineage."""

from __future__ import annotations

from pathlib import Path

import click

from ptharness.cli.output import JSON_OPTION
from ptharness.cli.run import run_manifest
from ptharness.cli.session import Session

DOCUMENTS = 64


@click.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder for units and tables.",
)
@click.option("--full", is_flag=True, help="All documents of each task instead of the first 64.")
@click.option("-q", "--quiet", is_flag=True, help="Print failures and nothing else.")
@JSON_OPTION
@click.pass_obj
def demo(session: Session, out: Path, full: bool, quiet: bool, as_json: bool) -> int:
    """Evaluate the bundled lineage: five tiny checkpoints that were really trained.

    base -> sft -> grpo, a narrow fine-tune of sft that forgets, and a smaller student of grpo.
    It runs on two CPU cores in a few minutes (--full in about ten) and publishes the same tables
    as any run.

    \b
    Example:
        ptharness demo -o results
    """
    from ptharness_zoo import MANIFEST

    limit = None if full else DOCUMENTS
    return run_manifest(session, MANIFEST, quiet=quiet, as_json=as_json, out=out, limit=limit)
