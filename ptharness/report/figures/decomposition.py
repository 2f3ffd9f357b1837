"""What each stage changed, cell by cell: stacked, and each cell with its interval."""

from __future__ import annotations

from typing import Any

from ptharness.report.figures.base import (
    CELL_COLOURS,
    CELL_WORDS,
    COMPARED,
    SIGNED,
    Figure,
    Sheet,
    pair_name,
    reasons_by_scope,
    scope_parameter,
    shortened,
    tip,
)
from ptharness.report.lineage import Lineage
from ptharness.report.tables import Row, Tables, files

STEP = 58
LANES = {"exp": -4, "rsh": 3, "rsh_up": 3, "rsh_down": 10, "att": 17, "res": 24}
"""Pixels from the middle of a row, in the chart of intervals."""
_FILES = files("edges")
_QUANTITIES = ("delta", *CELL_WORDS)


def decomposition(tables: Tables, lineage: Lineage) -> tuple[Figure, Figure]:
    """The stacked cells, and the same cells each with its interval."""
    rows = [
        row
        for row in tables.rows("edges")
        if row["relation"] in COMPARED and row["quantity"] in _QUANTITIES
    ]
    places = _places(rows, lineage)
    grouped: dict[tuple[int, int], dict[str, Row]] = {}
    for row in rows:
        scope = lineage.scope(row)
        if scope is not None and row["estimate"] is not None:
            key = (scope.index, places[pair_name(row)])
            grouped.setdefault(key, {})[row["quantity"]] = row
    split = {key: found for key, found in grouped.items() if cells_of(found)}

    def common(drawn: dict[tuple[int, int], dict[str, Row]]) -> dict[str, Any]:
        scopes = tuple(sorted({scope for scope, _ in drawn}))
        return {
            "files": _FILES,
            "empty": "" if drawn else _why(tables, rows),
            "scopes": scopes,
            "reasons": reasons_by_scope(rows, lineage, scopes),
        }

    return (
        Figure(
            "decomposition",
            "What each change is made of",
            "Stacked bars, one row per stage: expansion, reshaping, attrition and residual in "
            "percentage points of accuracy; a diamond with its interval marks the whole change.",
            spec=_stacked(grouped, places) if grouped else None,
            **common(grouped),
        ),
        Figure(
            "cells",
            "Each cell with its interval",
            "One row per stage: for each cell a dot at its estimate and a line over its "
            "confidence interval, in percentage points.",
            spec=_intervals(split, places) if split else None,
            **common(split),
        ),
    )


def cells_of(estimates: dict[str, Row]) -> list[str]:
    """The cells that add up to the change: reshaping in two where both are known."""
    both = "rsh_up" in estimates and "rsh_down" in estimates
    wanted = ("exp", *(("rsh_up", "rsh_down") if both else ("rsh",)), "att", "res")
    return [cell for cell in wanted if cell in estimates]


def _why(tables: Tables, rows: list[Row]) -> str:
    if note := tables.missing("edges"):
        return note
    if not rows:
        return "There is no stage to compare: the lineage has no edge with common tasks."
    reason = next((row["reason"] for row in rows if row["reason"]), "no reason is given")
    return f"No cell is defined: {reason}."


def _places(rows: list[Row], lineage: Lineage) -> dict[str, int]:
    """Rows of the charts from above, under the names of what they compare."""
    order = {
        pair_name(row): (
            lineage.order(row["target"]),
            row["relation"] != "edge",
            lineage.order(row["source"]),
        )
        for row in rows
    }
    return {name: place for place, name in enumerate(sorted(order, key=order.__getitem__))}


def _base(sheet: Sheet, values: list[Row], count: int) -> Any:
    import altair as alt

    axis = alt.Axis(
        title=None, labels=False, ticks=False, domain=False, grid=True, bandPosition=0, offset=0
    )
    row = alt.Y("i:O", axis=axis, scale=alt.Scale(domain=list(range(count)), padding=0))
    return sheet.scoped(values).encode(y=row)


def _label(sheet: Sheet, places: dict[str, int], scopes: list[int]) -> Any:
    import altair as alt

    short = [" \u2192 ".join(map(shortened, name.split(" \u2192 "))) for name in places]
    values = [{"s": scope, "i": i, "l": name} for scope in scopes for i, name in enumerate(short)]
    return (
        _base(sheet, values, len(places))
        .mark_text(
            align="left",
            baseline="middle",
            yOffset=-20,
            fontWeight=600,
            limit=alt.ExprRef("width"),
        )
        .encode(text="l:N", x=alt.value(0), color=alt.value("var(--ink)"))
    )


def _zero(sheet: Sheet) -> Any:
    import altair as alt

    return (
        sheet.chart([{"z": 0}])
        .mark_rule(aria=False)
        .encode(x="z:Q", color=alt.value("var(--axis)"), size=alt.value(1))
    )


def _axis() -> Any:
    import altair as alt

    return alt.Axis(title="percentage points", labelExpr=SIGNED, orient="top", tickCount=6)


def _stacked(
    grouped: dict[tuple[int, int], dict[str, Row]], places: dict[str, int]
) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    names = list(places)
    bars, deltas = [], []
    for (scope, place), estimates in grouped.items():
        ends = {True: 0.0, False: 0.0}
        name = names[place]
        for cell in cells_of(estimates):
            size = 100 * estimates[cell]["estimate"]
            start = ends[size >= 0]
            ends[size >= 0] = start + size
            text = tip(estimates[cell], name, CELL_WORDS[cell])
            bars.append(
                {
                    "s": scope,
                    "i": place,
                    "c": cell,
                    "a": round(start, 4),
                    "b": round(start + size, 4),
                    "t": text,
                }
            )
        if not cells_of(estimates):
            # As on multiple choice. Vega warns of an axis that it has no bar to make of.
            bars.append({"s": scope, "i": place, "a": 0, "b": 0})
        if (delta := estimates.get("delta")) is not None:
            deltas.append({"s": scope, "i": place, **_ends(delta), "t": tip(delta, name, "change")})
    colour = alt.Scale(domain=list(CELL_COLOURS), range=list(CELL_COLOURS.values()))
    count = len(places)
    drawn = alt.layer(
        _zero(sheet),
        _base(sheet, bars, count)
        .mark_bar(height=18, yOffset=1)
        .encode(
            x=alt.X("a:Q", axis=_axis()),
            x2="b:Q",
            color=alt.Color("c:N", scale=colour, legend=None),
            tooltip="t:N",
        ),
        _base(sheet, deltas, count)
        .mark_rule(yOffset=18, strokeWidth=1.5)
        .encode(
            x=alt.X("lo:Q", axis=_axis()),
            x2="hi:Q",
            color=alt.value("var(--ink)"),
            tooltip="t:N",
        ),
        _base(sheet, deltas, count)
        .mark_point(yOffset=18, shape="diamond", size=50, filled=True, opacity=1)
        .encode(x="e:Q", color=alt.value("var(--ink)"), tooltip="t:N"),
        _label(sheet, places, sorted({scope for scope, _ in grouped})),
    ).add_params(scope_parameter())
    return sheet.finish(drawn, height=STEP * count)


def _intervals(
    grouped: dict[tuple[int, int], dict[str, Row]], places: dict[str, int]
) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    names = list(places)
    lanes: dict[str, list[Row]] = {cell: [] for cell in LANES}
    for (scope, place), estimates in grouped.items():
        name = names[place]
        for cell in cells_of(estimates):
            text = tip(estimates[cell], name, CELL_WORDS[cell])
            lanes[cell].append({"s": scope, "i": place, **_ends(estimates[cell]), "t": text})
    count = len(places)
    layers = [_zero(sheet)]
    for cell, values in lanes.items():
        if not values:
            continue
        colour = alt.value(CELL_COLOURS[cell])
        base = _base(sheet, values, count)
        layers += [
            base.mark_rule(yOffset=LANES[cell], strokeWidth=2).encode(
                x=alt.X("lo:Q", axis=_axis()), x2="hi:Q", color=colour, tooltip="t:N"
            ),
            base.mark_point(yOffset=LANES[cell], size=26, filled=True, opacity=1).encode(
                x="e:Q", color=colour, tooltip="t:N"
            ),
        ]
    layers.append(_label(sheet, places, sorted({scope for scope, _ in grouped})))
    return sheet.finish(alt.layer(*layers).add_params(scope_parameter()), height=STEP * count)


def _ends(row: Row) -> Row:
    """Estimate and interval in percentage points; without an interval a line of no length."""
    estimate = row["estimate"]
    low = estimate if row["ci_low"] is None else row["ci_low"]
    high = estimate if row["ci_high"] is None else row["ci_high"]
    return {
        "e": round(100 * estimate, 4),
        "lo": round(100 * low, 4),
        "hi": round(100 * high, 4),
    }
