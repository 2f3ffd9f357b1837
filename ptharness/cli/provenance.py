"""`ptharness provenance`: were the trajectories of a stage its parent's own words?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptharness.cli.output import JSON_OPTION, counted, print_json, print_table, print_text
from ptharness.cli.session import Session
from ptharness.text import safe

if TYPE_CHECKING:
    from ptharness.provenance import RewardFunction

_LISTS = ("given_nats_per_token", "own_nats_per_token")


def finite(_: click.Context, option: click.Parameter, value: float) -> float:
    """Refuse what is no number, which a range lets through."""
    if math.isnan(value):
        raise click.BadParameter("nan is not a number", param=option)
    return value


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
@click.option(
    "--stages",
    metavar="A,B*",
    default="",
    help="Only these stages: names of checkpoints, or patterns with *, ? and [...]. The others "
    "keep their rows in the table.",
)
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure this file, whether or not a stage was trained on it.",
)
@click.option(
    "--checkpoints",
    metavar="A,B*",
    default="",
    help="With --file: under these checkpoints, all if none is named.",
)
@click.option(
    "--prompts",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    metavar="N",
    help="Prompts of each training set.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="The parent's own samples per prompt, and at most so many rows of the training set.",
)
@click.option(
    "--gap",
    type=click.FloatRange(0, 100, min_open=True),
    callback=finite,
    default=0.1,
    show_default=True,
    metavar="NATS",
    help="Gaps up to this size, in nats per token, are none.",
)
@click.option(
    "--reward",
    metavar="FILE.py:NAME",
    help="A reward function as TRL's trainers call it; shows whether a set was selected by it.",
)
@click.option("--engine", metavar="NAME", help="Instead of the manifest's engine.")
@JSON_OPTION
@click.pass_obj
def provenance(
    session: Session,
    manifest: Path,
    out: Path,
    stages: str,
    file: Path | None,
    checkpoints: str,
    prompts: int,
    samples: int,
    gap: float,
    reward: str | None,
    engine: str | None,
    as_json: bool,
) -> int:
    """Measure whose words each stage of MANIFEST learned from.

    For every stage that names `trajectories`, its parent is asked the same prompts, and both the
    trajectories and its own answers are scored under it. If they are the parent's own words, the
    two cannot be told apart. parent_like, parent_unlike, mixed: what the likelihoods show stands
    beside what the method declares; neither replaces the other. No likelihood proves a history.

    With --file any file is measured under the checkpoints of MANIFEST: the teacher's words in a
    student's data, or data that nothing was trained on yet.

    Writes provenance.parquet into the results folder (not with --file, which is of no stage). What
    is scored is kept: a rerun asks only for what is missing.

    \b
    Examples:
        ptharness provenance lineage.yaml
        ptharness provenance lineage.yaml --stages 'grpo*' --reward rewards.py:is_right
        ptharness provenance lineage.yaml --file new.jsonl --checkpoints sft
    """
    from rich.console import Console

    from ptharness.analysis.provenance import Thresholds
    from ptharness.cli.progress import ProgressObserver
    from ptharness.cli.run import make_request
    from ptharness.provenance import ProvenanceSettings, measure_provenance

    if file and stages:
        raise click.UsageError("give --file or --stages, not both")
    if checkpoints and not file:
        raise click.UsageError("--checkpoints goes with --file; --stages chooses stages")
    settings = ProvenanceSettings(
        file=file and file.absolute(),
        stages=tuple(name.strip() for name in stages.split(",") if name.strip()),
        prompts=prompts,
        per_prompt=samples,
        samples=samples,
        thresholds=Thresholds(gap_nats_per_token=gap),
    )
    function = None if reward is None else _reward_function(reward)
    observer = ProgressObserver(Console(stderr=True))
    request = make_request(manifest, out=out, checkpoints=checkpoints, engine=engine)
    with observer.showing():
        path, rows, failures = measure_provenance(
            request, settings, session.plugins, observer, function
        )
    if as_json:
        shown = [{k: v for k, v in row.items() if k not in _LISTS} for row in rows]
        failed = [failure.to_json() for failure in failures]
        print_json({"path": path and str(path), "stages": shown, "failures": failed})
    elif rows:
        _show(rows)
        if function is not None and all(row["reward_difference"] is None for row in rows):
            print_text("the reward function gave no reward for both sides of any prompt")
        if function is None and any(row["reward_difference"] is not None for row in rows):
            print_text("rewards: those of an earlier run with --reward, of the same texts")
        if engine is not None:
            print_text(f"by the engine {engine}, not the manifest's")
        if path:
            print_text(f"table: {path}")
    for failure in failures:
        told = ": ".join(filter(None, (failure.checkpoint, failure.task, failure.message)))
        click.echo(safe(f"failed: {told}"), err=True)
    return 1 if failures else 0


def _reward_function(text: str) -> RewardFunction:
    """The function that `FILE.py:NAME` names; naming it is leave to run it."""
    from ptharness.errors import PluginError, near_misses
    from ptharness.importing import import_file
    from ptharness.provenance.rewards import output_aside

    file, _, name = text.rpartition(":")
    if not file.endswith(".py") or not name:
        raise click.UsageError(f"--reward {text}: give a file and a function, FILE.py:NAME")
    if not Path(file).is_file():
        raise click.UsageError(f"--reward {text}: {Path(file).absolute()} does not exist")
    with output_aside():
        module = import_file(Path(file).absolute())
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise PluginError(f"--reward {text}: no function {name!r}{near_misses(name, known)}")
    return function  # type: ignore[no-any-return]


def _show(rows: list[dict[str, Any]]) -> None:
    of_file = "file" in rows[0]
    about = ("checkpoint",) if of_file else ("stage", "parent", "declared")
    columns = (*about, "measured", "gap [95 % interval]", "AUC", "bits per byte", "prompts")
    cells = []
    for row in rows:
        told = () if of_file else (row["parent"], row["provenance_declared"] or "-")
        cells.append(
            (
                _label(row),
                *told,
                row["provenance_measured"],
                _gap(row),
                _rounded(row["auc"]),
                _rounded(row["given_bits_per_byte"]),
                f"{row['prompts']:,}",
            )
        )
    print_table(columns, cells, spare=("bits per byte", "prompts", "parent", "declared"))
    writer = "checkpoint" if of_file else "parent"
    print_text(
        f"gap: nats per token by which the trajectories are less likely than the {writer}'s own "
        "answers\nAUC: probability that a trajectory is less likely than such an answer; 0.5 if "
        "they are alike\nbits per byte: of the trajectories; compares between tokenizers"
    )
    for row in rows:
        said = "; ".join(_remarks(row)).replace("the parent's", f"the {writer}'s")
        print_text(f"{_label(row)}: {said}")


def _label(row: dict[str, Any]) -> str:
    name = row["parent"] if "file" in row else row["checkpoint"]
    return name if row["side"] == "all" else f"{name} ({row['side']})"


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _gap(row: dict[str, Any]) -> str:
    from ptharness.report.numbers import nats

    if row["gap_nats_per_token"] is None:
        return "-"
    text = nats(row["gap_nats_per_token"], "+")
    if row["gap_ci_low"] is None:
        return text
    return f"{text} [{nats(row['gap_ci_low'])}, {nats(row['gap_ci_high'])}]"


def _remarks(row: dict[str, Any]) -> list[str]:
    from ptharness.context import VISIBLE_SHARE

    remarks = [row["reason"]]
    share = f"{100 * (row['rare_token_share'] or 0):.1f} %"
    if share != "0.0 %":
        remarks.append(f"{share} of tokens below probability {row['rare_below']:g}")
    if row["reward_difference"] is not None:
        told = f"reward {row['reward_difference']:+.2f} against the parent's own"
        remarks.append(told + (": looks selected" if row["looks_filtered"] else ""))
    if row["too_long"]:
        remarks.append(f"{counted(row['too_long'], 'prompt')} did not fit the parent's context")
    if row["truncated"] > VISIBLE_SHARE * row["own"]:
        cut = f"{row['truncated']:,} of {row['own']:,}"
        remarks.append(f"{cut} of the parent's own answers were cut off at the token limit")
    return remarks
