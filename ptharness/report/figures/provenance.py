"""Trajectories of each stage against its parent's own samples: two histograms of likelihood."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ptharness.report.figures.base import DASHES, Figure, Sheet
from ptharness.report.lineage import Lineage
from ptharness.report.numbers import MINUS, NOTHING, nats
from ptharness.report.tables import Row, Tables, files

BINS = 24
MEASURED = {
    "parent_like": "like the parent's own words",
    "parent_unlike": "unlike the parent's own words",
    "mixed": "in between",
    "undetermined": "undetermined",
}
OWN, OWN_COLOUR = "own answers", "var(--series-0)"

Shares = dict[str, list[float]]
Edges = np.ndarray[Any, np.dtype[np.float64]]


def provenance(tables: Tables, lineage: Lineage) -> tuple[list[Figure], list[dict[str, str]]]:
    """A chart per stage, and a row per stage and side for the table."""
    rows = [row for row in tables.rows("provenance") if lineage.known(row["checkpoint"])]
    rows.sort(key=lambda row: lineage.order(row["checkpoint"]))
    sides: dict[str, list[Row]] = {}
    for row in rows:
        if row["side"] != "all" and row["given_nats_per_token"]:
            sides.setdefault(row["checkpoint"], []).append(row)
    charts = [
        _figure(row, sides.get(row["checkpoint"], []), lineage)
        for row in rows
        if row["side"] == "all" and row["given_nats_per_token"] and row["own_nats_per_token"]
    ]
    return charts, [_cells(row) for row in rows]


def _figure(row: Row, sides: list[Row], lineage: Lineage) -> Figure:
    stage, parent = row["checkpoint"], row["parent"]
    how = f", {' and '.join(side['side'] for side in sides)} apart" if sides else ""
    return Figure(
        f"provenance-{lineage.by_name[stage].index}",
        f"{stage}, under {parent}",
        f"Histograms of the negative log-likelihood per token under {parent}: of the trajectories "
        f"that {stage} was trained on{how}, and of its own answers to the same prompts.",
        files("provenance"),
        spec=_spec(sides or [row], row["own_nats_per_token"]),
        note="; ".join([f"gap {_meaning(row)}", *(f"{s['side']} {_meaning(s)}" for s in sides)]),
    )


def _meaning(row: Row) -> str:
    return f"{_gap(row)}: {MEASURED.get(row['provenance_measured'], NOTHING)}"


def _spec(rows: list[Row], own: list[float]) -> dict[str, Any]:
    """Bars of the own answers; the trajectories of one row as bars, of several as outlines."""
    import altair as alt

    given = {
        "trajectories" if row["side"] == "all" else row["side"]: row["given_nats_per_token"]
        for row in rows
    }
    ends = np.quantile(np.concatenate([*given.values(), own]), [0.0, 0.995])
    edges = np.linspace(ends[0], max(ends[1], ends[0] + 0.05), BINS + 1)
    shares = {name: _shares(np.asarray(n), edges) for name, n in {**given, OWN: own}.items()}
    sheet = Sheet()
    x = alt.X(
        "x:Q",
        axis=alt.Axis(
            title="nats per token",
            tickCount=4,
            grid=False,
            # Moved inwards, the first label meets the second in a narrow chart.
            labelFlush=False,
        ),
    )
    y = alt.Y("y:Q", stack=None, axis=alt.Axis(title=None, format="%", tickCount=4))
    colour = alt.Color(
        "l:N",
        scale=alt.Scale(domain=list(shares), range=[*["var(--series-1)"] * len(given), OWN_COLOUR]),
        legend=None,
    )
    with_bars = list(shares) if len(given) == 1 else [OWN]
    layers = [
        sheet.chart(_bars(shares, with_bars, edges))
        .mark_bar(opacity=0.55, binSpacing=0)
        .encode(x=x, x2="x2:Q", y=y, y2=alt.Y2Datum(0), color=colour, tooltip="t:N")
    ]
    if len(given) > 1:
        dashes = alt.Scale(domain=list(given), range=DASHES[: len(given)])
        legend = alt.Legend(
            title=None,
            orient="top",
            labelColor="var(--ink)",
            symbolStrokeColor="var(--series-1)",
        )
        layers.append(
            sheet.chart(_outline(shares, list(given), edges))
            .mark_line(interpolate="step-after", strokeWidth=2)
            .encode(
                x=x,
                y=y,
                color=colour,
                strokeDash=alt.StrokeDash("l:N", scale=dashes, legend=legend),
            )
        )
    return sheet.finish(alt.layer(*layers), height=150)


def _bars(shares: Shares, names: list[str], edges: Edges) -> list[Row]:
    return [
        {
            "x": round(float(edges[place]), 4),
            "x2": round(float(edges[place + 1]), 4),
            "y": round(share, 5),
            "l": name,
            "t": f"{_told(shares, name, names, place)} from {edges[place]:.2f} to "
            f"{edges[place + 1]:.2f}",
        }
        for name in names
        for place, share in enumerate(shares[name])
        if share
    ]


def _told(shares: Shares, name: str, names: list[str], place: int) -> str:
    """What a bar says: its share, and those of the outlines around it."""
    told = [name, *(other for other in shares if other not in names)]
    return ", ".join(f"{one}: {100 * shares[one][place]:.1f} %" for one in told)


def _outline(shares: Shares, names: list[str], edges: Edges) -> list[Row]:
    """The upper ends of bars, from the axis and back to it."""
    return [
        {"x": round(float(edge), 4), "y": round(share, 5), "l": name}
        for name in names
        for edge, share in zip([edges[0], *edges], [0.0, *shares[name], 0.0], strict=True)
    ]


def _shares(numbers: np.ndarray[Any, Any], edges: np.ndarray[Any, Any]) -> list[float]:
    """Share of the numbers in each bin; what lies beyond the last edge is in the last bin."""
    counts, _ = np.histogram(np.clip(numbers, edges[0], edges[-1]), edges)
    return [float(count) / len(numbers) for count in counts]


def _cells(row: Row) -> dict[str, str]:
    rare = row["rare_token_share"]
    return {
        "stage": row["checkpoint"] + ("" if row["side"] == "all" else f" ({row['side']})"),
        "parent": row["parent"],
        "declared": (row["provenance_declared"] or NOTHING).replace("_", "-"),
        "measured": row["provenance_measured"].replace("_", "-"),
        "gap": _gap(row),
        "auc": NOTHING if row["auc"] is None else f"{row['auc']:.2f}",
        "like": NOTHING if row["like_share"] is None else f"{100 * row['like_share']:.0f} %",
        "rare": NOTHING if rare is None else f"{100 * rare:.1f} %",
        "selected": {True: "yes", False: "no", None: NOTHING}[row["looks_filtered"]],
        "reason": re.sub(r"(?<![\w.])-(?=[\d.])", MINUS, row["reason"] or ""),
    }


def _gap(row: Row) -> str:
    if row["gap_nats_per_token"] is None:
        return NOTHING
    text = nats(row["gap_nats_per_token"], "+")
    if row["gap_ci_low"] is not None:
        text += f" [{nats(row['gap_ci_low'])}, {nats(row['gap_ci_high'])}]"
    return text.replace("-", MINUS)
