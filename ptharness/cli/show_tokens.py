"""What children say of one item, token by token: where do they part from their parent?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ptharness.cli.output import print_json, print_text
from ptharness.cli.show_list import finite, width
from ptharness.errors import ResultsError
from ptharness.item_view import ItemView, Row
from ptharness.report.strips import SHADES, judged_tokens, shade, shown_token
from ptharness.text import safe

BARS = " \u2581\u2582\u2584\u2586\u2588"
"""For each shade a taller one."""
MOST_TOKENS = 400
"""Of a sample, without --full."""
INDENT = "  "


def show_tokens(
    view: ItemView, task: str, item: str, wanted: Sequence[str], full: bool, as_json: bool
) -> None:
    """Print the judged samples of an item with a strip of bars under each line.

    Raises `ResultsError` where none were judged.
    """
    rows = _rows(view, task, item, wanted)
    if as_json:
        values = {"path": str(view.results.path), "task": task, "item": item, "samples": rows}
        print_json(finite(values))
        return
    print_text(f"task    {safe(task)}\nitem    {safe(item)}")
    prompt = None
    for same in _equal(rows):
        row = same[0]
        if row["prompt"] != prompt:
            prompt = row["prompt"]
            shown = safe(prompt or "(none)", keep_lines=True)
            print_text("prompt  " + shown.replace("\n", "\n        "))
        of = sum(r["source"] == row["source"] and r["target"] == row["target"] for r in rows)
        print_text(f"\n{row['source']}, {len(same)} of {of}: {_likely(row)}")
        count = judged_tokens(row)
        most = count if full else min(count, MOST_TOKENS)
        for text, bars in _lines(row, most):
            print_text(f"{INDENT}{text}\n{INDENT}{bars}".rstrip())
        if count > most:
            print_text(f"{INDENT}and {count - most:,} tokens more; --full shows them")
    for name, why in _unjudged(view, wanted).items():
        print_text(f"\n{name}: {why}")
    kinds = {row["divergences_nats"] is not None for row in rows}
    what = " or, where there is no KL, ".join(
        ["KL divergence of the next token"] * (True in kinds)
        + ["nats by which the parent finds a token less likely"] * (False in kinds)
    )
    scale = "  ".join(f"{bar} {least:g}" for bar, least in zip(BARS[1:], SHADES, strict=True))
    print_text(f"\n{what}, from: {scale}")


def _rows(view: ItemView, task: str, item: str, wanted: Sequence[str]) -> list[Row]:
    path = view.results.path / "token_likelihoods.parquet"
    if not path.is_file():
        raise ResultsError(
            f"{path}: missing; `ptharness distances MANIFEST` writes it: every child's samples, "
            "judged by its parent"
        )
    columns = view.results.columns("token_likelihoods")
    rows = [
        row
        for row in view.tables.of_items(path, columns, {item})
        if row["task"] == task and (not wanted or row["source"] in wanted)
    ]
    whys = _unjudged(view, wanted)
    if not rows and wanted and len(whys) == len(set(wanted)):
        raise ResultsError(f"{path}: {'; '.join(f'{name} {why}' for name, why in whys.items())}")
    if not rows:
        of = f" of {', '.join(wanted)}" if wanted else ""
        raise ResultsError(
            f"{path}: no sample{of} of item {item!r} on task {task!r} was judged by a parent; "
            "`ptharness distances` takes the first 64 documents of each task, or --documents N"
        )
    places = {name: place for place, name in enumerate(view.checkpoints)}
    order = len(places)
    return sorted(rows, key=lambda row: (places.get(row["source"], order), row["sample"]))


def _unjudged(view: ItemView, wanted: Sequence[str]) -> dict[str, str]:
    """Why checkpoints that are asked for have no tokens that a parent could judge."""
    parents = view.results.arrow("checkpoints", ["checkpoint", "parents"]).to_pylist()
    whys = {row["checkpoint"]: "has no parent" for row in parents if not row["parents"]}
    if (view.results.path / "distances.parquet").is_file():
        columns = ["source", "relation", "method"]
        for row in view.results.arrow("distances", columns).to_pylist():
            if row["relation"] == "child" and row["method"] is None:
                whys[row["source"]] = "has another vocabulary than its parent: no tokens in common"
    return {name: whys[name] for name in wanted if name in whys}


def _equal(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Samples of one checkpoint that are the same text, the most frequent first."""
    pairs: dict[tuple[str, str], dict[tuple[str, ...], list[Row]]] = {}
    for row in rows:
        texts = pairs.setdefault((row["source"], row["target"]), {})
        texts.setdefault(tuple(row["tokens"]), []).append(row)
    for texts in pairs.values():
        yield from sorted(texts.values(), key=len, reverse=True)


def _likely(row: Row) -> str:
    nats, target = row["nats"], row["target"]
    told = f"{abs(nats):.1f} nats {'less' if nats > 0 else 'more'} likely under {target}"
    if abs(nats) < 0.05:
        told = f"as likely under {target}"
    if row["divergences_nats"] is None:
        return told
    return f"{told}, KL along it {sum(row['divergences_nats']):.1f} nats"


def _lines(row: Row, most: int) -> Iterator[tuple[str, str]]:
    """Lines of text, each with bars of the same width."""
    from rich.cells import cell_len

    room = max(width() - len(INDENT), 20)
    text = bars = ""
    for place, token in enumerate(row["tokens"][:most]):
        bar = BARS[shade(row, place)]
        for character in safe(shown_token(token), keep_lines=True):
            if character == "\n" or cell_len(text) + cell_len(character) > room:
                yield text, bars
                text = bars = ""
            if character != "\n":
                text += character
                bars += bar * cell_len(character)
    if text:
        yield text, bars
