"""From the root to the last checkpoint of the main path: what each stage added."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ptharness.report.choices import described
from ptharness.report.figures.base import (
    ROLE_COLOURS,
    Figure,
    Sheet,
    names_parameter,
    scope_parameter,
    tip,
)
from ptharness.report.lineage import Lineage, Scope
from ptharness.report.numbers import percent, points
from ptharness.report.tables import Row, Tables, files
from ptharness.report.verdicts import Verdicts

STEP = 34
FROM_NOWHERE = "from 0"
ENDS = ("all stages", "arrives at")


def waterfall(tables: Tables, lineage: Lineage, verdicts: Verdicts) -> Figure:
    """The accuracy of the root, the stages' changes one after the other, and where they lead."""
    path = lineage.main_path
    rows: list[Row] = []
    reasons: dict[int, str] = {}
    changes = {
        (row["quantity"], row["source"], row["target"], row["scope"], row["task"]): row
        for row in tables.rows("edges")
        if row["relation"] == "edge" and row["quantity"] in ("delta", "exp")
    }
    accuracies = _accuracies(tables)
    members = _members(tables, lineage)
    for scope in lineage.scopes:
        found = [
            changes.get(("delta", before.name, after.name, scope.kind, scope.name))
            for before, after in pairwise(path)
        ]
        steps = [row for row in found if row is not None and row["estimate"] is not None]
        if len(path) < 2 or len(steps) < len(found):
            reasons[scope.index] = _why(found)
            continue
        rests = {_rests_on(step, members[scope], changes, accuracies) for step in steps}
        if len(rests) > 1:
            reasons[scope.index] = "the stages of the main path were not compared on the same tasks"
            continue
        (tasks,) = rests
        start, end = (_mean(accuracies, side.name, tasks) for side in (path[0], path[-1]))
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
        spec=_spec(rows, [one.name for one in path], len(lineage.scopes)) if rows else None,
        empty=empty,
        scopes=scopes,
        reasons=reasons,
    )


def _why(found: list[Row | None]) -> str:
    for row in found:
        if row is not None and row["estimate"] is None and row["reason"]:
            return str(row["reason"])
    return "a stage of the main path has no change here"


def _members(tables: Tables, lineage: Lineage) -> dict[Scope, tuple[str, ...]]:
    """The tasks of each scope."""
    tags = {task: about.get("tags") or () for task, about in described(tables.run).items()}
    return {
        scope: (scope.name,)
        if scope.kind == "task"
        else tuple(
            task.name
            for task in lineage.tasks
            if scope.kind == "pooled" or scope.name in tags.get(task.name, ())
        )
        for scope in lineage.scopes
    }


def _accuracies(tables: Tables) -> dict[tuple[str, str], float]:
    """By checkpoint and task: pass@1 as the analysis has it, else the primary yes/no metric."""
    about = described(tables.run)
    found: dict[tuple[str, str], float] = {
        (row["checkpoint"], row["task"]): row["value"]
        for row in tables.rows("metrics")
        if row["is_primary"]
        and row["value"] is not None
        and (about.get(row["task"]) or {}).get("binary")
    }
    found.update(
        ((row["checkpoint"], row["task"]), row["estimate"])
        for row in tables.rows("measures")
        if row["scope"] == "task" and row["quantity"] == "pass_at_k" and row["k"] == 1
        if row["estimate"] is not None
    )
    return found


def _rests_on(
    step: Row,
    members: tuple[str, ...],
    changes: Mapping[tuple[str, str, str, str, str], Row],
    accuracies: Mapping[tuple[str, str], float],
) -> tuple[str, ...]:
    """The tasks whose mean a change is: those with cells, and if none has any, those that are
    right or wrong."""
    if len(members) == 1:
        return members

    def known(quantity: str) -> list[str]:
        keys = {task: (quantity, step["source"], step["target"], "task", task) for task in members}
        return [t for t, k in keys.items() if k in changes and changes[k]["estimate"] is not None]

    accurate = [task for task in known("delta") if (step["source"], task) in accuracies]
    return tuple(known("exp") or accurate)


def _mean(
    accuracies: Mapping[tuple[str, str], float], checkpoint: str, tasks: tuple[str, ...]
) -> float | None:
    """None where one of them is not known, or there is none."""
    found = [accuracies.get((checkpoint, task)) for task in tasks]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


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
        "v": FROM_NOWHERE if start is None else f"{percent(start)} %",
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
    last: Row = {"s": scope.index, "a": 0.0, "b": round(level, 4), "r": "level"}
    bars.append(
        {
            **last,
            "i": len(steps) + 1,
            "l": ENDS[0],
            "a": first["b"],
            "v": points(summed),
            "t": f"all stages\nchange {points(summed)} pp",
        }
    )
    if start is not None and end is not None:
        bars.append(
            {
                **last,
                "i": len(steps) + 2,
                "l": ENDS[1],
                "v": f"{percent(end)} %",
                "t": f"{steps[-1]['target']}\naccuracy {percent(end)} %",
            }
        )
    return bars


def _spec(rows: list[Row], path: list[str], scopes: int) -> dict[str, Any]:
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
        "i:O",
        axis=alt.Axis(
            title=None,
            domain=False,
            ticks=False,
            labelExpr="names[datum.value]",
            labelLimit=140,
            labelFontSize=11,
        ),
    )
    base = sheet.scoped(rows)
    # The change of a score that is not right or wrong starts from 0.
    whole = all(row["v"] != FROM_NOWHERE for row in rows)
    title = "per cent of answers that are right" if whole else "per cent"
    axis = alt.Axis(title=title, tickCount=6)
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
        names_parameter([*path, *ENDS]),
        alt.param(name="lows", value=lows),
        alt.param(name="highs", value=highs),
    )
    return sheet.finish(drawn, height=STEP * (len(path) + len(ENDS)))
