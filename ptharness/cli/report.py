"""`ptharness report`: the tables of a results folder as one page."""

from __future__ import annotations

from pathlib import Path

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_text


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--open", "show", is_flag=True, help="Open the page in a browser.")
@JSON_OPTION
def report(results: Path, show: bool, as_json: bool) -> int:
    """Write report.html into RESULTS, the results folder of one lineage.

    One file, to read without a network, to send, to print: the lineage with the measured roles,
    what each stage did and on which tasks, pass@k, turnover, retention, cost, certified items with
    what parent and child wrote, and how all that was measured. Nothing is evaluated or analysed:
    `ptharness analyze RESULTS` makes what is missing.

    \b
    Example:
        ptharness report results/arith --open
    """
    from ptharness.report import write_report
    from ptharness.results import Results

    path = write_report(Results(results))
    if show:
        click.launch(str(path.resolve()))
    if as_json:
        print_json({"path": str(path), "bytes": path.stat().st_size})
    else:
        print_text(str(path))
    return 0
