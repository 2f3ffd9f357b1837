"""From the root to the last checkpoint of the main path: what each stage added."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ptharness.report.figures.base import (
    ROLE_COLOURS,
    Figure,
    Sheet,
    scope_parameter,
    tip,
)
from ptharness.report.lineage import Lineage, Scope
from ptharness.report.numbers import percent, points
from ptharness.report.tables import Row, Tables, files
from ptharness.report.verdicts import Verdicts

STEP = 34


def waterfall(tables: Tables, lineage: Lineage, verdicts: Verdicts) -> Figure:
    """The accuracy of the root, the stages' changes one after the other, and where they lead."""
    path = lineage.main_path
    rows: list[Row] = []
    reasons: dict[int, str] = {}
    deltas = {
        (row["source"], row["target"], row["scope"], row["task"]): row
        for row in tables.rows("edges")
        if row["relation"] == "edge" and row["quantity"] == "delta"
    }
    starts = _accuracies(tables)
    for scope in lineage.scopes:
        found = [
            deltas.get((before.name, after.name, scope.kind, scope.name))
            for before, after in pairwise(path)
        ]
        steps = [row for row in found if row is not None and row["estimate"] is not None]
        if len(path) < 2 or len(steps) < len(found):
            reasons[scope.index] = _why(found)
            continue
        start = starts.get((path[0].name, scope.kind, scope.name))
        end = starts.get((path[-1].name, scope.kind, scope.name))
        rows += _bars(scope, steps, lineage, verdicts, start, end)
    scopes = tuple(dict.fromkeys(row["s"] for row in rows))
    empty = ""
    if not rows:
        empty = tables.missing("edges") or next(
            iter(reasons.values()), "The lineage has no path of stages."
        )
    total = f"{path[0].name} \u2192 {path[-1].name}" if len(path) > 1 else ""
    return Figure(
        "waterfall",
        f"Along the main path {total}".rstrip(),
        "A waterfall: the accuracy of the root, then a bar for what each stage of the main path "
        "added or took, then the accuracy of the last checkpoint.",
        files("edges", "measures", "metrics"),
        spec=_spec(rows, len(path) + 2, len(lineage.scopes)) if rows else None,
        empty=empty,
        scopes=scopes,
        reasons=reasons,
    )


def _why(found: list[Row | None]) -> str:
    for row in found:
        if row is not None and row["estimate"] is None and row["reason"]:
            return str(row["reason"])
    return "a stage of the main path has no change here"


def _accuracies(tables: Tables) -> dict[tuple[str, str, str], float]:
    """pass@1 as the analysis has it; else the primary yes/no metric of a task."""
    described = tables.run.get("tasks")
    binary = described if isinstance(described, dict) else {}
    found: dict[tuple[str, str, str], float] = {
        (row["checkpoint"], "task", row["task"]): row["value"]
        for row in tables.rows("metrics")
        if row["is_primary"]
        and row["value"] is not None
        and (binary.get(row["task"]) or {}).get("binary")
    }
    found.update(
        ((row["checkpoint"], row["scope"], row["task"]), row["estimate"])
        for row in tables.rows("measures")
        if row["quantity"] == "pass_at_k" and row["k"] == 1 and row["estimate"] is not None
    )
    return found


def _bars(
    scope: Scope,
    steps: list[Row],
    lineage: Lineage,
    verdicts: Verdicts,
    start: float | None,
    end: float | None,
) -> list[Row]:
    level = 100 * (start or 0.0)
    first = {
        "s": scope.index,
        "i": 0,
        "l": steps[0]["source"],
        "a": 0.0,
        "b": round(level, 4),
        "r": "level",
        "v": "from 0" if start is None else f"{percent(start)} %",
        "t": f"{steps[0]['source']}\naccuracy {percent(start)} %",
    }
    bars = [first]
    for place, row in enumerate(steps, start=1):
        before, level = level, level + 100 * row["estimate"]
        stage = lineage.by_name[row["target"]]
        verdict = verdicts.main(stage, scope)
        bars.append(
            {
                "s": scope.index,
                "i": place,
                "l": row["target"],
                "a": round(before, 4),
                "b": round(level, 4),
                "r": verdict.measured if verdict else "undetermined",
                "v": points(row["estimate"]),
                "t": tip(row, f"{row['source']} \u2192 {row['target']}", "change"),
            }
        )
    summed = sum(row["estimate"] for row in steps)
    # No name of a checkpoint has a blank, so these two rows meet none.
    last: Row = {"s": scope.index, "a": 0.0, "b": round(level, 4), "r": "level"}
    bars.append(
        {
            **last,
            "i": len(steps) + 1,
            "l": "all stages",
            "a": first["b"],
            "v": f"{points(summed)} pp",
            "t": f"all stages\nchange {points(summed)} pp",
        }
    )
    if start is not None and end is not None:
        bars.append(
            {
                **last,
                "i": len(steps) + 2,
                "l": "arrives at",
                "v": f"{percent(end)} %",
                "t": f"{steps[-1]['target']}\naccuracy {percent(end)} %",
            }
        )
    return bars


def _spec(rows: list[Row], count: int, scopes: int) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    colours = {**ROLE_COLOURS, "level": "var(--level)"}
    lows, highs = [0.0] * scopes, [1.0] * scopes
    for row in rows:
        row["m"] = max(row["a"], row["b"])
        lows[row["s"]] = min(lows[row["s"]], row["a"], row["b"])
        # Room for the number at the end of the longest bar.
        highs[row["s"]] = max(highs[row["s"]], 1.3 * row["m"])
    name = alt.Y(
        "l:N",
        sort=alt.SortField("i", "ascending"),
        axis=alt.Axis(title=None, domain=False, ticks=False, labelLimit=120, labelFontSize=12),
    )
    base = sheet.scoped(rows)
    axis = alt.Axis(title="per cent of answers that are right", tickCount=6)
    scale = alt.Scale(domain=[alt.ExprRef("lows[scope]"), alt.ExprRef("highs[scope]")], nice=False)
    drawn = alt.layer(
        base.mark_bar(height=20, cornerRadius=2).encode(
            y=name,
            x=alt.X("a:Q", axis=axis, scale=scale),
            x2="b:Q",
            color=alt.Color(
                "r:N",
                scale=alt.Scale(domain=list(colours), range=list(colours.values())),
                legend=None,
            ),
            tooltip="t:N",
        ),
        base.mark_text(align="left", dx=6, fontWeight=600).encode(
            y=name, x="m:Q", text="v:N", color=alt.value("var(--ink)")
        ),
    ).add_params(
        scope_parameter(),
        alt.param(name="lows", value=lows),
        alt.param(name="highs", value=highs),
    )
    return sheet.finish(drawn, height=STEP * count)
