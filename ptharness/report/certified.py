"""Certified items by name, with what parent and child wrote side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ptharness.report.choices import NO_ATTEMPTS, has_choices_only
from ptharness.report.lineage import Lineage
from ptharness.report.tables import Row, Tables

MOST_ITEMS = 24
PER_SIDE = 3
MOST_LETTERS = 400
"""Of a prompt, a gold answer, a completion."""
WORDS = {
    "newly_reachable": "newly reachable",
    "no_longer_reachable": "no longer reachable",
}


@dataclass(frozen=True)
class Completion:
    text: str
    correct: bool | None
    cut: bool


@dataclass(frozen=True)
class Side:
    """What one checkpoint made of the item."""

    checkpoint: str
    solved: int
    samples: int
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class Item:
    """A certified item."""

    task: str
    item: str
    direction: str
    prompt: str
    gold: str
    q: float
    sides: tuple[Side, Side]


@dataclass(frozen=True)
class Group:
    """The items of one stage, and how many more the table has."""

    source: str
    target: str
    items: tuple[Item, ...]
    more: int


@dataclass(frozen=True)
class Certified:
    """All groups; `note` says why there are none."""

    groups: tuple[Group, ...]
    total: int
    shown: int
    note: str


def certified(tables: Tables, lineage: Lineage) -> Certified:
    """A bounded choice: the surest of every stage, direction and task in turn."""
    rows = tables.rows("certified")
    if not rows:
        note = tables.missing("certified") or _why(tables)
        return Certified((), 0, 0, note)
    chosen = _choose(rows, lineage)
    documents = _documents(tables, chosen)
    samples = _samples(tables, chosen)
    groups = []
    for pair in dict.fromkeys((row["source"], row["target"]) for row in chosen):
        own = [row for row in chosen if (row["source"], row["target"]) == pair]
        every = sum((row["source"], row["target"]) == pair for row in rows)
        items = tuple(_item(row, documents, samples) for row in own)
        groups.append(Group(*pair, items, every - len(own)))
    return Certified(tuple(groups), len(rows), len(chosen), "")


def _why(tables: Tables) -> str:
    """No item is certified: of what the counts of certified items say themselves."""
    reasons = (
        row["reason"]
        for row in tables.rows("edges")
        if row["quantity"] in ("certified_new", "certified_lost") and row["reason"]
    )
    reason = NO_ATTEMPTS if has_choices_only(tables.run) else next(reasons, None)
    return "No item is certified as newly or no longer reachable" + (
        f": {reason}." if reason else "."
    )


def _choose(rows: list[Row], lineage: Lineage) -> list[Row]:
    queues: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key: tuple[str, ...] = (row["source"], row["target"], row["direction"], row["task"])
        queues.setdefault(key, []).append(row)
    ordered = sorted(queues, key=lambda key: (lineage.order(key[1]), lineage.order(key[0]), key))
    for queue in queues.values():
        queue.sort(key=lambda row: (row["q"], row["p"], row["item"]))
    chosen: list[Row] = []
    depth = 0
    while len(chosen) < min(MOST_ITEMS, len(rows)):
        for key in _across_stages(ordered):
            if depth < len(queues[key]) and len(chosen) < MOST_ITEMS:
                chosen.append(queues[key][depth])
        depth += 1
    place = {key: number for number, key in enumerate(ordered)}
    chosen.sort(
        key=lambda row: (
            place[row["source"], row["target"], row["direction"], row["task"]],
            row["q"],
            row["item"],
        )
    )
    return chosen


def _across_stages(keys: list[tuple[str, ...]]) -> Iterable[tuple[str, ...]]:
    """Keys so that every stage has its first before any has its second, directions in turn."""
    by_pair: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for key in keys:
        by_pair.setdefault(key[:2], []).append(key)
    for own in by_pair.values():
        directions = [key[2] for key in own]
        turns = {key: directions[:at].count(key[2]) for at, key in enumerate(own)}
        own.sort(key=lambda key: (turns[key], key[2]))
    deepest = max(map(len, by_pair.values()))
    return [own[turn] for turn in range(deepest) for own in by_pair.values() if turn < len(own)]


def _documents(tables: Tables, chosen: list[Row]) -> dict[tuple[str, str], Row]:
    path = tables.results.path / "documents.parquet"
    columns = ["task", "item", "prompt", "gold"]
    rows = tables.of_items(path, columns, {row["item"] for row in chosen})
    return {(row["task"], row["item"]): row for row in rows}


def _samples(tables: Tables, chosen: list[Row]) -> dict[tuple[str, str, str], list[Row]]:
    wanted: dict[tuple[str, str], set[str]] = {}
    for row in chosen:
        for side in ("source", "target"):
            wanted.setdefault((row[side], row["task"]), set()).add(row["item"])
    found: dict[tuple[str, str, str], list[Row]] = {}
    for (checkpoint, task), items in wanted.items():
        if any("/" in name or name.startswith(".") for name in (checkpoint, task)):
            continue  # no name of ours: it would lead out of the folder
        path = tables.results.path / "samples" / checkpoint / f"{task}.parquet"
        for row in tables.of_items(path, ["item", "sample", "completion", "correct"], items):
            if row["completion"] is not None:
                found.setdefault((checkpoint, task, row["item"]), []).append(row)
    return found


def _item(
    row: Row,
    documents: dict[tuple[str, str], Row],
    samples: dict[tuple[str, str, str], list[Row]],
) -> Item:
    document = documents.get((row["task"], row["item"]), {})
    sides = []
    for side in ("source", "target"):
        rows = samples.get((row[side], row["task"], row["item"]), [])
        rows.sort(key=lambda sample: (not sample["correct"], sample["sample"] or 0))
        completions = tuple(
            Completion(
                sample["completion"][:MOST_LETTERS],
                sample["correct"],
                len(sample["completion"]) > MOST_LETTERS,
            )
            for sample in rows[:PER_SIDE]
        )
        sides.append(Side(row[side], row[f"{side}_c"], row[f"{side}_n"], completions))
    return Item(
        row["task"],
        row["item"],
        WORDS.get(row["direction"], str(row["direction"])),
        _short(document.get("prompt")),
        _short(document.get("gold")),
        row["q"],
        (sides[0], sides[1]),
    )


def _short(text: str | None) -> str:
    if text is None:
        return ""
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]} \u2026"
