"""What each stage did, for a terminal: a line per stage, and tables per task, tag and k."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ptharness.cli.output import counted, print_table, print_text
from ptharness.report.choices import (
    CHOICE_COLUMNS,
    UNITS,
    UNKNOWN,
    WHY,
    choice_tags,
    choice_tasks,
    has_choices_only,
)
from ptharness.report.numbers import MINUS, amount, interval, points
from ptharness.report.sentences import movement
from ptharness.results import Results
from ptharness.text import safe

Row = dict[str, Any]

SHOWN = ("delta", "exp", "rsh_up", "rsh_down", "att")
MOST_CHOICE_ROWS = 24


def stages_json(results: Results, scope: str = "pooled") -> list[Row]:
    """Every verdict of a scope with its estimates, as plain values."""
    estimates = _estimates(results, "edges", scope)
    return [
        {**verdict, "estimates": estimates.get(_key(verdict), {})}
        for verdict in _rows(results, "verdicts", scope)
    ]


def print_stages(results: Results) -> None:
    """A line for each stage, over all tasks (where a terminal is too narrow, two), and a row for
    each stage and task of multiple choice."""
    stages = [row for row in stages_json(results) if row["relation"] in ("edge", "replicate")]
    if not stages:
        return
    of_choices = has_choices_only(results.run)
    edges = [stage["target"] for stage in stages if stage["relation"] == "edge"]
    lines = []
    for stage in stages:
        is_plain = stage["relation"] == "edge" and edges.count(stage["target"]) == 1
        name = stage["target"] if is_plain else f"{stage['source']} -> {stage['target']}"
        told = (roles(stage, measured=not of_choices), change(stage, of_choices=of_choices))
        lines.append((safe(name), *map(safe, told)))
    width = max(len(name) for name, _, _ in lines)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_text(f"\n{heading(results, stages)}")
    for name, declared, moved in lines:
        line = f"{name:{width}}  {declared}  {moved}"
        if columns is not None and len(line) > columns:
            line = f"{name:{width}}  {declared}\n{'':{width}}  {moved}"
        print_text(line)
    _print_choices(results)
    print_text("")


def _print_choices(results: Results) -> None:
    tasks = choice_tasks(results.run)
    stages = [
        stage
        for stage in (stages_json(results, "task") if tasks else ())
        if stage["relation"] == "edge" and stage["task"] in tasks
    ]
    if not stages:
        return
    print_text("")
    rows = [
        (_pair(stage), _asked(stage), *choice_cells(stage["estimates"], CHOICE_COLUMNS))
        for stage in stages[:MOST_CHOICE_ROWS]
    ]
    print_table(("multiple choice", "task", *(name for _, name in CHOICE_COLUMNS)), rows)
    if more := len(stages) - len(rows):
        print_text(f"... and {more} more, in edges.parquet and the report")
    print_text(f"{UNITS}\n{WHY}")
    if any("-" in row for row in rows):
        print_text(UNKNOWN)


def _asked(stage: Row) -> str:
    """A task, and whether both sides were asked alike."""
    notes = {"native": " (native)", "no": " (not comparable)"}
    return f"{stage['task']}{notes.get(stage['comparable'], '')}"


def choice_cells(estimates: Mapping[str, Row], columns: Sequence[tuple[str, str]]) -> Iterator[str]:
    """`-17.0 [-23.7, -10.3]` for each of `CHOICE_COLUMNS`; `-` where there is none."""
    for quantity, _ in columns:
        row = estimates.get(quantity)
        if row is None or row["estimate"] is None:
            yield "-"
        else:
            told = f"{amount(quantity, row['estimate'])} {interval(row)}"
            yield told.rstrip().replace(MINUS, "-").replace("\u00a0", " ")


def heading(results: Results, stages: Sequence[Row]) -> str:
    """What the lines below it mean."""
    about = results.analysis
    count = max(stage["tasks"] for stage in stages)
    reachable = (
        ""
        if has_choices_only(results.run)
        else f"reachable within {about.get('support_budget')} attempts; "
    )
    return (
        f"what each stage did, mean of {counted(count, 'task')}; {reachable}"
        f"{100 * float(about.get('level', 0.95)):g} % intervals, in percentage points"
    )


def roles(stage: Row, *, measured: bool = True) -> str:
    """`on-policy  declared policy_reshaping  measured policy_reshaping (supported)`."""
    flags = [name.replace("_", " ") for name in ("attrition", "harmful_reshaping") if stage[name]]
    found = f"  measured {stage['role_measured']} ({stage['verdict']})" if measured else ""
    if flags:
        found += f" with {' and '.join(flags)}"
    if stage["relation"] == "replicate":
        return f"the same weights again{found}"
    provenance = str(stage["provenance"] or "").replace("_", "-")
    declared = " or ".join(stage["role_declared"]) or "nothing"
    return f"{provenance}  declared {declared}{found}"


def change(stage: Row, *, of_choices: bool = False) -> str:
    """`+21.4 pp = expansion +0.3 [-0.1, 0.8], reshaping ..., attrition ...`."""
    native = " (each asked as it is meant to be used)" if stage["comparable"] == "native" else ""
    moved = movement(stage["estimates"], of_choices=of_choices)
    return moved.replace("\u2212", "-") + native


def print_by(results: Results, scope: str) -> None:
    """Every related pair on each task, or over each tag's tasks; a star where q is low enough."""
    fdr = float(results.analysis.get("false_discovery_rate", 0.05))
    of_choices = {"task": choice_tasks, "tag": choice_tags}[scope](results.run)
    rows = []
    for stage in stages_json(results, scope):
        cells = [_starred(stage["estimates"].get(quantity), fdr) for quantity in SHOWN]
        told = [stage["role_measured"], stage["verdict"]]
        if stage["task"] in of_choices:
            cells, told = [cells[0], *("-" for _ in cells[1:])], ["-", "-"]
        rows.append((_pair(stage), stage["task"], *cells, *told))
    if not rows:
        print_text(f"no {scope} to show")
        return
    names = ("change", "expansion", "up", "down", "attrition")
    print_table(("pair", scope, *names, "measured", "verdict"), rows)
    print_text(f"* q <= {fdr:g}; intervals are in edges.parquet, or printed by --json")
    if any(row[-1] == "-" for row in rows):
        print_text("-: not defined on multiple choice")


def print_sensitivity(results: Results) -> None:
    """How expansion, reshaping and attrition move with the support budget, over all tasks."""
    by_pair: dict[tuple[str, str], dict[int, dict[str, Row]]] = {}
    for row in _rows(results, "sensitivity", "pooled"):
        if row["relation"] == "edge":
            pair = by_pair.setdefault((row["source"], row["target"]), {})
            pair.setdefault(row["k"], {})[row["quantity"]] = row
    ks = sorted({k for pair in by_pair.values() for k in pair})
    if not ks:
        return
    rows = [
        (f"{source} -> {target}", *(_three(found.get(k, {})) for k in ks))
        for (source, target), found in by_pair.items()
    ]
    columns = ("expansion / reshaping / attrition", *(f"k = {k}" for k in ks))
    print_table(columns, rows)


def _pair(stage: Row) -> str:
    note = "" if stage["relation"] == "edge" else f" ({stage['relation']})"
    return f"{stage['source']} -> {stage['target']}{note}"


def _starred(row: Mapping[str, Any] | None, fdr: float) -> str:
    """`+22.0*`, in percentage points."""
    if row is None or row["estimate"] is None:
        return "?"
    found = row["q"] is not None and row["q"] <= fdr
    return f"{_points(row['estimate'])}{'*' * found}"


def _three(found: Mapping[str, Row]) -> str:
    values = [found.get(quantity, {}).get("estimate") for quantity in ("exp", "rsh", "att")]
    return " / ".join("?" if value is None else _points(value) for value in values)


def _points(value: float) -> str:
    return points(value).replace(MINUS, "-")


def _rows(results: Results, table: str, scope: str) -> Iterator[Row]:
    # Filtered here: filters of Arrow's take seconds of imports along.
    yield from (row for row in results.arrow(table).to_pylist() if row["scope"] == scope)


def _key(row: Row) -> tuple[Any, ...]:
    return row["relation"], row["source"], row["target"], row["task"]


def _estimates(results: Results, table: str, scope: str) -> dict[tuple[Any, ...], dict[str, Row]]:
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    names = ("estimate", "stderr", "ci_low", "ci_high", "ci_method", "p", "q", "items", "reason")
    for row in _rows(results, table, scope):
        values = {name: row[name] for name in ("quantity", *names)}
        found.setdefault(_key(row), {})[row["quantity"]] = values
    return found
