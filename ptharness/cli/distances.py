"""`ptharness distances`: how far has each checkpoint moved from each other?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table, print_text
from ptharness.cli.session import Session
from ptharness.text import safe

MOST_IN_A_MATRIX = 8
_CELL = 16
"""Columns of a value with its interval."""


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

    Where vocabularies differ there is no divergence: the judge reads the text in its own tokens,
    and both likelihoods stand in bits per byte.

    Writes distances.parquet, and token_likelihoods.parquet with what each child says, token by
    token under its parent; `ptharness show RESULTS --item ITEM --tokens` shows that. Samples that
    `ptharness run` drew at temperature 1 are used again.

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
    has_intervals = _show_pairs(
        whole, "nats_per_token", "KL(child || parent)", "KL(parent || child)"
    )
    methods = " and ".join(sorted({row["method"] for row in whole if row.get("method")}))
    level = next((row["level"] for row in whole if row["level"]), 0.95)
    told = "nats per token by which the judge finds a sample less likely than its writer does"
    if has_intervals:
        told += f", {100 * level:g} % intervals"
    print_text(f"{told} ({methods})" if methods else told)
    for reason in dict.fromkeys(row["reason"] for row in whole if row.get("reason")):
        pairs = [f"{r['source']} -> {r['target']}" for r in whole if r.get("reason") == reason]
        more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
        print_text(f"{', '.join(pairs[:3])}{more}: {reason}")
    if any(not row["method"] and row.get("excess_bits_per_byte") is not None for row in whole):
        _show_pairs(whole, "excess_bits_per_byte", "child by its parent", "parent by its child")
        print_text(
            "bits per byte of text that the judge needs more than its writer, each in its own "
            "tokens"
        )


def _show_pairs(rows: list[dict[str, Any]], column: str, down: str, up: str) -> bool:
    """One quantity of each pair; of many checkpoints those of stages, both ways. Whether there was
    room for intervals."""
    from ptharness.cli.show_list import width

    at = {(row["source"], row["target"]): row for row in rows}
    names = list(dict.fromkeys([r["source"] for r in rows] + [r["target"] for r in rows]))
    if len(names) <= MOST_IN_A_MATRIX:
        has_room = _CELL * (len(names) + 1) <= width()
        cells = [
            (
                name,
                *(
                    "" if name == other else _value(at.get((name, other)), column, short=has_room)
                    for other in names
                ),
            )
            for name in names
        ]
        print_table(("says / judged by", *names), cells)
        return has_room
    cells = [
        (
            row["source"],
            row["target"],
            _value(row, column, whole=True),
            _value(at.get((row["target"], row["source"])), column, whole=True),
        )
        for row in rows
        if row["relation"] == "child"
    ]
    print_table(("child", "parent", down, up), cells)
    return True


def _value(
    row: dict[str, Any] | None, column: str, *, short: bool = False, whole: bool = False
) -> str:
    """A value alone, with how far its interval reaches, or with both ends; `-` for none."""
    if row is None or row.get(column) is None:
        return "-"
    text = f"{round(row[column], 3) + 0.0:.3f}"  # no -0.000
    low, high = row[f"{column}_ci_low"], row[f"{column}_ci_high"]
    if low is None or high is None:
        return text
    if short:
        # To its farther end, as in the report.
        return f"{text} \u00b1{max(row[column] - low, high - row[column]):.3f}"
    return f"{text} [{low:.3f}, {high:.3f}]" if whole else text
