"""What all figures share: the chart with its words, scopes, and colours by variable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ptharness.report.lineage import Lineage
from ptharness.report.numbers import amount, interval, unit
from ptharness.report.tables import Row

if TYPE_CHECKING:
    import altair as alt

CELL_WORDS = {
    "exp": "expansion",
    "rsh": "reshaping",
    "rsh_up": "reshaping, better",
    "rsh_down": "reshaping, worse",
    "att": "attrition",
    "res": "residual",
}
CELL_COLOURS = {
    "exp": "var(--expansion)",
    "rsh": "var(--reshaping)",
    "rsh_up": "var(--reshaping)",
    "rsh_down": "var(--reshaping-worse)",
    "att": "var(--attrition)",
    "res": "var(--residual)",
}
ROLE_COLOURS = {
    "support_expansion": "var(--expansion)",
    "policy_reshaping": "var(--reshaping)",
    "mixed": "var(--mixed)",
    "consolidation": "var(--consolidation)",
    "none": "var(--residual)",
    "undetermined": "var(--unknown)",
}
SERIES = 8
"""Colours of checkpoints; beyond them line styles tell apart."""
COMPARED = ("edge", "replicate")
"""Relations that are drawn side by side: the stages, and the same weights once more."""
SIGNED = "datum.value === 0 ? '0' : format(datum.value, '+d')"
"""Labels of an axis of differences."""
LONGEST_NAME = 20
"""Letters of a name in a chart."""
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])


@dataclass(frozen=True)
class Figure:
    """A chart, what it shows in words, and the files that its numbers are from.

    `spec` is None where there is nothing to draw, and `empty` says why. `scopes` are those with
    something to draw, None for a chart that does not follow the choice of a task; `reasons` says
    by scope why there is nothing. `note` is what to know before one trusts the chart.
    """

    name: str
    title: str
    description: str
    files: tuple[str, ...]
    spec: dict[str, Any] | None = None
    empty: str = ""
    scopes: tuple[int, ...] | None = None
    most_width: int | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)
    note: str = ""


class Sheet:
    """The charts of one figure, and their rows. Charts are `Any`: altair types them by hundreds
    of literals, which say less than its schema does in the tests.

    Rows stay out of the charts until the end: altair would copy and check each of them, and
    layers that share rows would each bring their own.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = {}

    def chart(self, values: Iterable[Row]) -> Any:
        """A chart of rows."""
        import altair as alt

        name = f"rows{len(self._rows)}"
        self._rows[name] = list(values)
        return alt.Chart(alt.NamedData(name=name))

    def scoped(self, values: Iterable[Row]) -> Any:
        """A chart of those rows whose scope is the chosen one."""
        return self.chart(values).transform_filter("datum.s === scope")

    def finish(self, drawn: Any, **properties: Any) -> dict[str, Any]:
        """The specification of a chart as wide as its place."""
        sized = drawn.properties(width="container", **properties)
        # Tests check what is made here against the schema; a user need not wait for that.
        spec: dict[str, Any] = sized.to_dict(validate=False)
        # The page brings its own library and configuration.
        for name in ("$schema", "config"):
            spec.pop(name, None)
        spec["datasets"] = self._rows
        return spec


def scope_parameter() -> alt.Parameter:
    """The chosen scope; the page changes it."""
    import altair as alt

    return alt.param(name="scope", value=0)


def shortened(name: str) -> str:
    """A name cut in its middle: those of a sweep differ at their ends."""
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[:half]}\u2026{name[1 - half :]}"


def matrix_axes(padding: float, size: int = 11) -> tuple[alt.X, alt.Y]:
    """Checkpoints across, at `j`, and down, at `i`, under the names of `names_parameter`.

    By number, since a checkpoint's name may be one that every object of JavaScript has.
    """
    import altair as alt

    axis: dict[str, Any] = {"title": None, "domain": False, "ticks": False, "labelLimit": 140}
    axis |= {"labelExpr": "names[datum.value]", "labelFontSize": size}
    scale = alt.Scale(padding=padding)
    across = alt.X("j:O", axis=alt.Axis(orient="top", labelAngle=-90, **axis), scale=scale)
    return across, alt.Y("i:O", axis=alt.Axis(**axis), scale=scale)


def names_parameter(names: Iterable[str]) -> alt.Parameter:
    """What is written on an axis of numbers."""
    import altair as alt

    return alt.param(name="names", value=[shortened(name) for name in names])


def tip(row: Row, title: str, name: str) -> str:
    """What hovering says of an estimate: title, number, interval with level and method, items."""
    quantity = row["quantity"]
    lines = [title, f"{name} {amount(quantity, row['estimate'])} {unit(quantity)}".rstrip()]
    if interval(row):
        level = f"{100 * row['level']:g} % " if row.get("level") else ""
        method = f", {row['ci_method']}" if row.get("ci_method") else ""
        lines.append(f"{level}interval {interval(row)}{method}")
    attempts = f", k = {row['k']}" if row.get("k") else ""
    lines.append(f"{row['items']} items{attempts}")
    return "\n".join(lines)


def reasons_by_scope(rows: Iterable[Row], lineage: Lineage, drawn: Iterable[int]) -> dict[int, str]:
    """For each scope without a drawing, the first reason that the rows give."""
    reasons: dict[int, str] = {}
    have = set(drawn)
    for row in rows:
        scope = lineage.scope(row)
        if scope and scope.index not in have and row.get("reason"):
            reasons.setdefault(scope.index, row["reason"])
    return reasons


def first_reason(rows: Iterable[Row], lineage: Lineage) -> str | None:
    """Why these rows are undefined: what the widest scope among those with a reason gives."""
    given = [
        (scope.index, row["reason"])
        for row in rows
        if row["reason"]
        if (scope := lineage.scope(row))
    ]
    return min(given, key=lambda one: one[0], default=(0, None))[1]


def series_order(lineage: Lineage) -> list[int]:
    """Checkpoints in the order in which they take colours: the main path first."""
    main = [checkpoint.index for checkpoint in lineage.main_path]
    return main + [c.index for c in lineage.checkpoints if c.index not in main]


def series_scales(lineage: Lineage) -> tuple[alt.Scale, alt.Scale]:
    """Colour and line style of every checkpoint."""
    import altair as alt

    order = series_order(lineage)
    colours = [f"var(--series-{place % SERIES})" for place in range(len(order))]
    dashes = [DASHES[place // SERIES % len(DASHES)] for place in range(len(order))]
    return alt.Scale(domain=order, range=colours), alt.Scale(domain=order, range=dashes)


def shown_parameter(lineage: Lineage) -> alt.Parameter:
    """The checkpoints that are shown; the page changes them."""
    import altair as alt

    return alt.param(name="shown", value=first_shown(lineage))


def first_shown(lineage: Lineage) -> list[int]:
    """As many checkpoints as have a colour of their own, the main path first."""
    return series_order(lineage)[: max(SERIES, 1)][: max(len(lineage.main_path), 2)]


def pair_name(row: Row) -> str:
    """What is compared: `sft \u2192 grpo`; of one model's two runs, that it is one."""
    note = " (same weights)" if row["relation"] == "replicate" else ""
    return f"{row['source']} \u2192 {row['target']}{note}"
