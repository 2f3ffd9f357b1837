"""`ptharness show`: the items of a task, one item's completions, and what was gained or lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptharness.cli.output import JSON_OPTION

if TYPE_CHECKING:
    from ptharness.item_view import ItemView


@click.command()
@click.argument("results", metavar="RESULTS", type=click.Path(path_type=Path))
@click.option("--task", metavar="TASK", help="The task to show.")
@click.option(
    "--item", metavar="ITEM", help="The item to show: its index, its id, or the id's beginning."
)
@click.option("--checkpoints", metavar="A,B", help="Show these, the first one as the reference.")
@click.option("--gained", nargs=2, metavar="A B", help="List what B solves and A does not.")
@click.option("--lost", nargs=2, metavar="A B", help="List what A solves and B does not.")
@click.option("--all", "show_all", is_flag=True, help="List every item.")
@click.option("--tokens", is_flag=True, help="With --item: where children part from their parent.")
@click.option("--full", is_flag=True, help="Print long texts whole, and every completion.")
@JSON_OPTION
def show(
    results: Path,
    task: str | None,
    item: str | None,
    checkpoints: str | None,
    gained: tuple[str, str] | None,
    lost: tuple[str, str] | None,
    show_all: bool,
    tokens: bool,
    full: bool,
    as_json: bool,
) -> int:
    """Look at the items of RESULTS, the results folder of one lineage.

    With --item: its prompt, its right answer, and what the checkpoints wrote, side by side. Equal
    completions are counted, and the most frequent come first; [-...-] and {+...+} mark what
    differs from the first checkpoint's completion in the same row. Of multiple choice: each
    choice's log-likelihood and the choice made. With --tokens too: the samples that `ptharness
    distances` had judged, and under each token how far the checkpoint parts from its parent there.

    With --gained or --lost: the items that one checkpoint solves within its samples and the other
    does not, and beside them how many a second run of A would show, for luck alone turns items
    over. `certified` marks those for which luck can be ruled out.

    With --task alone: its items, each with the right ones of its samples.

    \b
    Examples:
        ptharness show results/arith --task add --item 12 --checkpoints base,sft
        ptharness show results/arith --task add --item 12 --checkpoints sft --tokens
        ptharness show results/arith --gained base sft
    """
    if gained and lost:
        raise click.UsageError("give --gained or --lost, not both")
    if (gained or lost) and (item is not None or checkpoints is not None):
        raise click.UsageError("--gained and --lost name the checkpoints, and list all items")
    if tokens and item is None:
        raise click.UsageError("--tokens shows one item; name it with --item")
    from ptharness.item_view import ItemView
    from ptharness.results import Results

    view = ItemView(Results(results))
    known = None if task is None else view.task(task)
    wanted = _names(view, checkpoints)
    if pair := gained or lost:
        from ptharness.cli.show_turned import show_turned

        show_turned(view, pair, "gained" if gained else "lost", known, show_all, as_json)
    elif item is not None and tokens:
        from ptharness.cli.show_tokens import show_tokens

        show_tokens(view, *view.find(item, known), wanted, full, as_json)
    elif item is not None:
        from ptharness.cli.show_item import show_item

        show_item(view, *view.find(item, known), wanted, full, as_json)
    else:
        from ptharness.cli.show_list import show_items, show_tasks

        if known is None and len(view.tasks) == 1:
            (known,) = view.tasks
        if known is None:
            show_tasks(view, as_json)
        else:
            show_items(view, known, wanted, show_all, as_json)
    return 0


def _names(view: ItemView, text: str | None) -> list[str]:
    if text is None:
        return []
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.UsageError("--checkpoints names none; give them with commas between")
    return [view.checkpoint(name) for name in dict.fromkeys(names)]
