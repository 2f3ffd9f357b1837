"""How the numbers were made: protocols, versions, intervals, what failed, what is undefined."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from ptharness.report.tables import Row, Tables
from ptharness.schema import ANALYSIS, LIKELIHOODS, PUBLISHED

MOST_REASONS = 60
_DECIMALS = re.compile(r"-?\d+\.\d+(e-?\d+)?|(?<= )0(?= )|(?<=\()0(?= to 0\))")
"""Numbers by which reasons differ that are one reason."""
_ESTIMATES = ("edges", "sensitivity", "measures", "retention", "turnover")
_ABOUT = {
    "checkpoints": "the checkpoints and what was declared of them",
    "documents": "the items: prompt and right answer",
    "samples": "every completion, a file per checkpoint and task",
    "items": "per item: samples and correct ones",
    "metrics": "the tasks' own metrics",
    "edges": "what each stage, path and teacher changed",
    "verdicts": "the measured roles and the verdicts",
    "measures": "pass@k and its relatives, cost",
    "retention": "what is left of each stage's gain",
    "turnover": "items gained and lost between any two checkpoints",
    "sensitivity": "the cells at other k",
    "certified": "certified items by name",
    "distances": "KL divergence between any two checkpoints",
    "token_likelihoods": "what a child says, token by token under its parent",
    "provenance": "how likely each stage's trajectories are under its parent",
}


@dataclass(frozen=True)
class Appendix:
    """Tables of plain text; a list of pairs is printed as a list of terms."""

    protocols: tuple[tuple[str, ...], ...]
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    intervals: tuple[tuple[str, str, str, int], ...]
    family: str
    failures: tuple[tuple[str, ...], ...]
    undefined: tuple[tuple[str, str, str, int], ...]
    undefined_more: int
    comparable: tuple[tuple[str, str, str], ...]
    files: tuple[tuple[str, str, str], ...]


def appendix(tables: Tables) -> Appendix:
    """Gather it from run.json and the tables."""
    undefined = _undefined(tables)
    return Appendix(
        _protocols(tables.run),
        _facts(tables.run),
        tuple((str(k), str(v)) for k, v in _mapping(tables.run.get("versions")).items()),
        _intervals(tables),
        _family(tables),
        _failures(tables.run),
        undefined[:MOST_REASONS],
        max(0, len(undefined) - MOST_REASONS),
        _comparable(tables),
        _files(tables),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, list | tuple):
        return ", ".join(repr(v) if isinstance(v, str) else _text(v) for v in value) or "none"
    return str(value)


def _protocols(run: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    tasks = _mapping(run.get("tasks"))
    rows = []
    for protocol in _mapping(run.get("protocols")).values():
        sampling = _mapping(protocol.get("sampling"))
        task = str(protocol.get("task"))
        primary = protocol.get("primary") or _mapping(tasks.get(task)).get("primary")
        rows.append(
            (
                task,
                _text(protocol.get("kind")),
                _text(protocol.get("samples")),
                _text(sampling.get("temperature")),
                _text(sampling.get("top_p")),
                _text(sampling.get("max_tokens")),
                _text(sampling.get("stop")),
                _text(protocol.get("num_fewshot")),
                "yes" if protocol.get("chat_template_used") else "no",
                " / ".join(map(str, primary)) if isinstance(primary, list) else _text(primary),
            )
        )
    return tuple(dict.fromkeys(rows))


def _facts(run: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    engine, machine = _mapping(run.get("engine")), _mapping(run.get("machine"))
    identity = _mapping(engine.get("identity"))
    facts = {
        "command": " ".join(map(str, run.get("command") or ())),
        "started": run.get("started"),
        "finished": run.get("finished"),
        "support budget k": run.get("support_budget"),
        "root seed": _mapping(run.get("seeds")).get("root"),
        "engine": ", ".join(f"{name} {value}" for name, value in identity.items()),
        "machine": ", ".join(f"{name} {value}" for name, value in machine.items()),
        "state of the tables": run.get("state"),
    }
    return tuple((name, str(value)) for name, value in facts.items() if value not in (None, ""))


def _intervals(tables: Tables) -> tuple[tuple[str, str, str, int], ...]:
    """Per table, level and method: on which quantities, and how many rows."""
    counts: Counter[tuple[str, str]] = Counter()
    quantities: dict[tuple[str, str], dict[str, None]] = {}
    for table in _ESTIMATES:
        for row in tables.rows(table):
            if row["estimate"] is None or row["ci_method"] is None:
                continue
            level = f"{100 * row['level']:g}\u00a0%" if row["level"] else "level not stated"
            key = (level, row["ci_method"])
            counts[key] += 1
            quantities.setdefault(key, {})[row["quantity"]] = None
    for row in tables.rows("metrics"):
        if row["ci_method"]:
            key = ("95\u00a0%", row["ci_method"])
            counts[key] += 1
            quantities.setdefault(key, {})["metrics"] = None
    return tuple(
        (
            level,
            method.replace("_", " "),
            ", ".join(quantities[level, method]),
            counts[level, method],
        )
        for level, method in sorted(counts)
    )


def _family(tables: Tables) -> str:
    rows = [row for row in tables.rows("edges") if row["q"] is not None]
    if not rows:
        return "No p-value in these tables was adjusted."
    about = tables.analysis
    stated = f" As analysis.json states it: {about['family']}." if about.get("family") else ""
    if isinstance(about.get("false_discovery_rate"), float):
        stated += f" Verdicts hold the false discovery rate at {about['false_discovery_rate']:g}."
    if isinstance(about.get("smallest_effect"), float):
        stated += (
            f" An edge is said to have no effect only where {100 * about['smallest_effect']:g} "
            "percentage points would have been found."
        )
    names = ", ".join(dict.fromkeys(row["quantity"] for row in rows))
    pairs = len({(row["source"], row["target"], row["relation"]) for row in rows})
    tasks = len({(row["scope"], row["task"]) for row in rows})
    return (
        f"q is p adjusted by Benjamini and Hochberg. In edges.parquet {len(rows)} rows have one: "
        f"{pairs} pairs of checkpoints, {tasks} tasks or means of tasks, the quantities {names}."
        + stated
    )


def _failures(run: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    failures = run.get("failures")
    return tuple(
        tuple(
            _text(_mapping(failure).get(name))
            for name in ("checkpoint", "task", "stage", "message")
        )
        for failure in (failures if isinstance(failures, list) else ())
    )


def _undefined(tables: Tables) -> tuple[tuple[str, str, str, int], ...]:
    """Quantities without an estimate, grouped by reason, the most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter(
        (f"{table}.parquet", row["quantity"], row["reason"] or "no reason given")
        for table in _ESTIMATES
        for row in tables.rows(table)
        if row["estimate"] is None
    )
    counts.update(
        ("distances.parquet", "nats_per_token", row["reason"] or "no reason given")
        for row in tables.rows("distances")
        if row["nats_per_token"] is None
    )
    merged: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    for (table, quantity, reason), number in counts.items():
        key = (table, _DECIMALS.sub("#", reason))
        merged.setdefault(key, Counter())[quantity, reason] += number
    rows = []
    for (table, _), found in merged.items():
        reasons = sorted({reason for _, reason in found}, key=lambda one: (len(one), one))
        more = f" (and {len(reasons) - 1} like it)" if len(reasons) > 1 else ""
        names = ", ".join(dict.fromkeys(quantity for quantity, _ in found))
        rows.append((table, names, f"{reasons[0]}{more}", found.total()))
    return tuple(sorted(rows, key=lambda row: (-row[3], row)))


def _comparable(tables: Tables) -> tuple[tuple[str, str, str], ...]:
    """Pairs that were not asked alike, with the reason that some row gives."""
    found: dict[tuple[str, str], str] = {}
    for row in (*tables.rows("verdicts"), *tables.rows("edges")):
        if row["comparable"] != "same":
            key = (f"{row['source']} \u2192 {row['target']}", row["comparable"])
            found[key] = found.get(key) or _reason(row)
    return tuple((*key, reason) for key, reason in found.items())


def _reason(row: Row) -> str:
    return str(row["reason"] or "")


def _files(tables: Tables) -> tuple[tuple[str, str, str], ...]:
    """The files beside the page, how many rows each has, and what it holds."""
    rows = []
    for table in (*PUBLISHED, *ANALYSIS, *LIKELIHOODS):
        about = _ABOUT.get(table, "")
        if table == "samples":
            files = sorted((tables.results.path / table).glob("*/*.parquet"))
            size = f"{len(files)} files"
            rows.append(("samples/", size, about))
        elif not tables.is_there(table):
            rows.append((f"{table}.parquet", "not there", about))
        elif table in LIKELIHOODS and tables.unusable(table):
            rows.append((f"{table}.parquet", "not used", about))
        else:
            path = tables.results.path / f"{table}.parquet"
            rows.append((path.name, f"{pq.read_metadata(path).num_rows} rows", about))
    rows.append(("run.json", "", "versions, protocols, seeds, times, failures"))
    rows.append(("manifest.yaml", "", "the lineage and the tasks as they were given"))
    return tuple(rows)
