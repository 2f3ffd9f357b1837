"""Texts on which a child parts most from its parent, each token shaded by how far."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ptharness.report.lineage import Lineage
from ptharness.report.tables import Tables

SHADES = (0.2, 0.7, 1.5, 3.0, 6.0)
"""Nats by which a token is less likely under the parent, from which each shade on is used."""
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

    source: str
    target: str
    task: str
    item: str
    prompt: str
    nats: str
    tokens: tuple[Token, ...]
    left_out: int


def strips(tables: Tables, lineage: Lineage) -> tuple[list[Strip], int]:
    """The samples that part most, one of each stage and task first; and how many there are."""
    rows = [
        row
        for row in tables.rows("divergent")
        if lineage.known(row["source"]) and (row["nats"] or 0.0) >= LEAST_NATS
    ]
    seen: dict[tuple[str, str], int] = {}
    ranked = []
    for row in sorted(rows, key=lambda row: -row["nats"]):
        place = seen.setdefault((row["source"], row["task"]), 0)
        seen[row["source"], row["task"]] += 1
        ranked.append((place, -row["nats"], row))
    ranked.sort(key=lambda one: one[:2])
    chosen = [row for _, _, row in ranked[:MOST_STRIPS]]
    chosen.sort(key=lambda row: (lineage.order(row["source"]), -row["nats"]))
    made = [
        Strip(
            row["source"],
            row["target"],
            row["task"],
            row["item"],
            row["prompt"] or "",
            f"{row['nats']:.1f}",
            tuple(
                _token(*one)
                for one in zip(
                    row["tokens"][:MOST_TOKENS],
                    row["source_logprobs_nats"],
                    row["target_logprobs_nats"],
                    strict=False,
                )
            ),
            max(len(row["tokens"]) - MOST_TOKENS, 0),
        )
        for row in chosen
    ]
    return made, len(rows)


def _token(text: str, source: float, target: float) -> Token:
    gap = source - target
    shade = sum(gap >= least for least in SHADES)
    shown = text.replace("\n", "\u23ce\n") or "\u00b7"
    title = f"{_probability(source)} under its writer, {_probability(target)} under the parent"
    return Token(shown, shade, title)


def _probability(logprob: float) -> str:
    return f"{100 * math.exp(min(logprob, 0.0)):.2g} %"
