"""Histograms of provenance: the sides of preference pairs stand apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import altair as alt
import pytest

from ptharness.report.figures.provenance import provenance


def row(side: str, measured: str = "parent_like", gap: float = 0.0, **more: Any) -> dict[str, Any]:
    return {
        "checkpoint": "dpo",
        "parent": "sft",
        "side": side,
        "provenance_declared": "off_policy",
        "provenance_measured": measured,
        "reason": "why",
        "gap_nats_per_token": gap,
        "gap_ci_low": gap - 0.05,
        "gap_ci_high": gap + 0.05,
        "auc": 0.5,
        "like_share": 1.0,
        "rare_token_share": 0.0,
        "looks_filtered": None,
        "given_nats_per_token": {"chosen": [0.1] * 4, "rejected": [0.9] * 4}.get(side, [0.5] * 8),
        "own_nats_per_token": [0.1, 0.3, 0.5, 0.9],
        **more,
    }


def drawn(*rows: dict[str, Any]) -> tuple[list[Any], list[dict[str, str]]]:
    tables: Any = SimpleNamespace(rows=lambda _: list(rows))
    lineage: Any = SimpleNamespace(
        known=lambda _: True, order=lambda _: 0, by_name={"dpo": SimpleNamespace(index=1)}
    )
    return cast("tuple[list[Any], list[dict[str, str]]]", provenance(tables, lineage))


def test_the_sides_of_pairs_are_drawn_apart() -> None:
    pairs = row("all"), row("chosen", "mixed", -0.17), row("rejected", "parent_unlike", 0.14)
    ((figure,), _) = drawn(*pairs)
    alt.Chart.from_dict({**figure.spec, "datasets": {}})
    bars, outlines = figure.spec["datasets"].values()
    assert {one["l"] for one in bars} == {"own answers"}
    peaks = {one["l"]: one["x"] for one in outlines if one["y"] == 1.0}
    assert peaks["chosen"] < peaks["rejected"]
    assert "; chosen \u22120.170 [" in figure.note
    assert "; rejected +0.140 [" in figure.note
    ((alone,), _) = drawn(row("all"))
    (values,) = alone.spec["datasets"].values()
    assert {one["l"] for one in values} == {"own answers", "trajectories"}


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ("parent_like", "like the parent's own words"),
        ("parent_unlike", "unlike the parent's own words"),
    ],
)
def test_a_caption_claims_no_history(measured: str, words: str) -> None:
    ((figure,), _) = drawn(row("all", measured))
    assert figure.note.endswith(f": {words}")


def test_nothing_is_not_below_nothing() -> None:
    (_, (cells,)) = drawn(row("all", gap=-0.0004, gap_ci_low=-0.0001))
    assert cells["gap"] == "+0.000 [0.000, 0.050]"


def test_a_minus_is_one_in_the_reason_too() -> None:
    reason = "the gap's interval holds -0.1 and 0.1; parent-like text"
    (_, (cells,)) = drawn(row("all", reason=reason))
    assert cells["reason"] == reason.replace("-0.1", "\u22120.1")
