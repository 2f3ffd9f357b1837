"""How much of each stage's gain is left at the end of the lineage."""

from __future__ import annotations

from typing import Any

from ptharness.report.choices import NO_ATTEMPTS, has_choices_only
from ptharness.report.figures.base import (
    Figure,
    Sheet,
    matrix_axes,
    names_parameter,
    reasons_by_scope,
    scope_parameter,
    tip,
)
from ptharness.report.lineage import Lineage
from ptharness.report.numbers import percent
from ptharness.report.tables import Row, Tables, files

STEP = 34
MOST_COLUMNS = 8
"""Of more later checkpoints only the last ones are shown: those that nothing was trained from."""


def retention(tables: Tables, lineage: Lineage) -> Figure:
    """A heat map: stages down, last checkpoints across."""
    rows = [
        row
        for row in tables.rows("retention")
        if row["quantity"] == "retention" and lineage.known(row["checkpoint"])
    ]
    last = rows
    if len({row["checkpoint"] for row in rows}) > MOST_COLUMNS:
        ends = {leaf.name for leaf in lineage.leaves}
        last = [row for row in rows if row["checkpoint"] in ends] or rows
    values = [value for row in last if (value := _value(row, lineage))]
    scopes = tuple(sorted({row["s"] for row in values if row["v"] is not None}))
    empty = ""
    if not scopes:
        reason = next((row["reason"] for row in last if row["reason"]), None)
        if has_choices_only(tables.run):
            reason = NO_ATTEMPTS
        empty = tables.missing("retention") or (
            f"No retention is defined: {reason}."
            if reason
            else "No stage has a later checkpoint at which its gain could be looked for."
        )
    return Figure(
        "retention",
        "Share of each stage's gain that is left",
        "A heat map: a row for each stage that gained something, a column for each later "
        "checkpoint, shaded by the share of the gain that is left there.",
        files("retention"),
        spec=_spec(values, lineage) if scopes else None,
        most_width=150 + 96 * len({row["j"] for row in values}),
        empty=empty,
        scopes=scopes,
        reasons=reasons_by_scope(last, lineage, scopes),
    )


def _value(row: Row, lineage: Lineage) -> Row | None:
    scope = lineage.scope(row)
    if scope is None:
        return None
    title = f"gain of {row['source']} \u2192 {row['target']} at {row['checkpoint']}"
    known = row["estimate"] is not None
    text = tip(row, title, "left:") if known else f"{title}\nundefined: {row['reason'] or '?'}"
    return {
        "s": scope.index,
        "i": lineage.order(row["target"]),
        "j": lineage.order(row["checkpoint"]),
        "y": row["target"],
        "x": row["checkpoint"],
        "v": round(row["estimate"], 5) if known else None,
        "l": percent(row["estimate"]).split(".")[0] if known else "\u2013",
        "d": int(known and row["estimate"] > 0.62),
        "t": text,
    }


def _spec(values: list[Row], lineage: Lineage) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    x, y = matrix_axes(0.06)
    base = sheet.scoped(values).encode(x=x, y=y, tooltip="t:N")
    drawn = alt.layer(
        base.mark_rect(color="var(--consolidation)", cornerRadius=3).encode(
            opacity=alt.Opacity(
                "v:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.08, 1], clamp=True)
            )
        ),
        base.mark_text(fontSize=12, fontWeight=600).encode(
            text="l:N",
            color=alt.condition("datum.d", alt.value("var(--on-fill)"), alt.value("var(--ink)")),
        ),
    ).add_params(scope_parameter(), names_parameter(lineage.by_name))
    return sheet.finish(drawn, height=STEP * len({row["i"] for row in values}))
