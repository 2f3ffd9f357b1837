"""How far the checkpoints behave from each other, and what a stage's distance cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ptharness.report.figures.base import (
    Figure,
    Sheet,
    first_reason,
    matrix_axes,
    names_parameter,
    reasons_by_scope,
    scope_parameter,
    shortened,
)
from ptharness.report.lineage import Lineage
from ptharness.report.tables import Row, Tables, files

STEP = 34
MOST_REASONS = 3
"""More of them say no more to a reader; distances.parquet and the appendix have all."""
MOST_NAMED = 5
"""Checkpoints of another lineage that are named."""
NUMBER, REACH = 26, 32
"""Pixels across that a cell needs for its number, and for the reach of its interval below it."""
NATS = "nats_per_token", "nats per token"
BITS = "excess_bits_per_byte", "bits per byte more"
"""Column and unit."""
_TIP = (
    "datum.y + ' judged by ' + datum.x + '\\n' + format(datum.v, '.3f') + ' ' + unit + "
    "(isValid(datum.lo) ? ' [' + format(datum.lo, '.3f') + ', ' + format(datum.hi, '.3f') + ']' "
    ": '') + (isValid(datum.m) ? '\\n' + datum.m : '')"
)


@dataclass(frozen=True)
class Distances:
    """Heat maps of all ordered pairs, in nats per token and (of several vocabularies) in bits per
    byte, and a chart of distance against attrition."""

    matrix: Figure
    bits: Figure | None
    cost: Figure

    @property
    def figures(self) -> list[Figure]:
        """Those that there are."""
        return [self.matrix, *([self.bits] if self.bits else []), self.cost]


def distances(tables: Tables, lineage: Lineage) -> Distances:
    """What the panel of distances shows."""
    here = [
        row
        for row in tables.rows("distances")
        if lineage.known(row["source"]) and lineage.known(row["target"])
    ]
    rows = _known(here, "nats_per_token", lineage)
    undefined = [row for row in here if row["nats_per_token"] is None]
    empty = "" if rows else _why(tables, undefined, lineage)
    scopes = _scopes(rows, lineage)
    matrix = Figure(
        "distances",
        "KL divergence on own samples",
        "A heat map: for each checkpoint, down, how much less likely each other, across, finds "
        "what it says, in nats per token.",
        files("distances"),
        spec=_matrix(rows, lineage, NATS) if rows else None,
        empty=empty,
        scopes=scopes,
        reasons=reasons_by_scope(undefined, lineage, scopes),
        note=_strangers(tables, lineage),
        most_width=680,
    )
    points = _points(rows, tables, lineage)
    cost = Figure(
        "distance-cost",
        "How far a stage moved, and what it lost",
        "A point per stage: KL divergence of child from parent on the child's samples, across; "
        "attrition, up.",
        files("distances", "edges"),
        spec=_scatter(points, lineage) if points else None,
        empty=empty or _why_no_point(rows, undefined, tables, lineage),
        scopes=tuple(sorted({row["s"] for row in points})),
    )
    return Distances(matrix, _bits(here, lineage), cost)


def _bits(here: list[Row], lineage: Lineage) -> Figure | None:
    """The same in a unit that vocabularies compare in; None where there is only one."""
    rows = _known(here, "excess_bits_per_byte", lineage)
    if all(row["method"] for row in rows):
        return None
    return Figure(
        "distances-bits",
        "Bits per byte of text, beyond its writer's",
        "A heat map: for each checkpoint, down, how many bits per byte each other, across, needs "
        "more for its text, each in its own tokens.",
        files("distances"),
        spec=_matrix(rows, lineage, BITS),
        scopes=_scopes(rows, lineage),
        most_width=680,
    )


def _known(rows: list[Row], column: str, lineage: Lineage) -> list[Row]:
    """The rows that have a number in a column, of scopes that the lineage has."""
    return [row for row in rows if row[column] is not None and lineage.scope(row)]


def _scopes(rows: list[Row], lineage: Lineage) -> tuple[int, ...]:
    return tuple(sorted({scope.index for row in rows if (scope := lineage.scope(row))}))


def _why(tables: Tables, undefined: list[Row], lineage: Lineage) -> str:
    """Why there is no distance at all: what the rows say, the most frequent reason first."""
    if unusable := tables.unusable("distances"):
        return f"Left out: {unusable}."
    if not tables.rows("distances"):
        return "Not measured: `ptharness distances` does it."
    reasons = Counter(row["reason"] for row in undefined if row["reason"])
    found = "; ".join(reason for reason, _ in reasons.most_common(MOST_REASONS))
    if found:
        found = f"No distance is defined: {found}."
    if told := " ".join(filter(None, (found, _strangers(tables, lineage)))):
        return told
    return "distances.parquet holds other tasks than these tables: run `ptharness distances` again."


def _strangers(tables: Tables, lineage: Lineage) -> str:
    """That the table was made of a lineage with other checkpoints; empty if it was not."""
    names = {row[side]: None for row in tables.rows("distances") for side in ("source", "target")}
    others = [name for name in names if not lineage.known(name)]
    if not others:
        return ""
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return (
        f"distances.parquet was made of another lineage, with {', '.join(others[:MOST_NAMED])}"
        f"{more}: run `ptharness distances` again."
    )


def _why_no_point(rows: list[Row], undefined: list[Row], tables: Tables, lineage: Lineage) -> str:
    """Why no stage has both: what its distance or its attrition lacks."""
    if not any(row["relation"] == "child" for row in rows):
        reason = first_reason((row for row in undefined if row["relation"] == "child"), lineage)
        return f"No stage has a distance{f': {reason}' if reason else ''}."
    lost = [
        row
        for row in tables.rows("edges")
        if row["relation"] == "edge" and row["quantity"] == "att" and row["estimate"] is None
    ]
    if reason := first_reason(lost, lineage):
        return f"No stage with a distance has an attrition: {reason}."
    return tables.missing("edges") or "No stage has both a distance and an attrition."


def _shown(nats: float) -> float:
    """As far as it is printed, and 0 for what is printed as such: never -0.000."""
    return round(nats, 4) if abs(nats) >= 0.0005 else 0.0


def _matrix(rows: list[Row], lineage: Lineage, quantity: tuple[str, str]) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    column, unit = quantity
    values = [
        {
            "s": scope.index,
            "i": lineage.order(row["source"]),
            "j": lineage.order(row["target"]),
            "y": row["source"],
            "x": row["target"],
            "v": _shown(row[column]),
            "m": row["method"],
            "l": f"{max(row[column], 0.0):.2f}",
            **_interval(row, column),
        }
        for row in rows
        if (scope := lineage.scope(row))
    ]
    highs = [
        max([row["v"] for row in values if row["s"] == scope.index], default=1.0)
        for scope in lineage.scopes
    ]
    x, y = matrix_axes(0.06)
    base = sheet.scoped(values).transform_calculate(t=_TIP).encode(x=x, y=y, tooltip="t:N")
    columns = len({row["j"] for row in values})
    drawn = alt.layer(
        base.mark_rect(color="var(--attrition)", cornerRadius=2).encode(
            opacity=alt.Opacity(
                "v:Q",
                legend=None,
                # Most pairs lie close together beside a few that are far apart.
                scale=alt.Scale(
                    type="sqrt",
                    clamp=True,
                    domain=[0, alt.ExprRef("far[scope]")],
                    range=[0.04, 0.85],
                ),
            )
        ),
        *(
            base.mark_text(
                dy=dy, fontSize=size, opacity=alt.ExprRef(f"width < {columns * least} ? 0 : 1")
            ).encode(text=f"{field}:N", color=alt.value("var(--ink)"))
            for field, dy, size, least in (("l", -5, 11, NUMBER), ("r", 8, 9, REACH))
        ),
    ).add_params(
        scope_parameter(),
        names_parameter(lineage.by_name),
        alt.param(name="far", value=highs),
        alt.param(name="unit", value=unit),
    )
    return sheet.finish(drawn, height=STEP * len({row["i"] for row in values}))


def _interval(row: Row, column: str) -> Row:
    """Its ends, and how far it reaches to the farther one."""
    low, high = row[f"{column}_ci_low"], row[f"{column}_ci_high"]
    if low is None or high is None:
        return {}
    reach = max(high - row[column], row[column] - low)
    return {"lo": _shown(low), "hi": _shown(high), "r": f"\u00b1{reach:.2f}"}


def _points(rows: list[Row], tables: Tables, lineage: Lineage) -> list[Row]:
    """Distance and attrition of each stage on each scope that has both."""
    lost = {
        (row["source"], row["target"], row["scope"], row["task"]): row
        for row in tables.rows("edges")
        if row["relation"] == "edge" and row["quantity"] == "att" and row["estimate"] is not None
    }
    points = []
    for row in rows:
        found = lost.get((row["target"], row["source"], row["scope"], row["task"]))
        scope = lineage.scope(row)
        if row["relation"] == "child" and found is not None and scope is not None:
            method = f", {row['method']}" if row["method"] else ""
            text = (
                f"{row['target']} \u2192 {row['source']}\nKL {_shown(row['nats_per_token']):.3f} "
                f"nats per token{method}\nattrition {100 * found['estimate']:.1f} points"
            )
            points.append(
                {
                    "s": scope.index,
                    "x": round(max(row["nats_per_token"], 0.0), 4),
                    # Without attrition the estimate may come out above 0.
                    "y": round(max(-found["estimate"], 0.0), 4),
                    "l": shortened(row["source"]),
                    "t": text,
                }
            )
    return points


def _scatter(points: list[Row], lineage: Lineage) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    limits = {
        limit: [
            1.05 * max([row[axis] for row in points if row["s"] == scope.index], default=1.0) or 1.0
            for scope in lineage.scopes
        ]
        for axis, limit in (("x", "farthest"), ("y", "highest"))
    }
    base = sheet.scoped(points).encode(
        x=alt.X(
            "x:Q",
            scale=alt.Scale(domain=[0, alt.ExprRef("farthest[scope]")], nice=False),
            axis=alt.Axis(title="KL(child || parent), nats per token", tickCount=6),
        ),
        y=alt.Y(
            "y:Q",
            scale=alt.Scale(domain=[0, alt.ExprRef("highest[scope]")], nice=False),
            axis=alt.Axis(title="attrition", format="%", tickCount=5),
        ),
        tooltip="t:N",
    )
    layers = [base.mark_point(filled=True, size=90, opacity=1, color="var(--attrition)")]
    # A name stands on the side that has room for it.
    for side, align, dx in (("<=", "left", 8), (">", "right", -8)):
        layers.append(
            base.transform_filter(f"datum.x {side} farthest[scope] / 2")
            .mark_text(align=align, baseline="middle", dx=dx, limit=alt.ExprRef("width / 2"))
            .encode(text="l:N", color=alt.value("var(--ink)"))
        )
    drawn = alt.layer(*layers).add_params(
        scope_parameter(), *(alt.param(name=name, value=ends) for name, ends in limits.items())
    )
    return sheet.finish(drawn, height=300)
