"""One item: its prompt, and what the checkpoints made of it, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ptharness.cli.differences import bounded, marked
from ptharness.cli.output import print_json, print_table, print_text
from ptharness.cli.show_list import as_heading, finite, right, width
from ptharness.item_view import Equal, ItemView, Row, equal_completions
from ptharness.text import safe

MOST_CHECKPOINTS = 4
"""Side by side, where none are named."""

MOST_GROUPS = 4
"""Different completions of one checkpoint without --full."""

MOST_PROMPT, MOST_COMPLETION = 1500, 500
"""Characters without --full."""

_COLUMN, _CHOICE_COLUMN = 38, 18


def show_item(
    view: ItemView, task: str, item: str, wanted: Sequence[str], full: bool, as_json: bool
) -> None:
    """Print an item and its samples."""
    there = view.asked(task, wanted)
    document = view.documents(task, {item}).get(item)
    counts = view.counts(task)
    if as_json:
        samples = {name: view.samples(name, task, item) for name in there}
        print_json(finite(_values(view, task, item, document, counts, samples)))
        return
    samples = {
        name: view.samples(name, task, item)
        for name in (there if wanted else there[:MOST_CHECKPOINTS])
    }
    _print_document(task, item, document, full)
    told = "  ".join(f"{name} {right(counts.get((name, item)))}" for name in there)
    print_text(f"right   {told}")
    _print_prompts_differ(samples)
    rows = [row for found in samples.values() for row in found]
    if any(row["choice_logprobs_nats"] is not None for row in rows):
        _print_choices(view, task, samples)
    else:
        _print_completions(samples, full)
    _print_together(samples)
    if len(samples) < len(there):
        left = " ".join(name for name in there if name not in samples)
        print_text(f"not shown: {left}; --checkpoints A,B names those to show")


def _print_document(task: str, item: str, document: Row | None, full: bool) -> None:
    print_text(f"task    {safe(task)}\nitem    {safe(item)}")
    if document is None:
        print_text("prompt  not in documents.parquet")
        return
    if document["cluster"] not in (None, item):
        print_text(f"cluster {safe(document['cluster'])}")
    for name in ("prompt", "gold"):
        text = safe(document[name] or "(none)", keep_lines=True)
        text = text if full else bounded(text, MOST_PROMPT)
        print_text(f"{name:6}  " + text.replace("\n", "\n        "))


def _print_prompts_differ(samples: Mapping[str, Sequence[Row]]) -> None:
    by_prompt: dict[str, list[str]] = {}
    for name, rows in samples.items():
        if rows:
            by_prompt.setdefault(str(rows[0]["prompt_digest"]), []).append(name)
    if len(by_prompt) > 1:
        groups = " / ".join(" ".join(names) for names in by_prompt.values())
        print_text(
            f"asked   differently: {groups}; the prompt is that of the first checkpoint of the run"
        )


# --- completions ------------------------------------------------------------------------------


def _print_completions(samples: Mapping[str, Sequence[Row]], full: bool) -> None:
    names = list(samples)
    most = None if full else MOST_GROUPS
    groups = {name: equal_completions(rows) for name, rows in samples.items()}
    totals = {name: sum(group.count for group in groups[name]) for name in names}
    first, others = names[0], names[1:]
    across = max(1, width() // _COLUMN - 1)
    blocks = [others[place : place + across] for place in range(0, len(others), across)] or [[]]
    for block in blocks:
        together = [first, *block]
        rows = []
        for row in zip_longest(*(groups[name][:most] for name in together)):
            left = None if row[0] is None else _text(row[0], full)
            cells = [
                "" if group is None else _cell(group, totals[name], left, full, name == first)
                for name, group in zip(together, row, strict=True)
            ]
            rows.append(cells)
        print_table([*map(as_heading, together)], [[f"{cell}\n" for cell in row] for row in rows])
    if others:
        print_text(f"[-...-] in {first} only, {{+...+}} not in {first}: within a row")
    for name in names:
        left_out = len(groups[name][most:]) if most else 0
        if left_out:
            print_text(f"{name}: {left_out} more different completions; --full shows them")
        if not groups[name]:
            print_text(f"{name}: no completion of this item")


def _cell(group: Equal, of: int, left: str | None, full: bool, is_first: bool) -> str:
    text = _text(group, full)
    head = [f"{group.count} of {of}", _judged(group.first)]
    if group.first["finish_reason"] == "length":
        head.append("cut off")
    if not is_first and left is not None:
        text, remark = marked(left, text)
        head.append(remark)
    answer = group.first["answer"]
    if answer is not None and answer.strip() != group.text.strip():
        head.append(f"answer {safe(bounded(answer, 60))}")
    return f"{', '.join(filter(None, head))}\n{text or '(empty)'}"


def _text(group: Equal, full: bool) -> str:
    text = safe(group.text, keep_lines=True)
    return text if full else bounded(text, MOST_COMPLETION)


def _judged(row: Row) -> str:
    if row["error"]:
        return f"scorer gave up: {row['error']}"
    if row["correct"] is not None:
        return "right" if row["correct"] else "wrong"
    return "not judged" if row["score"] is None else f"score {row['score']:.4g}"


def _print_together(samples: Mapping[str, Sequence[Row]]) -> None:
    """What a filter made of all samples of the item together."""
    for name, rows in samples.items():
        for row in rows:
            if row["sample"] is None:
                told = [f"{s['metric']} ({s['filter']}) {s['value']:.4g}" for s in row["scores"]]
                if row["error"] or not told:
                    told = [_judged(row)]
                if row["answer"] is not None:
                    told.append(f"answer {row['answer']}")
                print_text(f"{name}, all samples together: {', '.join(told)}")


# --- choices ----------------------------------------------------------------------------------


def _print_choices(view: ItemView, task: str, samples: Mapping[str, Sequence[Row]]) -> None:
    found = {
        name: next((row for row in rows if row["choice_logprobs_nats"] is not None), None)
        for name, rows in samples.items()
    }
    made = {name: row for name, row in found.items() if row is not None}
    labels = _labels(view, task, list(made.values()))
    longest = max(len(row["choice_logprobs_nats"]) for row in made.values())
    across = max(1, (width() - 20) // _CHOICE_COLUMN)
    names = list(made)
    for place in range(0, len(names), across):
        block = names[place : place + across]
        rows = [
            (labels.get(choice, f"choice {choice}"), *(_logprob(made[n], choice) for n in block))
            for choice in range(longest)
        ]
        chosen = [f"{made[n]['answer'] or '?'} ({_judged(made[n])})" for n in block]
        print_table(("log-likelihood", *map(as_heading, block)), [*rows, ("choice made", *chosen)])
    print_text("in nats; *: the likeliest choice")


def _logprob(row: Row, choice: int) -> str:
    values = row["choice_logprobs_nats"]
    if choice >= len(values) or values[choice] is None:
        return "-"
    known = [value for value in values if value is not None]
    return f"{values[choice]:.3f}{' *' if values[choice] == max(known) else ''}"


def _labels(view: ItemView, task: str, rows: Sequence[Row]) -> dict[int, str]:
    """The texts of choices, as far as they are known: of those that some checkpoint made.

    Only the metric `acc` takes the likeliest choice as it is.
    """
    primary = view.described(task).get("primary") or [""]
    if primary[0] != "acc":
        return {}
    labels: dict[int, str] = {}
    for row in rows:
        values = row["choice_logprobs_nats"]
        if row["answer"] is not None and values and None not in values:
            best = values.index(max(values))
            labels[best] = f"choice {best}: {bounded(str(row['answer']), 60)}"
    return labels


# --- for programs -----------------------------------------------------------------------------


def _values(
    view: ItemView,
    task: str,
    item: str,
    document: Row | None,
    counts: Mapping[tuple[str, str], Row],
    samples: Mapping[str, Sequence[Row]],
) -> dict[str, Any]:
    document = document or {}
    return {
        "path": str(view.results.path),
        "task": task,
        "item": item,
        **{name: document.get(name) for name in ("cluster", "prompt", "gold")},
        "metadata": _metadata(document.get("metadata")),
        "checkpoints": [
            {
                "checkpoint": name,
                **counts.get((name, item), {"n": 0, "c": 0, "mean_score": None}),
                "samples": [
                    {key: value for key, value in row.items() if key != "item"} for row in rows
                ],
            }
            for name, rows in samples.items()
        ],
    }


def _metadata(text: str | None) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return {}
