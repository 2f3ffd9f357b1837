"""Items gained and lost between any two checkpoints, beside what chance alone would show."""

from __future__ import annotations

from typing import Any

from ptharness.report.figures.base import (
    Figure,
    Sheet,
    first_reason,
    matrix_axes,
    names_parameter,
    reasons_by_scope,
    scope_parameter,
)
from ptharness.report.lineage import Lineage
from ptharness.report.tables import Row, Tables, files

STEP = 22
MOST_ROWS = 8_000
"""More than this and single tasks are left out: the page has a size to keep."""
PANELS = (
    ("new", "Gained", "reached by the later checkpoint and not by the earlier"),
    ("lost", "Lost", "reached by the earlier checkpoint and not by the later"),
    ("same_model_new", "Same model", "what two runs of the earlier checkpoint would show"),
)
_TIP = (
    "datum.y + ' \u2192 ' + datum.x + '\\nWORD ' + format(100 * datum.v, '.1f') + ' %' + "
    "(isValid(datum.lo) ? ' [' + format(100 * datum.lo, '.1f') + ', ' + "
    "format(100 * datum.hi, '.1f') + ']' : '')"
)
"""What hovering says is made of the row there: written out, thousands of pairs take a megabyte."""
QUANTITIES = ("new", "lost", "kept", "neither", "same_model_new", "same_model_new_target")


def turnover(tables: Tables, lineage: Lineage) -> tuple[list[Figure], dict[str, Any] | None, str]:
    """Three heat maps, the numbers of every pair for the table below them, and a note."""
    rows = [
        row
        for row in tables.rows("turnover")
        if row["quantity"] in QUANTITIES
        and lineage.scope(row)
        and lineage.known(row["source"])
        and lineage.known(row["target"])
    ]
    note = tables.missing("turnover") or ""
    if len(rows) > MOST_ROWS:
        note = (
            "Of so many checkpoints and tasks only the means are shown; turnover.parquet has all."
        )
        rows = [row for row in rows if row["scope"] != "task"]
    defined = [row for row in rows if row["estimate"] is not None]
    if not defined:
        return [], None, note or _why([*rows, *_of_stages(tables)], lineage)
    highs = _highs(defined, lineage)
    scopes = tuple(sorted({scope.index for row in defined if (scope := lineage.scope(row))}))
    reasons = reasons_by_scope(_of_stages(tables), lineage, scopes)
    figures = [
        Figure(
            f"turnover-{quantity.replace('_', '-')}",
            title,
            f"Shares of items, earlier checkpoints down and later ones across: {words}.",
            files("turnover"),
            spec=_spec(found, highs, lineage, title.lower()),
            scopes=tuple(sorted({scope.index for row in found if (scope := lineage.scope(row))})),
            reasons=reasons,
        )
        for quantity, title, words in PANELS
        if (found := [row for row in defined if row["quantity"] == quantity])
    ]
    return figures, _pairs(rows, lineage), note


def _of_stages(tables: Tables) -> list[Row]:
    """The same counts of related pairs. turnover.parquet leaves a pair out where it has none; these
    rows say why."""
    return [row for row in tables.rows("edges") if row["quantity"] == "new"]


def _why(rows: list[Row], lineage: Lineage) -> str:
    """Why no two checkpoints have a count."""
    if len(lineage.checkpoints) < 2:
        return "There are no two checkpoints to compare."
    undefined = [row for row in rows if row["estimate"] is None]
    reason = first_reason(undefined, lineage) or (
        "no two checkpoints have enough samples of the same items, asked alike"
    )
    return f"No count is defined: {reason}."


def _highs(rows: list[Row], lineage: Lineage) -> list[float]:
    """The largest share by scope: the three matrices share their shades."""
    highs = [0.01] * len(lineage.scopes)
    for row in rows:
        scope = lineage.scope(row)
        if scope is not None and row["quantity"] in ("new", "lost", "same_model_new"):
            highs[scope.index] = max(highs[scope.index], round(row["estimate"], 4))
    return highs


def _spec(rows: list[Row], highs: list[float], lineage: Lineage, word: str) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    values = []
    for row in rows:
        scope = lineage.scope(row)
        source, target = row["source"], row["target"]
        if scope is not None:
            values.append(
                {
                    "s": scope.index,
                    "i": lineage.order(source),
                    "j": lineage.order(target),
                    "y": source,
                    "x": target,
                    "v": round(row["estimate"], 4),
                    **_ends(row),
                }
            )
    x, y = matrix_axes(0.08, size=10)
    drawn = (
        sheet.scoped(values)
        .transform_calculate(t=_TIP.replace("WORD", word))
        .mark_rect(color="var(--reshaping)", cornerRadius=2)
        .encode(
            x=x,
            y=y,
            opacity=alt.Opacity(
                "v:Q",
                legend=None,
                scale=alt.Scale(domain=[0, alt.ExprRef("highs[scope]")], range=[0.05, 1]),
            ),
            tooltip="t:N",
        )
        .add_params(
            scope_parameter(),
            names_parameter(lineage.by_name),
            alt.param(name="highs", value=highs),
        )
    )
    sources = len({row["i"] for row in values})
    return sheet.finish(drawn, height=STEP * sources)


def _ends(row: Row) -> Row:
    """The interval, where there is one."""
    if row["ci_low"] is None or row["ci_high"] is None:
        return {}
    return {"lo": round(row["ci_low"], 4), "hi": round(row["ci_high"], 4)}


def _pairs(rows: list[Row], lineage: Lineage) -> dict[str, Any]:
    """Estimates and intervals of every pair, by scope, for the table that compares two."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        scope = lineage.scope(row)
        if scope is not None:
            key = f"{scope.index}:{lineage.order(row['source'])}:{lineage.order(row['target'])}"
            numbers = [row["estimate"], row["ci_low"], row["ci_high"]]
            rounded = [None if number is None else round(number, 5) for number in numbers]
            found.setdefault(key, []).append([QUANTITIES.index(row["quantity"]), *rounded])
    return {
        "names": [checkpoint.name for checkpoint in lineage.checkpoints],
        "quantities": list(QUANTITIES),
        "pairs": found,
    }
