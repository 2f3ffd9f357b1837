"""The items that one checkpoint solves and another does not, for `ptharness show`."""

from __future__ import annotations

from dataclasses import asdict

from ptharness.cli.differences import one_line
from ptharness.cli.output import counted, print_json, print_table, print_text
from ptharness.cli.show_list import MOST_GOLD, MOST_ITEMS, MOST_PROMPT, as_heading, listed
from ptharness.item_view import ItemView, Row
from ptharness.pair_view import GAINED, PairView, Turned, settings_of


def show_turned(
    view: ItemView,
    pair: tuple[str, str],
    direction: str,
    task: str | None,
    show_all: bool,
    as_json: bool,
) -> None:
    """List them, with how many luck would show."""
    source, target = (view.checkpoint(name) for name in pair)
    found = PairView(view.results, source, target, settings_of(view.results), task)
    turned = found.turned(direction)
    items = [item for one in turned for item in one.items]
    shown = items if show_all or as_json else items[:MOST_ITEMS]
    documents = {
        (one.task, item): row
        for one in turned
        for item, row in view.documents(
            one.task, {item["item"] for item in shown if item["task"] == one.task}
        ).items()
    }
    if as_json:
        print_json(_values(found, direction, turned, documents))
        return
    solver, other = (target, source) if direction == GAINED else (source, target)
    print_text(
        f"{direction}: solved by a sample of {solver} and by none of {other}; {source} -> {target}"
    )
    _print_tasks(found, direction, turned)
    if items:
        _print_items(found, turned, shown, documents, several=len(turned) > 1)
        print_text(listed(len(shown), len(items)))


def _print_tasks(found: PairView, direction: str, turned: list[Turned]) -> None:
    quantity = "new" if direction == GAINED else "lost"
    rows = []
    for one in turned:
        share, again = (one.within_k.get(name) for name in (quantity, "same_model_new"))
        rows.append(
            (
                one.task,
                one.shared,
                "-" if one.comparable == "no" else len(one.items),
                "-" if share is None else _expected(share.estimate, one.shared),
                "-" if again is None else _expected(again.estimate, one.shared),
                _certified(one),
                one.k or "-",
            )
        )
    columns = ("task", "items", direction, "within k", "luck within k", "certified", "k")
    print_table(columns, rows)
    print_text(
        f"within k: expected number of items {direction} within k attempts; luck: how many a "
        f"second run of {found.source} would show"
    )
    notes: dict[str, list[str]] = {}
    for one in turned:
        reason = f"certified items {one.reason}" if one.within_k and one.reason else one.reason
        told = (reason, one.note if one.comparable != "no" else None, _beside(one, direction))
        for note in filter(None, told):
            notes.setdefault(note, []).append(one.task)
    for note, tasks in notes.items():
        where = "all tasks" if len(tasks) == len(turned) and len(tasks) > 1 else ", ".join(tasks)
        print_text(f"{where}: {note}")


def _certified(one: Turned) -> str:
    """Their number; `?` where there are too few samples to certify any."""
    if not one.within_k:
        return "-"
    return "?" if one.reason else str(len(one.certified))


def _beside(one: Turned, direction: str) -> str | None:
    """Certified items that are not in the list, for both sides solve them now and then."""
    beside = set(one.certified) - {item["item"] for item in one.items}
    if not beside:
        return None
    return (
        f"{counted(len(beside), 'certified item')} not {direction} in this sense, for both sides "
        "have a right sample"
    )


def _expected(share: float | None, items: int) -> str:
    return "?" if share is None else f"{max(share, 0.0) * items:.1f}"


def _print_items(
    found: PairView,
    turned: list[Turned],
    shown: list[Row],
    documents: dict[tuple[str, str], Row],
    *,
    several: bool,
) -> None:
    certified = {(one.task, item) for one in turned for item in one.certified}
    rows = []
    for item in shown:
        place = item["task"], item["item"]
        document = documents.get(place, {})
        rows.append(
            (
                *([item["task"]] if several else []),
                item["item"],
                one_line(document.get("prompt"), MOST_PROMPT, end=True),
                one_line(document.get("gold"), MOST_GOLD),
                f"{item['source_c']}/{item['source_n']}",
                f"{item['target_c']}/{item['target_n']}",
                "certified" if place in certified else "",
            )
        )
    sides = (as_heading(found.source), as_heading(found.target))
    columns = ("item", "prompt", "gold", *sides, "")
    print_table(("task", *columns) if several else columns, rows)


def _values(
    found: PairView,
    direction: str,
    turned: list[Turned],
    documents: dict[tuple[str, str], Row],
) -> Row:
    return {
        "path": str(found.results.path),
        "source": found.source,
        "target": found.target,
        "direction": direction,
        "support_budget": found.settings.k,
        "tasks": [
            {
                "task": one.task,
                "comparable": one.comparable,
                "note": one.note,
                "items": one.shared,
                direction: len(one.items),
                "k": one.k or None,
                "within_k": {name: asdict(estimate) for name, estimate in one.within_k.items()},
                "certified": one.certified,
                "reason": one.reason,
            }
            for one in turned
        ],
        "items": [
            {
                **item,
                **{
                    name: documents.get((one.task, item["item"]), {}).get(name)
                    for name in ("prompt", "gold")
                },
                "certified": item["item"] in one.certified,
            }
            for one in turned
            for item in one.items
        ],
    }
