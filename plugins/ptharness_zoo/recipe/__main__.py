"""The command line of the recipe."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from ptharness_zoo import CHECKPOINTS

PARENTS = {"base": None, "sft": "base", "grpo": "sft", "narrow": "sft", "student": "grpo"}
STAGES = ("items", *PARENTS, "measure")


@click.command(context_settings={"max_content_width": 100})
@click.argument("stages", nargs=-1, type=click.Choice(STAGES), metavar="[STAGE]...")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=CHECKPOINTS,
    help="Folder of the checkpoints. By default those in the package are replaced.",
)
@click.option("--items", default=30, show_default=True, help="Items per skill in `measure`.")
def main(stages: tuple[str, ...], out: Path, items: int) -> None:
    """Rebuild the zoo, or the STAGEs given, in this order:

    \b
    items     write the evaluation items into ptharness_tasks/arith/data
    base      pre-train a tiny Llama in plain torch                  about 5 minutes
    sft       from base:  SFTTrainer, teaches rot                    about 2 minutes
    grpo      from sft:   GRPOTrainer, sharpens rev                  about 1 minute
    narrow    from sft:   SFTTrainer on rot alone, forgets the rest  half a minute
    student   from grpo:  two of three layers, on grpo's samples     about 3 minutes
    measure   print pass@1/pass@32 of every checkpoint               about 6 minutes

    A stage starts from its parent as it lies in --out.  Everything runs on one CPU thread with
    fixed seeds; the same machine and library versions give the same weights again.

    \b
    Examples:
      python -m ptharness_zoo.recipe                     everything
      python -m ptharness_zoo.recipe --out my_zoo base sft
      python -m ptharness_zoo.recipe measure --items 200
    """
    prepare_libraries()
    out = out.resolve()
    for stage in STAGES:
        if stage not in (stages or STAGES):
            continue
        started = time.monotonic()
        if stage == "items":
            from ptharness_zoo.recipe.items import write

            write()
        elif stage == "measure":
            from ptharness_zoo.recipe.measure import table

            click.echo(table([out / name for name in PARENTS if (out / name).is_dir()], items))
        else:
            train(stage, out)
        click.echo(f"{stage}: {time.monotonic() - started:.0f} s")


def prepare_libraries() -> None:
    """Set one thread (results depend on the number) and no hub, before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def train(stage: str, out: Path) -> None:
    """Train one stage in a temporary work folder and put the checkpoint into ``out``.

    The work folder becomes the current one, and the parent's copy in it has a relative path.
    """
    import torch

    torch.set_num_threads(1)
    parent = PARENTS[stage]
    with TemporaryDirectory() as work, contextlib.chdir(work):
        if parent is not None:
            if not (out / parent).is_dir():
                msg = f"{stage} starts from {parent}, which is not there: add the stage {parent}"
                raise click.UsageError(msg)
            shutil.copytree(out / parent, parent)
        importlib.import_module(f"ptharness_zoo.recipe.{stage}").train(Path(stage))
        shutil.rmtree(out / stage, ignore_errors=True)
        shutil.copytree(stage, out / stage)


if __name__ == "__main__":
    main(prog_name="python -m ptharness_zoo.recipe")
