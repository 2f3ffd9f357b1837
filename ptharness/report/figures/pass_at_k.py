"""pass@k of every checkpoint on one task: a curve with its band, and where curves cross."""

from __future__ import annotations

import math
from typing import Any

from ptharness.context import VISIBLE_SHARE
from ptharness.report.figures.base import (
    Figure,
    Sheet,
    series_scales,
    shown_parameter,
    tip,
)
from ptharness.report.lineage import Lineage
from ptharness.report.numbers import count, interval, percent
from ptharness.report.tables import Row, Tables, files


def pass_at_k(tables: Tables, lineage: Lineage) -> tuple[list[Figure], str]:
    """A chart per task that has curves, and a note if there is none."""
    curves: dict[str, list[Row]] = {}
    rows = [row for row in tables.rows("measures") if row["quantity"] == "pass_at_k"]
    for row in rows:
        known = row["estimate"] is not None and row["k"] is not None
        if row["scope"] == "task" and known and lineage.known(row["checkpoint"]):
            curves.setdefault(row["task"], []).append(row)
    crossings: dict[str, list[Row]] = {}
    for row in tables.rows("edges"):
        known = row["quantity"] == "crossover" and row["estimate"] is not None
        if known and row["scope"] == "task" and row["relation"] == "edge":
            crossings.setdefault(row["task"], []).append(row)
    ticks = sorted({row["k"] for found in curves.values() for row in found})
    figures: list[Figure] = []
    for task in lineage.tasks:
        if task.name not in curves:
            continue
        at = {(row["checkpoint"], row["k"]): row["estimate"] for row in curves[task.name]}
        marks = [
            mark for row in crossings.get(task.name, ()) if (mark := _crossing(row, at, lineage))
        ]
        drawn = {"rows0": [_value(row, lineage) for row in curves[task.name]], "rows1": marks}
        # Charts of one shape: only their rows differ, and altair takes its time.
        shape = (figures[0].spec if figures else None) or _spec(ticks, lineage)
        figures.append(
            Figure(
                f"pass-at-k-{task.index}",
                task.name,
                f"Curves of pass at k over the number of attempts k for the task {task.name}, one "
                "per checkpoint, with interval bands; diamonds mark where a stage's curve crosses "
                "its parent's.",
                files("measures", "edges", "metrics"),
                spec={**shape, "datasets": drawn},
                note=_not_whole(task.name, tables, lineage),
            )
        )
    note = ""
    if not figures:
        reason = next((row["reason"] for row in rows if row["reason"]), None)
        note = tables.missing("measures") or (
            f"No curve is defined: {reason}."
            if reason
            else "There are no curves: no task of this run draws several answers (multiple choice "
            "has no attempts)."
        )
    return figures, note


def _not_whole(task: str, tables: Tables, lineage: Lineage) -> str:
    """Which checkpoints' answers were cut off, or not asked for, in a share that matters."""
    told = []
    for metric, what in (
        ("truncation_rate", "of completions were cut off by max_tokens or the context"),
        ("too_long_rate", "of prompts did not fit the context and count as failed"),
    ):
        shares = {
            row["checkpoint"]: row["value"]
            for row in tables.rows("metrics")
            if row["task"] == task and row["metric"] == metric and row["value"]
        }
        named = [
            f"{c.name} {percent(shares[c.name])} %"
            for c in lineage.checkpoints
            if shares.get(c.name, 0.0) > VISIBLE_SHARE
        ]
        if named:
            told.append(f"{', '.join(named)} {what}.")
    return " ".join(told)


def _spec(ticks: list[int], lineage: Lineage) -> dict[str, Any]:
    import altair as alt

    sheet = Sheet()
    colour, dash = series_scales(lineage)
    x = alt.X(
        "k:Q",
        scale=alt.Scale(type="log", base=2, nice=False, domain=[1, max(ticks[-1], 2)]),
        axis=alt.Axis(
            title=None, values=ticks, format="d", grid=False, labelOverlap=True, labelFlush=False
        ),
    )
    y = alt.Y(
        "e:Q",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(title=None, format="%", tickCount=5),
    )
    base = (
        sheet.chart([])
        .transform_filter("indexof(shown, datum.c) >= 0")
        .encode(x=x, color=alt.Color("c:N", scale=colour, legend=None))
    )
    layers = [
        base.mark_area(opacity=0.08).encode(y=alt.Y("lo:Q"), y2="hi:Q"),
        base.mark_line(strokeWidth=2).encode(
            y=y, strokeDash=alt.StrokeDash("c:N", scale=dash, legend=None)
        ),
        base.mark_point(filled=True, size=22, opacity=1).encode(y=y, tooltip="t:N"),
    ]
    layers.append(
        sheet.chart([])
        .transform_filter("indexof(shown, datum.a) >= 0 && indexof(shown, datum.b) >= 0")
        .mark_point(shape="diamond", size=80, strokeWidth=1.5, filled=False)
        .encode(x=x, y=y, color=alt.value("var(--ink)"), tooltip="t:N")
    )
    return sheet.finish(alt.layer(*layers).add_params(shown_parameter(lineage)), height=190)


def _value(row: Row, lineage: Lineage) -> Row:
    low = row["estimate"] if row["ci_low"] is None else row["ci_low"]
    high = row["estimate"] if row["ci_high"] is None else row["ci_high"]
    return {
        "c": lineage.by_name[row["checkpoint"]].index,
        "k": row["k"],
        "e": round(row["estimate"], 5),
        "lo": round(max(low, 0.0), 5),
        "hi": round(min(high, 1.0), 5),
        "t": tip(row, row["checkpoint"], f"pass@{row['k']}"),
    }


def _crossing(row: Row, at: dict[tuple[str, int], float], lineage: Lineage) -> Row | None:
    """A diamond at k*, as high as the parent's curve is drawn there; None off the curves."""
    source, target, k = row["source"], row["target"], row["estimate"]
    if not (lineage.known(source) and lineage.known(target)):
        return None
    drawn = sorted(each for name, each in at if name == source)
    below = max((each for each in drawn if each <= k), default=None)
    above = min((each for each in drawn if each >= k), default=None)
    if below is None or above is None:
        return None
    low, high = at[source, below], at[source, above]
    share = 0.0 if above == below else math.log(k / below) / math.log(above / below)
    text = f"{source} \u2192 {target}\ncurves cross at k = {count(k)} {interval(row)}".rstrip()
    return {
        "a": lineage.by_name[source].index,
        "b": lineage.by_name[target].index,
        "k": k,
        "e": round(low + share * (high - low), 5),
        "t": text + (f"\n{row['reason']}" if row["reason"] else ""),
    }
