"""What a solved item costs in tokens, against how often items are solved."""

from __future__ import annotations

import math
from typing import Any

from ptharness.report.figures.base import (
    Figure,
    Sheet,
    reasons_by_scope,
    scope_parameter,
    series_scales,
    shortened,
    shown_parameter,
)
from ptharness.report.lineage import Lineage
from ptharness.report.numbers import interval, percent, plain
from ptharness.report.tables import Row, Tables, files

HEIGHT = 340
_WIDTH = 900
"""At this width labels are laid out so that they do not meet."""


def cost(tables: Tables, lineage: Lineage) -> Figure:
    """A point per checkpoint: tokens per solve across, pass@1 up."""
    rows = [
        row
        for row in tables.rows("measures")
        if lineage.known(row["checkpoint"])
        and (
            row["quantity"] == "tokens_per_solve"
            or (row["quantity"] == "pass_at_k" and row["k"] == 1)
        )
    ]
    found: dict[tuple[int, str], dict[str, Row]] = {}
    for row in rows:
        scope = lineage.scope(row)
        if scope is not None and row["estimate"] is not None:
            found.setdefault((scope.index, row["checkpoint"]), {})[row["quantity"]] = row
    values = [
        _value(scope, lineage.by_name[name].index, estimates)
        for (scope, name), estimates in found.items()
        if len(estimates) == 2 and estimates["tokens_per_solve"]["estimate"] > 0
    ]
    scopes = tuple(sorted({row["s"] for row in values}))
    for scope_index in scopes:
        _place_labels([row for row in values if row["s"] == scope_index])
    empty = ""
    if not values:
        reason = next((row["reason"] for row in rows if row["reason"]), None)
        empty = tables.missing("measures") or (
            f"No cost is defined: {reason}."
            if reason
            else "No task of this run draws answers, so there are no tokens to count."
        )
    return Figure(
        "cost",
        "Tokens per solved item against accuracy",
        "A scatter plot with a point per checkpoint: completion tokens per solved item on a "
        "logarithmic axis, against pass at 1.",
        files("measures"),
        spec=_spec(values, lineage) if values else None,
        empty=empty,
        scopes=scopes,
        reasons=reasons_by_scope(rows, lineage, scopes),
    )


def _value(scope: int, checkpoint: int, estimates: dict[str, Row]) -> Row:
    tokens, share = estimates["tokens_per_solve"], estimates["pass_at_k"]
    name = share["checkpoint"]
    text = (
        f"{name}\npass@1 {percent(share['estimate'])} % {interval(share)}\n"
        f"{plain(tokens['estimate'])} tokens per solve {interval(tokens)}"
    )
    low = share["estimate"] if share["ci_low"] is None else share["ci_low"]
    high = share["estimate"] if share["ci_high"] is None else share["ci_high"]
    return {
        "s": scope,
        "c": checkpoint,
        "x": round(tokens["estimate"], 3),
        "y": round(share["estimate"], 5),
        "lo": round(low, 5),
        "hi": round(high, 5),
        "l": shortened(name),
        "t": text,
    }


def _place_labels(values: list[Row]) -> None:
    """A side for each label on which it meets no point and no other label, where there is one."""
    xs = [math.log(row["x"]) for row in values]
    ys = [row["y"] for row in values]
    wide, high = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    points = [
        ((x - min(xs)) / wide * _WIDTH, (max(ys) - y) / high * HEIGHT * 0.9)
        for x, y in zip(xs, ys, strict=True)
    ]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for row, (x, y) in zip(values, points, strict=True):
        width = 7.0 * len(row["l"]) + 4
        sides = {
            "r": (x + 7, y - 7, x + 7 + width, y + 7),
            "l": (x - 7 - width, y - 7, x - 7, y + 7),
            "u": (x - width / 2, y - 22, x + width / 2, y - 8),
            "d": (x - width / 2, y + 8, x + width / 2, y + 22),
        }
        row["p"] = min(sides, key=lambda side: sum(_meet(sides[side], box) for box in taken))
        taken.append(sides[row["p"]])


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _spec(values: list[Row], lineage: Lineage) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    colour, _ = series_scales(lineage)
    base = (
        sheet.scoped(values)
        .transform_filter("indexof(shown, datum.c) >= 0")
        .encode(
            x=alt.X(
                "x:Q",
                scale=alt.Scale(
                    type="log",
                    nice=False,
                    domain=[alt.ExprRef("cheap[scope]"), alt.ExprRef("dear[scope]")],
                ),
                axis=alt.Axis(title="completion tokens per solved item (log)", tickCount=6),
            ),
            color=alt.Color("c:N", scale=colour, legend=None),
        )
    )
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(
            zero=False,
            nice=False,
            domain=[alt.ExprRef("low[scope]"), alt.ExprRef("high[scope]")],
        ),
        axis=alt.Axis(title="pass@1", format="%", tickCount=6),
    )
    layers: list[Any] = [
        base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(y=alt.Y("lo:Q"), y2="hi:Q"),
        base.mark_point(filled=True, size=110, opacity=1).encode(y=y, tooltip="t:N"),
    ]
    sides: dict[str, dict[str, Any]] = {
        "r": {"align": "left", "dx": 9},
        "l": {"align": "right", "dx": -9},
        "u": {"align": "center", "dy": -14},
        "d": {"align": "center", "dy": 14},
    }
    for side, placed in sides.items():
        if any(row["p"] == side for row in values):
            layers.append(
                base.transform_filter(f"datum.p === '{side}'")
                .mark_text(baseline="middle", **placed)
                .encode(y=y, text="l:N", color=alt.value("var(--ink)"))
            )
    limits = _limits(values, len(lineage.scopes))
    drawn = alt.layer(*layers).add_params(
        scope_parameter(),
        shown_parameter(lineage),
        *(alt.param(name=name, value=ends) for name, ends in limits.items()),
    )
    return sheet.finish(drawn, height=HEIGHT)


def _limits(values: list[Row], scopes: int) -> dict[str, list[float]]:
    """Ends of both axes by scope: they stay where they are whichever checkpoints are shown."""
    limits = {"cheap": [1.0] * scopes, "dear": [10.0] * scopes}
    limits |= {"low": [0.0] * scopes, "high": [1.0] * scopes}
    for scope in {row["s"] for row in values}:
        here = [row for row in values if row["s"] == scope]
        tokens = [row["x"] for row in here]
        room = max((max(tokens) / min(tokens)) ** 0.16, 1.1)
        limits["cheap"][scope], limits["dear"][scope] = min(tokens) / room, max(tokens) * room
        low, high = min(row["lo"] for row in here), max(row["hi"] for row in here)
        margin = max(0.08 * (high - low), 0.02)
        limits["low"][scope] = max(low - margin, -0.02)
        limits["high"][scope] = min(high + margin, 1.04)
    return limits
