"""`ptharness compare`: two checkpoints on every task that both were evaluated on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ptharness.analysis_settings import MOST_ATTEMPTS
from ptharness.cli.output import JSON_OPTION, counted, print_json, print_table, print_text
from ptharness.cli.show_list import as_heading

if TYPE_CHECKING:
    from ptharness.pair_view import PairView, Row


@click.command()
@click.argument("results", metavar="RESULTS", type=click.Path(path_type=Path))
@click.argument("source", metavar="A")
@click.argument("target", metavar="B")
@click.option("--task", metavar="TASK", help="Compare on this task alone.")
@click.option(
    "--budget",
    type=click.IntRange(1, MOST_ATTEMPTS),
    metavar="K",
    help="Support budget.  [default: the analysis' own]",
)
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Confidence of the intervals.  [default: the analysis' own]",
)
@JSON_OPTION
def compare(
    results: Path,
    source: str,
    target: str,
    task: str | None,
    budget: int | None,
    level: float | None,
    as_json: bool,
) -> int:
    """Compare checkpoint B with checkpoint A, whether the lineage relates them or not.

    Differences are paired by item, with clustered intervals, per task and over all tasks. Beside
    each stands the minimum detectable effect: the least true difference that so many items and
    samples show with probability 0.8. p is of each row alone, not adjusted for their number. On
    multiple choice, choice probability, forgetting and backward transfer stand below the table.

    \b
    Example:
        ptharness compare results/arith sft grpo
    """
    from ptharness.item_view import ItemView
    from ptharness.pair_view import PairView, settings_of
    from ptharness.results import Results

    opened = Results(results)
    view = ItemView(opened)
    source, target = view.checkpoint(source), view.checkpoint(target)
    wanted = None if task is None else view.task(task)
    pair = PairView(opened, source, target, settings_of(opened, budget, level), wanted)
    rows = pair.compared()
    if as_json:
        print_json(
            {
                "lineage": opened.run.get("lineage"),
                "path": str(opened.path),
                "source": source,
                "target": target,
                "relations": pair.relations,
                "support_budget": pair.settings.k,
                "level": pair.settings.level,
                "comparisons": rows,
            }
        )
    else:
        _show(pair, rows)
    return 0


def _show(pair: PairView, rows: list[Row]) -> None:
    from ptharness.cli.stages import change

    related = ", ".join(pair.relations) or "not related by the lineage"
    print_text(f"{pair.source} -> {pair.target} ({related})")
    level = f"[{100 * pair.settings.level:g} % interval]"
    sides = (as_heading(pair.source), as_heading(pair.target))
    columns = ("task", *sides, as_heading(f"difference {level}"), "MDE", "p", "items")
    print_table(columns, [_cells(row) for row in rows])
    units = ["in %, differences in percentage points"]
    if not all(row["is_accuracy"] for row in rows):
        units.append("=: the metric is no yes/no, in its own unit")
    print_text(f"{'; '.join(units)}")
    print_text("MDE: minimum detectable effect, seen with probability 0.8; p is not adjusted")
    if any(_is_unvaried(row) for row in rows):
        print_text("MDE ?: the difference is the same on all items, so its spread is unknown")
    _print_notes([row for row in rows if row["scope"] == "task"])
    _print_not_whole(pair, rows)
    last = rows[-1]
    allowed = [row for row in rows if row["scope"] == "task" and row["comparable"] != "no"]
    if last["scope"] != "task" and len(last["tasks"]) < len(allowed):
        print_text(f"the mean rests on {', '.join(last['tasks']) or 'nothing'}: {last['reason']}")
    _print_choices(rows)
    new, lost, again = (last["estimates"][q] for q in ("new", "lost", "same_model_new"))
    if last["estimates"]["exp"]["estimate"] is None:
        return
    k = pair.settings.k
    over = "" if last["scope"] == "task" else f", mean of {counted(len(last['tasks']), 'task')}"
    print_text(f"\nwithin {counted(k, 'attempt')}{over}:\n  {change(last)}")
    second = "" if again["estimate"] is None else f"; a second run of {pair.source} would show "
    share = "" if again["estimate"] is None else f"{_percent(again['estimate'])} of each"
    print_text(
        f"  newly solved {_percent(new['estimate'])}, no longer solved "
        f"{_percent(lost['estimate'])} of items{second}{share}"
    )


def _print_choices(rows: list[Row]) -> None:
    """Beside the change of accuracy, which the table above has."""
    from ptharness.cli.stages import choice_cells
    from ptharness.report.choices import CHOICE_COLUMNS, UNITS, WHY

    columns = CHOICE_COLUMNS[1:]
    shown = [row for row in rows if columns[1][0] in row["estimates"]]
    if not shown:
        return
    print_text("")
    print_table(
        ("multiple choice", *(name for _, name in columns)),
        [(row["task"], *choice_cells(row["estimates"], columns)) for row in shown],
    )
    print_text(UNITS)
    if rows[-1]["estimates"]["exp"]["estimate"] is None:
        print_text(WHY)


def _cells(row: Row) -> tuple[str, ...]:
    delta = row["estimates"]["delta"]
    name = row["task"] if row["scope"] == "task" else f"mean of {len(row['tasks'])}"
    if row["comparable"] == "no":
        return (name, "-", "-", "refused", "-", "-", "-")
    if delta["estimate"] is None:
        values = [] if row["source"] is None else [row["source"], row["target"]]
        shown = [_value(value, row) for value in values] or ["-", "-"]
        return (name, *shown, "undefined", "-", "-", str(delta["items"]))
    reach = delta["minimum_detectable_effect"]
    interval = "" if delta["ci_low"] is None else f"[{', '.join(_ends(delta, row))}]"
    return (
        name if row["is_accuracy"] else f"{name} =",
        _value(row["source"], row),
        _value(row["target"], row),
        f"{_change(delta['estimate'], row)} {interval}",
        "?" if reach is None else _value(reach, row),
        _p(delta["p"]),
        str(delta["items"]),
    )


def _print_notes(rows: list[Row]) -> None:
    """What to know of the comparison, once for all tasks that share it."""
    by_note: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        told = row["note"] or "same prompts, same protocol"
        by_note.setdefault((row["comparable"], told), []).append(row["task"])
    for (comparable, told), tasks in by_note.items():
        where = "all tasks" if len(tasks) == len(rows) and len(rows) > 1 else ", ".join(tasks)
        print_text(f"comparable: {comparable} on {where}: {told}")
    undefined: dict[str, list[str]] = {}
    for row in rows:
        delta = row["estimates"]["delta"]
        if delta["estimate"] is None and row["comparable"] != "no":
            undefined.setdefault(str(delta["reason"]), []).append(row["task"])
    for told, tasks in undefined.items():
        print_text(f"undefined on {', '.join(tasks)}: {told}")


def _print_not_whole(pair: PairView, rows: list[Row]) -> None:
    """Where an accuracy is also one of completions that were cut off, or never asked for."""
    from ptharness.context import VISIBLE_SHARE

    for rate, what in (
        ("truncation_rate", "completions cut off"),
        ("too_long_rate", "prompts too long for the context"),
    ):
        for row in rows:
            shares = [share or 0.0 for share in row["not_whole"][rate]]
            if max(shares) > VISIBLE_SHARE:
                sides = zip((pair.source, pair.target), shares, strict=True)
                told = ", ".join(f"{name} {_percent(share)}" for name, share in sides)
                print_text(f"{what} on {row['task']}: {told}")


def _is_unvaried(row: Row) -> bool:
    delta = row["estimates"]["delta"]
    return delta["estimate"] is not None and delta["minimum_detectable_effect"] is None


def _value(value: float, row: Row) -> str:
    return f"{100 * value:.1f}" if row["is_accuracy"] else f"{value:.4g}"


def _change(value: float, row: Row) -> str:
    text = f"{100 * value:+.1f}" if row["is_accuracy"] else f"{value:+.4g}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _ends(delta: Row, row: Row) -> tuple[str, str]:
    low, high = (_change(delta[end], row).lstrip("+") for end in ("ci_low", "ci_high"))
    return low, high


def _p(value: float | None) -> str:
    if value is None:
        return "?"
    if value < 0.0001:
        return "<1e-4"
    return f"{value:.2g}" if value >= 0.001 else f"{value:.4f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
