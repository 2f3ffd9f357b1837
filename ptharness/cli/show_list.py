"""Lists of tasks and of items, for `ptharness show`."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ptharness.cli.differences import one_line
from ptharness.cli.output import PIPE_WIDTH, counted, print_json, print_table, print_text
from ptharness.item_view import ItemView, Row
from ptharness.text import safe

MOST_ITEMS = 40
"""In a list without --all."""

MOST_PROMPT, MOST_GOLD = 28, 14


def as_heading(name: str) -> str:
    """A name to stand over a column of a table, where markup would be understood."""
    from rich.markup import escape

    return escape(safe(name))


def finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def width() -> int:
    """Columns to write to."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH


def show_tasks(view: ItemView, as_json: bool) -> None:
    """The tasks, to choose one of."""
    kinds = {task: view.described(task).get("kind", "?") for task in view.tasks}
    if as_json:
        tasks = [
            {"task": t, "kind": kinds[t], "items": count, "checkpoints": view.evaluated[t]}
            for t, count in view.tasks.items()
        ]
        print_json({"path": str(view.results.path), "tasks": tasks})
        return
    rows = [(t, kinds[t], n, len(view.evaluated[t])) for t, n in view.tasks.items()]
    print_table(("task", "kind", "items", "checkpoints"), rows)
    print_text("--task TASK lists the items of one")


def show_items(
    view: ItemView, task: str, wanted: Sequence[str], show_all: bool, as_json: bool
) -> None:
    """The items of a task, with c/n of each checkpoint."""
    checkpoints, counts = view.asked(task, wanted), view.counts(task)
    items = view.items(task)
    shown = items if show_all or as_json else items[:MOST_ITEMS]
    documents = view.documents(task, set(shown))
    if as_json:
        listed = [
            {
                **{key: documents[item][key] for key in ("item", "cluster", "prompt", "gold")},
                "checkpoints": {
                    name: counts[name, item] for name in checkpoints if (name, item) in counts
                },
            }
            for item in shown
        ]
        print_json({"path": str(view.results.path), "task": task, "items": finite(listed)})
        return
    longest = max((len(item) for item in shown), default=4)
    room = width() - min(longest, 20) - MOST_PROMPT - MOST_GOLD - 6
    fitting = fit(checkpoints, room)
    rows = [
        (
            item,
            one_line(documents[item]["prompt"], MOST_PROMPT, end=True),
            one_line(documents[item]["gold"], MOST_GOLD),
            *(right(counts.get((name, item))) for name in fitting),
        )
        for item in shown
    ]
    print_table(("item", "prompt", "gold", *map(as_heading, fitting)), rows)
    print_text("right of all samples" + ("" if _is_binary(counts) else "; or the mean score"))
    if len(shown) < len(items):
        print_text(f"{len(shown)} of {len(items)} items; --all lists them")
    if left := checkpoints[len(fitting) :]:
        print_text(f"not shown: {' '.join(left)}; --checkpoints A,B names those to show")


def fit(names: Sequence[str], room: int, least: int = 2) -> list[str]:
    """As many of these columns of counts as there is room for, but some at least."""
    fitting: list[str] = []
    for name in names:
        room -= max(len(safe(name)), 5) + 2
        if room < 0 and len(fitting) >= least:
            break
        fitting.append(name)
    return fitting


def right(row: Row | None) -> str:
    """`12/32`; the mean score where samples are not right or wrong; `-` where there are none."""
    if row is None:
        return "-"
    if row["n"]:
        return f"{row['c']}/{row['n']}"
    return "-" if row["mean_score"] is None else f"{row['mean_score']:.4g}"


def listed(count: int, of: int, what: str = "item") -> str:
    """How many of a list are shown."""
    return counted(of, what) if count == of else f"{count} of {counted(of, what)}; --all lists them"


def _is_binary(counts: Mapping[tuple[str, str], Row]) -> bool:
    return all(row["n"] for row in counts.values())
