"""`ptharness distances`: how far has each checkpoint moved from each other?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table, print_text
from ptharness.cli.session import Session
from ptharness.text import safe

MOST_IN_A_MATRIX = 8


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder for units and tables, that of `ptharness run`.",
)
@click.option("--tasks", metavar="A,B", default="", help="Only these of the manifest's tasks.")
@click.option(
    "--checkpoints",
    metavar="A,B*",
    default="",
    help="Only these checkpoints: names, or patterns with *, ? and [...].",
)
@click.option(
    "--documents",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Documents of each task.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 16),
    default=4,
    show_default=True,
    metavar="N",
    help="Samples of each document that the others judge.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "sampled"]),
    default="auto",
    show_default=True,
    help="Sums over the vocabulary or log-ratios of the tokens drawn; auto: exact where possible.",
)
@click.option("--engine", metavar="NAME", help="Instead of the manifest's engine.")
@JSON_OPTION
@click.pass_obj
def distances(
    session: Session,
    manifest: Path,
    out: Path,
    tasks: str,
    checkpoints: str,
    documents: int,
    samples: int,
    method: Literal["auto", "exact", "sampled"],
    engine: str | None,
    as_json: bool,
) -> int:
    """Measure how far the checkpoints of MANIFEST behave from each other.

    Every checkpoint's samples (temperature 1) are scored by all others: the Kullback-Leibler
    divergence KL(A || B), in nats per token, says how much less likely B finds what A says.
    It is 0 between equals, and has a direction. A matrix over L checkpoints costs L swaps.
    Over a small vocabulary (1,024 tokens at most; engines vllm and lm_eval:hf) both
    distributions are compared at every token, otherwise the log-probabilities of those drawn.

    Writes distances.parquet, and divergent.parquet with the samples on which a child parts most
    from its parent. Samples that `ptharness run` drew at temperature 1 are used again.

    \b
    Examples:
        ptharness distances lineage.yaml
        ptharness distances lineage.yaml --tasks gsm8k --checkpoints 'sft,grpo*' --documents 128
    """
    from rich.console import Console

    from ptharness.cli.progress import ProgressObserver
    from ptharness.cli.run import make_request
    from ptharness.distances import DistanceSettings, measure_distances

    request = make_request(manifest, out=out, tasks=tasks, checkpoints=checkpoints, engine=engine)
    observer = ProgressObserver(Console(stderr=True))
    with observer.showing():
        path, rows, failures = measure_distances(
            request,
            DistanceSettings(documents, samples, method=method),
            session.plugins,
            observer,
        )
    if as_json:
        failed = [failure.to_json() for failure in failures]
        print_json({"path": str(path), "distances": rows, "failures": failed})
    elif rows:
        _show(rows)
        print_text(f"table: {path}")
    for failure in failures:
        told = ": ".join(filter(None, (failure.checkpoint, failure.task, failure.message)))
        click.echo(safe(f"failed: {told}"), err=True)
    return 1 if failures else 0


def _show(rows: list[dict[str, Any]]) -> None:
    """A matrix, or of many checkpoints what each stage did; over all tasks where there are some."""
    pooled = {(row["source"], row["target"]) for row in rows if row["scope"] == "pooled"}
    whole = [
        row
        for row in rows
        if row["scope"] == "pooled" or (row["source"], row["target"]) not in pooled
    ]
    at = {(row["source"], row["target"]): row for row in whole}
    names = list(dict.fromkeys(row["source"] for row in whole))
    names += [row["target"] for row in whole if row["target"] not in names]
    names = list(dict.fromkeys(names))
    if len(names) <= MOST_IN_A_MATRIX:
        cells = [
            (name, *("" if name == other else _value(at.get((name, other))) for other in names))
            for name in names
        ]
        print_table(("says / judged by", *names), cells)
    else:
        edges = [row for row in whole if row["relation"] == "child"]
        cells = [
            (
                row["source"],
                row["target"],
                _value(row, interval=True),
                _value(at.get((row["target"], row["source"])), interval=True),
            )
            for row in edges
        ]
        print_table(("child", "parent", "KL(child || parent)", "KL(parent || child)"), cells)
    methods = " and ".join(sorted({row["method"] for row in whole if row.get("method")}))
    told = "nats per token by which the judge finds a sample less likely than its writer does"
    print_text(f"{told} ({methods})" if methods else told)
    for reason in dict.fromkeys(row["reason"] for row in whole if row.get("reason")):
        pairs = [f"{r['source']} -> {r['target']}" for r in whole if r.get("reason") == reason]
        more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
        print_text(f"{', '.join(pairs[:3])}{more}: {reason}")


def _value(row: dict[str, Any] | None, *, interval: bool = False) -> str:
    if row is None or row.get("nats_per_token") is None:
        return "-"
    text = f"{round(row['nats_per_token'], 3) + 0.0:.3f}"  # no -0.000
    if interval and row["nats_per_token_ci_low"] is not None:
        low, high = row["nats_per_token_ci_low"], row["nats_per_token_ci_high"]
        text += f" [{low:.3f}, {high:.3f}]"
    return text
