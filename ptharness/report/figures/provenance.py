"""Trajectories of each stage against its parent's own samples: two histograms of likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np

from ptharness.report.figures.base import Figure, Sheet
from ptharness.report.lineage import Lineage
from ptharness.report.numbers import MINUS, NOTHING
from ptharness.report.tables import Row, Tables, files

BINS = 24
MEASURED = {
    "parent_like": "the parent's own words",
    "parent_unlike": "not the parent's words",
    "mixed": "in between",
    "undetermined": "undetermined",
}


def provenance(tables: Tables, lineage: Lineage) -> tuple[list[Figure], list[dict[str, str]]]:
    """A chart per stage, and a row per stage and side for the table."""
    rows = [row for row in tables.rows("provenance") if lineage.known(row["checkpoint"])]
    rows.sort(key=lambda row: lineage.order(row["checkpoint"]))
    charts = [
        _figure(row, lineage)
        for row in rows
        if row["side"] == "all" and row["given_nats_per_token"] and row["own_nats_per_token"]
    ]
    return charts, [_cells(row) for row in rows]


def _figure(row: Row, lineage: Lineage) -> Figure:
    stage, parent = row["checkpoint"], row["parent"]
    return Figure(
        f"provenance-{lineage.by_name[stage].index}",
        f"{stage}, under {parent}",
        f"Two histograms of the negative log-likelihood per token under {parent}: of the "
        f"trajectories that {stage} was trained on, and of its own answers to the same prompts.",
        files("provenance"),
        spec=_spec(row),
        note=f"gap {_gap(row)}: {MEASURED.get(row['provenance_measured'], NOTHING)}",
    )


def _spec(row: Row) -> dict[str, Any]:
    import altair as alt

    sides = {"trajectories": row["given_nats_per_token"], "own answers": row["own_nats_per_token"]}
    ends = np.quantile(np.concatenate(list(sides.values())), [0.0, 0.995])
    edges = np.linspace(ends[0], max(ends[1], ends[0] + 0.05), BINS + 1)
    values = [
        {
            "x": round(float(edges[place]), 4),
            "x2": round(float(edges[place + 1]), 4),
            "y": round(float(share), 5),
            "l": label,
            "t": f"{label}: {100 * share:.1f} % from {edges[place]:.2f} to {edges[place + 1]:.2f}",
        }
        for label, numbers in sides.items()
        for place, share in enumerate(_shares(np.asarray(numbers), edges))
        if share
    ]
    sheet = Sheet()
    drawn = (
        sheet.chart(values)
        .mark_bar(opacity=0.55, binSpacing=0)
        .encode(
            x=alt.X(
                "x:Q",
                axis=alt.Axis(
                    title="nats per token",
                    tickCount=4,
                    grid=False,
                    # Moved inwards, the first label meets the second in a narrow chart.
                    labelFlush=False,
                ),
            ),
            x2="x2:Q",
            y=alt.Y("y:Q", stack=None, axis=alt.Axis(title=None, format="%", tickCount=4)),
            y2=alt.Y2Datum(0),
            color=alt.Color(
                "l:N",
                scale=alt.Scale(domain=list(sides), range=["var(--series-1)", "var(--series-0)"]),
                legend=None,
            ),
            tooltip="t:N",
        )
    )
    return sheet.finish(drawn, height=150)


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
        "reason": row["reason"] or "",
    }


def _gap(row: Row) -> str:
    if row["gap_nats_per_token"] is None:
        return NOTHING
    text = f"{row['gap_nats_per_token']:+.3f}"
    if row["gap_ci_low"] is not None:
        text += f" [{row['gap_ci_low']:.3f}, {row['gap_ci_high']:.3f}]"
    return text.replace("-", MINUS)
