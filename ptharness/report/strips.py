"""Texts on which a child parts most from its parent, each token shaded by how far.

How far: KL of the next token's distributions where these are compared whole, otherwise by how much
less likely the parent finds the token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from ptharness.report.lineage import Lineage
from ptharness.report.tables import Row, Tables

SHADES = (0.2, 0.7, 1.5, 3.0, 6.0)
"""Nats from which each shade on is used."""
LEAST_NATS = 1.0
"""A sample that parts by less is like any other."""
MOST_STRIPS = 24
MOST_TOKENS = 400


@dataclass(frozen=True)
class Token:
    """A token's text, its shade (0 for none), and its probabilities in words."""

    text: str
    shade: int
    title: str


@dataclass(frozen=True)
class Strip:
    """One sample of a child, token by token."""

    task: str
    item: str
    prompt: str
    nats: str
    tokens: tuple[Token, ...]
    left_out: int


Group = tuple[tuple[str, str], list[Strip]]
"""A child and its parent, and samples of the child."""


def strips(tables: Tables, lineage: Lineage) -> tuple[list[Group], int]:
    """The samples that part most, one of each stage and task first, and how many are left out.

    Only these are read whole.
    """
    table = tables.likelihoods("token_likelihoods")
    if table is None:
        return [], 0
    heads = table.select(["source", "target", "task", "item", "nats"]).to_pylist()
    parted = [
        place
        for place, row in enumerate(heads)
        if _is_edge(row, lineage) and (row["nats"] or 0.0) >= LEAST_NATS
    ]
    seen: dict[tuple[str, str], set[str]] = {}
    ranked = []
    for place in sorted(parted, key=lambda place: -heads[place]["nats"]):
        row = heads[place]
        items = seen.setdefault((row["source"], row["task"]), set())
        if row["item"] not in items:
            ranked.append((len(items), -row["nats"], place))
            items.add(row["item"])
    chosen = [place for *_, place in sorted(ranked)[:MOST_STRIPS]]
    rows = table.take(pa.array(chosen, pa.int64())).to_pylist()
    rows.sort(key=lambda row: (lineage.order(row["source"]), row["target"], -row["nats"]))
    groups = groupby(rows, lambda row: (row["source"], row["target"]))
    shown = [(pair, [_strip(row) for row in found]) for pair, found in groups]
    return shown, len(parted) - len(chosen)


def _is_edge(row: Row, lineage: Lineage) -> bool:
    """Whether the row is of a child and its parent in this lineage."""
    child = lineage.by_name.get(row["source"])
    return child is not None and row["target"] in child.parents


def _strip(row: Row) -> Strip:
    count = judged_tokens(row)
    return Strip(
        row["task"],
        row["item"],
        row["prompt"] or "",
        f"{row['nats']:.1f}",
        tuple(_token(row, place) for place in range(min(count, MOST_TOKENS))),
        max(count - MOST_TOKENS, 0),
    )


def judged_tokens(row: Row) -> int:
    """How many tokens of a row have all that is shown of them: a damaged table may hold fewer."""
    lists = [row["tokens"], row["source_logprobs_nats"] or (), row["target_logprobs_nats"] or ()]
    if row["divergences_nats"] is not None:
        lists.append(row["divergences_nats"])
    return min(map(len, lists))


def shade(row: Row, place: int) -> int:
    """How far a child parts from its parent at a token of a row: 0 to the number of `SHADES`."""
    if row["divergences_nats"] is not None:
        nats = row["divergences_nats"][place]
    else:
        nats = row["source_logprobs_nats"][place] - row["target_logprobs_nats"][place]
    return sum(nats >= least for least in SHADES)


def shown_token(text: str) -> str:
    """A token's text, its line breaks visible."""
    return text.replace("\n", "\u23ce\n")


def _token(row: Row, place: int) -> Token:
    source, target = (row[f"{side}_logprobs_nats"][place] for side in ("source", "target"))
    title = f"{_probability(source)} under its writer, {_probability(target)} under the parent"
    if row["divergences_nats"] is not None:
        title += f"; KL {row['divergences_nats'][place]:.2g} nats"
    return Token(shown_token(row["tokens"][place]), shade(row, place), title)


def _probability(logprob: float) -> str:
    percent = 100 * math.exp(min(logprob, 0.0))
    return f"{percent:.3g} %" if percent >= 0.001 else "< 0.001 %"
