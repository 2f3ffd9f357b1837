"""`ptharness run`: evaluate every checkpoint of a lineage and publish the tables."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptharness.cli.output import JSON_OPTION, PIPE_WIDTH, print_json, print_text
from ptharness.cli.session import Session
from ptharness.text import safe

if TYPE_CHECKING:
    from ptharness.results import Results
    from ptharness.units import Failure

SOME_FAILED = 1


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what of a manifest is meant; shared by run and plan."""
    for option in reversed(
        (
            click.option(
                "-o",
                "--out",
                type=click.Path(file_okay=False, path_type=Path),
                default=Path("results"),
                show_default=True,
                help="Folder for units and tables; a rerun goes on from what is there.",
            ),
            click.option(
                "--tasks", metavar="A,B", default="", help="Only these of the manifest's tasks."
            ),
            click.option(
                "--checkpoints",
                metavar="A,B*",
                default="",
                help="Only these checkpoints: names, or patterns with *, ? and [...].",
            ),
            click.option(
                "--samples",
                type=click.IntRange(min=1),
                metavar="N",
                help="Completions per prompt, instead of the manifest's.",
            ),
            click.option(
                "--limit",
                type=click.IntRange(min=1),
                metavar="N",
                help="Only the first N documents of each task.",
            ),
            click.option("--engine", metavar="NAME", help="Instead of the manifest's engine."),
            click.option(
                "--executor",
                metavar="NAME",
                default="local",
                show_default=True,
                help="What runs the workers.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@selection_options
@click.option("-q", "--quiet", is_flag=True, help="Print failures and nothing else.")
@JSON_OPTION
@click.pass_obj
def run(session: Session, /, manifest: Path, quiet: bool, as_json: bool, **options: Any) -> int:
    """Evaluate every checkpoint of MANIFEST and publish tagged tables.

    Finished work is kept at once: after Ctrl-C, a crash or a full disk the same command goes
    on where it stopped, and a rerun with nothing to do takes a moment. More samples or tasks
    only add what is missing.

    Exit code 0 all done; 1 some units failed (each is named); 2 wrong use; 130 interrupted.

    \b
    Examples:
        ptharness run lineage.yaml
        ptharness run lineage.yaml -o results --tasks gsm8k --samples 64
        ptharness run lineage.yaml --checkpoints 'base,grpo*'
        ptharness run lineage.yaml --limit 20 --json
    """
    return run_manifest(session, manifest, quiet=quiet, as_json=as_json, **options)


def run_manifest(
    session: Session, manifest: Path, *, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Evaluate a manifest, show it, and return the exit code; `ptharness demo` does this too."""
    from rich.console import Console

    from ptharness.cli.progress import ProgressObserver
    from ptharness.evaluation import run as run_evaluation

    request = make_request(manifest, **options)
    # A polite `kill` leaves as cleanly as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    observer = ProgressObserver(Console(stderr=True, quiet=quiet))
    with observer.showing():
        results, failures = run_evaluation(request, session.plugins, observer)
    _show(results, failures, quiet=quiet, as_json=as_json)
    return SOME_FAILED if failures else 0


def make_request(manifest: Path, *, tasks: str = "", checkpoints: str = "", **options: Any) -> Any:
    """The command line's options as a request."""
    from ptharness.evaluation import Request

    return Request(
        manifest,
        tasks=_listed(tasks),
        checkpoints=_listed(checkpoints),
        command=tuple(sys.argv),
        **options,
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _show(results: Results, failures: Sequence[Failure], *, quiet: bool, as_json: bool) -> None:
    from ptharness.cli.stages import print_stages, stages_json
    from ptharness.cli.summary import summary_json, summary_table
    from ptharness.report import REPORT_FILE

    if as_json:
        print_json({**summary_json(results), "pairs": stages_json(results)})
    elif not quiet:
        from rich.console import Console

        width = None if sys.stdout.isatty() else PIPE_WIDTH
        Console(width=width, highlight=False).print(summary_table(results))
        print_stages(results)
        print_text(
            f"report: {results.path / REPORT_FILE}\ntables: {results.path}\n"
            f"engine log: {results.path / 'logs' / 'engine.log'}"
        )
    for failure in failures:
        where = " x ".join(part for part in (failure.checkpoint, failure.task) if part)
        told = ": ".join(part for part in (where, failure.stage, failure.message) if part)
        click.echo(safe(f"failed: {told}"), err=True)
