"""How the cells of each edge move with k, the attempts within which reachable means."""

from __future__ import annotations

import json
from typing import Any

from ptharness.report.choices import NO_ATTEMPTS, has_choices_only
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
)
from ptharness.report.lineage import Lineage
from ptharness.report.tables import Row, Tables, files

CELLS = ("exp", "rsh", "att", "res")
_TIP = (
    f"({json.dumps({cell: CELL_WORDS[cell] for cell in CELLS})})[datum.c] + ', k = ' + datum.k + "
    "'\\n' + format(datum.e, '+.1f') + ' pp [' + format(datum.lo, '.1f') + ', ' + "
    "format(datum.hi, '.1f') + ']'"
)
"""What hovering says is made of the row there, for want of room."""
MOST_ROWS = 9_000
"""More than this and single tasks are left out: the page has a size to keep."""


def sensitivity(tables: Tables, lineage: Lineage) -> tuple[list[Figure], str]:
    """A small chart per edge, and a note on what was left out or is missing."""
    rows = [
        row
        for row in tables.rows("sensitivity")
        if row["relation"] in COMPARED and row["quantity"] in CELLS and lineage.scope(row)
    ]
    note = tables.missing("sensitivity") or ""
    if not note and not any(row["estimate"] is not None for row in rows):
        reason = next((row["reason"] for row in rows if row["reason"]), None)
        if has_choices_only(tables.run):
            reason = NO_ATTEMPTS
        note = f"No cell is defined at any k{f': {reason}' if reason else ''}."
    if len(rows) > MOST_ROWS:
        rows = [row for row in rows if row["scope"] != "task"]
        note = "Of so many stages and tasks only the means are drawn; sensitivity.parquet has all."
    edges: dict[tuple[int, bool, str], list[Row]] = {}
    for row in rows:
        key = (lineage.order(row["target"]), row["relation"] != "edge", pair_name(row))
        edges.setdefault(key, []).append(row)
    limits = _limits(rows, lineage)
    figures: list[Figure] = []
    for number, key in enumerate(sorted(edges)):
        found, name = edges[key], key[-1]
        if not (values := _values(found, lineage)):
            continue
        scopes = tuple(sorted({row["s"] for row in values}))
        # Charts of one shape: only their rows differ, and altair takes its time.
        shape = figures[0].spec if figures else None
        spec = {**shape, "datasets": {"rows0": values}} if shape else _spec(values, limits, rows)
        figures.append(
            Figure(
                f"sensitivity-{number}",
                name,
                f"Lines over k for {name}: expansion, reshaping, attrition and residual in "
                "percentage points, with interval bands.",
                files("sensitivity"),
                spec=spec,
                scopes=scopes,
                reasons=reasons_by_scope(found, lineage, scopes),
            )
        )
    return figures, note


def _values(rows: list[Row], lineage: Lineage) -> list[Row]:
    values = []
    for row in rows:
        scope = lineage.scope(row)
        if scope is None or row["estimate"] is None or row["k"] is None:
            continue
        low = row["estimate"] if row["ci_low"] is None else row["ci_low"]
        high = row["estimate"] if row["ci_high"] is None else row["ci_high"]
        values.append(
            {
                "s": scope.index,
                "c": row["quantity"],
                "k": row["k"],
                "e": round(100 * row["estimate"], 3),
                "lo": round(100 * low, 3),
                "hi": round(100 * high, 3),
            }
        )
    return values


def _limits(rows: list[Row], lineage: Lineage) -> tuple[list[float], list[float]]:
    """Lowest and highest value by scope: the charts of all edges share their axis."""
    lows = [0.0] * len(lineage.scopes)
    highs = [1.0] * len(lineage.scopes)
    for row in rows:
        scope = lineage.scope(row)
        if scope is not None and row["estimate"] is not None:
            ends = [row[n] for n in ("estimate", "ci_low", "ci_high") if row[n] is not None]
            lows[scope.index] = min(lows[scope.index], round(100 * min(ends), 3))
            highs[scope.index] = max(highs[scope.index], round(100 * max(ends), 3))
    return lows, highs


def _spec(
    values: list[Row], limits: tuple[list[float], list[float]], rows: list[Row]
) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    colour = alt.Color(
        "c:N",
        scale=alt.Scale(domain=list(CELLS), range=[CELL_COLOURS[cell] for cell in CELLS]),
        legend=None,
    )
    budgets = sorted({row["k"] for row in rows if row["k"] and row["estimate"] is not None})
    x = alt.X(
        "k:Q",
        scale=alt.Scale(type="log", base=2, nice=False, domain=[budgets[0], max(budgets[-1], 2)]),
        axis=alt.Axis(title=None, values=budgets, format="d", grid=False),
    )
    y = alt.Y(
        "e:Q",
        axis=alt.Axis(title=None, labelExpr=SIGNED, tickCount=4),
        scale=alt.Scale(
            domain=[alt.ExprRef("lows[scope]"), alt.ExprRef("highs[scope]")], clamp=True
        ),
    )
    base = sheet.scoped(values).transform_calculate(t=_TIP).encode(x=x, color=colour)
    drawn = alt.layer(
        base.mark_area(opacity=0.13).encode(y=alt.Y("lo:Q"), y2="hi:Q"),
        base.mark_line(strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=30, opacity=1).encode(y=y, tooltip="t:N"),
    ).add_params(
        scope_parameter(),
        alt.param(name="lows", value=limits[0]),
        alt.param(name="highs", value=limits[1]),
    )
    return sheet.finish(drawn, height=130)
