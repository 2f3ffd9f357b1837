"""`ptharness zoo`: the bundled lineage's checkpoints, and training them again."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import click

from ptharness.cli.output import JSON_OPTION, counted, print_json, print_table, print_text
from ptharness_zoo.stages import STAGES, Stage, chosen


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def zoo() -> None:
    """The bundled zoo: tiny checkpoints, really trained, each with a planted effect.

    `ptharness demo` evaluates it.
    """


@zoo.command("list")
@JSON_OPTION
def list_stages(as_json: bool) -> int:
    """List the zoo's stages: what they start from, and what they were planted to do.

    \b
    Example:
        ptharness zoo list
    """
    import ptharness_zoo

    rows = [
        {
            "stage": stage.name,
            "needs": list(stage.needs),
            "trainer": stage.trainer,
            "planted": stage.planted,
            "seconds": stage.seconds,
            "checkpoint": str(ptharness_zoo.checkpoint(stage.name)),
        }
        for stage in STAGES.values()
    ]
    if as_json:
        print_json(rows)
        return 0
    print_table(
        ("stage", "needs", "trainer", "planted", "seconds"),
        [
            (row["stage"], ", ".join(stage.needs), row["trainer"], row["planted"], row["seconds"])
            for row, stage in zip(rows, STAGES.values(), strict=True)
        ],
    )
    print_text(f"checkpoints: {ptharness_zoo.CHECKPOINTS}")
    return 0


@zoo.command()
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("zoo"),
    show_default=True,
    help="Folder for checkpoints and trajectories; stages that it holds already are kept.",
)
@click.option("--in-place", is_flag=True, help="Replace the bundled ones instead.")
def train(stages: tuple[str, ...], out: Path, in_place: bool) -> int:
    """Train the zoo again, or the STAGEs given (`ptharness zoo list` shows them).

    Two stages at a time, one CPU thread each, with fixed seeds: the same machine and library
    versions give the same weights again. What a stage starts from is taken from --out, or else
    from the bundled zoo. After Ctrl-C the same command goes on with the stages that are missing.

    A manifest, lineage.yaml, is laid into --out once all stages are there. Until then, name their
    folders (--out/checkpoints/STAGE) in a manifest of your own.

    Needs `pip install "ptharness[zoo]"`.

    \b
    Examples:
        ptharness zoo train                     everything, into ./zoo
        ptharness zoo train narrow -o try       one stage, from the bundled sft
        ptharness run zoo/lineage.yaml          evaluate what was trained
    """
    import ptharness_zoo
    from ptharness_zoo.places import is_trained
    from ptharness_zoo.progress import ProgressWatcher
    from ptharness_zoo.training import train as train_stages

    wanted = chosen(stages)
    if in_place:
        out = ptharness_zoo.CHECKPOINTS.parent
    there = [stage for stage in wanted if not in_place and is_trained(stage.name, out)]
    for stage in there:
        click.echo(f"{stage.name}: kept, as it is in {out / 'checkpoints'} already", err=True)
    # A polite `kill` leaves as cleanly as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    since = time.monotonic()
    with ProgressWatcher() as watcher:
        train_stages([s for s in wanted if s not in there], out, watcher)
    seconds = time.monotonic() - since
    click.echo(f"{counted(len(wanted), 'stage')} in {out}, {seconds:.0f} s", err=True)
    click.echo(f"next: {_next_step(wanted, out)}", err=True)
    return 0


def _next_step(trained: list[Stage], out: Path) -> str:
    from ptharness_zoo.places import missing, place_of

    lacking = missing(out)
    if not lacking:
        return f"ptharness run {out / 'lineage.yaml'}"
    return (
        f"name {place_of(trained[-1].name, out)} as a `path:` in a manifest of your own; "
        f"lineage.yaml is laid into {out} once the other {counted(len(lacking), 'stage')} "
        f"{'is' if len(lacking) == 1 else 'are'} there too (`ptharness zoo train -o {out}`)"
    )
