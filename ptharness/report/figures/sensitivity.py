"""How the cells of each edge move with k, the attempts within which reachable means."""

from __future__ import annotations

from typing import Any

from ptharness.report.figures.base import (
    CELL_COLOURS,
    CELL_WORDS,
    Figure,
    Sheet,
    reasons_by_scope,
    scope_parameter,
    tip,
)
from ptharness.report.lineage import Lineage
from ptharness.report.tables import Row, Tables, files

CELLS = ("exp", "rsh", "att", "res")
MOST_ROWS = 9_000
"""More than this and single tasks are left out: the page has a size to keep."""


def sensitivity(tables: Tables, lineage: Lineage) -> tuple[list[Figure], str]:
    """A small chart per edge, and a note on what was left out or is missing."""
    rows = [
        row
        for row in tables.rows("sensitivity")
        if row["relation"] == "edge" and row["quantity"] in CELLS and lineage.scope(row)
    ]
    note = tables.missing("sensitivity") or ""
    if not note and not any(row["estimate"] is not None for row in rows):
        reason = next((row["reason"] for row in rows if row["reason"]), None)
        note = f"No cell is defined at any k{f': {reason}' if reason else ''}."
    if len(rows) > MOST_ROWS:
        rows = [row for row in rows if row["scope"] != "task"]
        note = "Of so many stages and tasks only the means are drawn; sensitivity.parquet has all."
    edges: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        edges.setdefault((row["source"], row["target"]), []).append(row)
    limits = _limits(rows, lineage)
    figures = []
    for number, ((source, target), found) in enumerate(
        sorted(
            edges.items(), key=lambda edge: (lineage.order(edge[0][1]), lineage.order(edge[0][0]))
        )
    ):
        values = _values(found, lineage, f"{source} \u2192 {target}")
        if not values:
            continue
        scopes = tuple(sorted({row["s"] for row in values}))
        figures.append(
            Figure(
                f"sensitivity-{number}",
                f"{source} \u2192 {target}",
                f"Lines over k for {source} to {target}: expansion, reshaping, attrition and "
                "residual in percentage points, with interval bands.",
                files("sensitivity"),
                spec=_spec(values, limits),
                scopes=scopes,
                reasons=reasons_by_scope(found, lineage, scopes),
            )
        )
    return figures, note


def _values(rows: list[Row], lineage: Lineage, title: str) -> list[Row]:
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
                "t": tip(row, title, CELL_WORDS[row["quantity"]]),
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
            lows[scope.index] = min(lows[scope.index], round(100 * row["estimate"], 3))
            highs[scope.index] = max(highs[scope.index], round(100 * row["estimate"], 3))
    return lows, highs


def _spec(values: list[Row], limits: tuple[list[float], list[float]]) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    colour = alt.Color(
        "c:N",
        scale=alt.Scale(domain=list(CELLS), range=[CELL_COLOURS[cell] for cell in CELLS]),
        legend=None,
    )
    budgets = sorted({row["k"] for row in values})
    x = alt.X(
        "k:Q",
        scale=alt.Scale(type="log", base=2, nice=False, padding=6),
        axis=alt.Axis(title="k", values=budgets, format="d", grid=False),
    )
    y = alt.Y(
        "e:Q",
        axis=alt.Axis(title="pp", format="+d", tickCount=4),
        scale=alt.Scale(
            domainMin=alt.ExprRef("lows[scope]"), domainMax=alt.ExprRef("highs[scope]"), clamp=True
        ),
    )
    base = sheet.scoped(values).encode(x=x, color=colour)
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
