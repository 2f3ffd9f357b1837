"""`ptharness analyze`: what did each stage do, from what is there; no engine starts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptharness.analysis_settings import MOST_ATTEMPTS
from ptharness.cli.output import JSON_OPTION, print_json, print_table, print_text
from ptharness.cli.session import Session
from ptharness.text import safe

if TYPE_CHECKING:
    from ptharness.analysis_settings import Settings
    from ptharness.results import Results

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
NAMES = {
    "delta": "change",
    "exp": "expansion",
    "rsh": "reshaping",
    "rsh_up": "  up",
    "rsh_down": "  down",
    "att": "attrition",
    "res": "residual",
    "new": "newly solved within k",
    "lost": "no longer solved within k",
    "same_model_new": "  a second run of the parent",
}


@click.command()
@click.argument("source", metavar="RESULTS|MANIFEST|CSV", type=click.Path(path_type=Path))
@click.option(
    "--budget",
    type=click.IntRange(1, MOST_ATTEMPTS),
    metavar="K",
    help="Support budget: attempts within which behaviour counts as reachable.",
)
@click.option("--level", type=SHARE, help="Confidence of the intervals.  [default: 0.95]")
@click.option("--fdr", type=SHARE, help="False discovery rate of the verdicts.  [default: 0.05]")
@click.option(
    "--by",
    type=click.Choice(["task", "tag"]),
    help="Print each pair on each task, or over each tag's tasks.",
)
@click.option("--parent", metavar="MODEL", help="With a CSV: the model compared from.")
@click.option("--child", metavar="MODEL", help="With a CSV: the model compared to.")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="With a manifest: the folder that holds its units.",
)
@JSON_OPTION
@click.pass_obj
def analyze(
    session: Session,
    source: Path,
    budget: int | None,
    level: float | None,
    fdr: float | None,
    by: str | None,
    parent: str | None,
    child: str | None,
    out: Path,
    as_json: bool,
) -> int:
    """Measure again what each stage did. No engine starts, nothing is generated.

    RESULTS is the results folder of a lineage: its analysis tables (edges, verdicts, measures,
    retention, turnover, sensitivity, certified) and its report are made anew. `ptharness run`
    makes them too; this is for another support budget, level or false discovery rate.

    MANIFEST is a lineage's YAML file: its tables are published from the units under --out first,
    as far as these are there.

    CSV holds counts of your own, one row per model and item, with the columns model, item, n, c
    (samples, correct ones) and perhaps cluster. --parent and --child say which two to compare: a
    model's name, or a part of it that no other has.

    \b
    Examples:
        ptharness analyze results/arith --budget 8 --by task
        ptharness analyze lineage.yaml -o results
        ptharness analyze counts.csv --parent llama-instruct --child nemotron --budget 25
    """
    changes = {"k": budget, "level": level, "fdr": fdr}
    if source.is_file() and source.suffix.casefold() in (".csv", ".tsv", ".txt"):
        return _foreign(source, parent, child, changes, as_json=as_json)
    if parent or child:
        raise click.UsageError("--parent and --child go with a CSV of counts")
    failures = 0
    if source.is_file():
        results, failures = _from_units(session, source, out)
    else:
        results = _open(source)
    _publish(results, changes)
    _show(results, by, as_json=as_json)
    return 1 if failures else 0


def _open(folder: Path) -> Results:
    from ptharness.results import Results

    return Results(folder)


def _from_units(session: Session, manifest: Path, out: Path) -> tuple[Results, int]:
    """Publish what is stored of a manifest's evaluation; the results and what is missing."""
    from rich.console import Console

    from ptharness.cli.progress import StoredObserver
    from ptharness.evaluation import Request, run

    request = Request(manifest, out, command=tuple(sys.argv), generate=False)
    observer = StoredObserver(Console(stderr=True))
    with observer.showing():
        results, failures = run(request, session.plugins, observer)
    for failure in failures:
        told = f"failed: {failure.checkpoint} x {failure.task}: {failure.message}"
        click.echo(safe(told), err=True)
    return results, len(failures)


def _publish(results: Results, changes: dict[str, Any]) -> None:
    from rich.console import Console

    from ptharness.publish import default_settings, publish_analysis
    from ptharness.report import write_report

    with Console(stderr=True).status("analysing what each stage did"):
        publish_analysis(results, _changed(default_settings(results), changes))
        # Even of tables made before: whoever interrupted that has the report of older ones.
        write_report(results)


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    thresholds = {name: changes[name] for name in ("level", "fdr") if changes[name] is not None}
    settings = replace(settings, thresholds=replace(settings.thresholds, **thresholds))
    return settings if changes["k"] is None else replace(settings, k=changes["k"])


def _show(results: Results, by: str | None, *, as_json: bool) -> None:
    from ptharness.cli.stages import print_by, print_sensitivity, print_stages, stages_json

    if as_json:
        print_json(
            {
                "lineage": results.run.get("lineage"),
                "path": str(results.path),
                "analysis": results.analysis,
                "pairs": stages_json(results, by or "pooled"),
            }
        )
        return
    print_stages(results)
    if by:
        print_by(results, by)
    print_sensitivity(results)
    print_text(f"tables: {results.path}")


# --- counts of somebody else's ----------------------------------------------------------------


def _foreign(
    path: Path, parent: str | None, child: str | None, changes: dict[str, Any], *, as_json: bool
) -> int:
    from ptharness.analysis.foreign import compare_counts
    from ptharness.analysis_settings import Settings
    from ptharness.foreign_counts import find_model, read_counts

    counts = read_counts(path)
    if parent is None or child is None:
        models = ", ".join(sorted(counts.checkpoints)[:10])
        raise click.UsageError(
            f"a CSV of counts needs --parent MODEL and --child MODEL; {path} has "
            f"{len(counts.checkpoints)}: {models}{' ...' * (len(counts.checkpoints) > 10)}"
        )
    source = find_model(path, counts, parent, "--parent")
    target = find_model(path, counts, child, "--child")
    if source == target:
        raise click.UsageError(
            f"--parent and --child are both {source!r}; a comparison needs two independent runs"
        )
    found = compare_counts(counts, source, target, _changed(Settings(), changes))
    if as_json:
        print_json(found)
        return 0
    rows = [
        (
            NAMES[quantity],
            _points(row["estimate"]),
            f"[{_points(row['ci_low'])}, {_points(row['ci_high'])}]"
            if row["p"] is not None
            else "",
            "" if row["p"] is None else f"{row['p']:.3g}",
            row["reason"] or "",
        )
        for quantity, row in found["estimates"].items()
    ]
    print_text(f"{source} -> {target}: {found['items']} items, k = {found['k']}")
    level = f"{100 * found['level']:g} % interval"
    print_table(("percentage points", "estimate", level, "p", ""), rows)
    print_text(f"measured: {found['role_measured']}: {found['reason']}")
    for k, cells in found["sensitivity"].items():
        text = ", ".join(f"{NAMES[name].strip()} {_points(value)}" for name, value in cells.items())
        print_text(f"k = {k}: {text}")
    return 0


def _points(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:+.2f}"
