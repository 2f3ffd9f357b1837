"""`ptharness results`: which lineages a folder holds results of. Not ptharness/results.py."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ptharness.cli.output import JSON_OPTION, counted, print_json, print_table, print_text
from ptharness.errors import ResultsError

UNREADABLE = 1
"""Exit code where some of the folders cannot be read."""

UNITS = "units"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("results"))
@JSON_OPTION
def results(folder: Path, as_json: bool) -> int:
    """List what is in FOLDER: `results`, another folder that runs wrote to, or one lineage's.

    Each lineage with its checkpoints, tasks, size, date, failures and engine; of a single one, or
    with --json, also the names. The size of the units, from which the tables are published, comes
    last.

    \b
    Example:
        ptharness results /data/results
    """
    single = (folder / "run.json").is_file()
    places = [folder] if single else sorted(path.parent for path in folder.glob("*/run.json"))
    units = (folder.parent if single else folder) / UNITS
    if not places and not units.is_dir():
        raise ResultsError(_nothing(folder))
    described = [_described(place) for place in places]
    stored = _stored(units)
    if as_json:
        print_json({"folder": str(folder), "lineages": described, "units": stored})
    elif single:
        _print_one(described[0])
    else:
        _print_all(described)
    if not as_json and stored:
        of = f" in {units}" if single else ""
        print_text(f"units{of}: {counted(stored['files'], 'file')}, {_size(stored['bytes'])}")
    return UNREADABLE if any("error" in one for one in described) else 0


def _nothing(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder; give the one that `ptharness run` wrote to (-o)"
    deeper = sorted(str(path.parent.parent) for path in folder.glob("*/*/run.json"))
    if deeper:
        return f"{folder}: no results in it, but in {', '.join(dict.fromkeys(deeper))}"
    return f"{folder}: no results in it; `ptharness run lineage.yaml -o {folder}` writes some"


def _described(place: Path) -> dict[str, Any]:
    """One lineage's folder; where it cannot be read, `error` says why."""
    about: dict[str, Any] = {"path": str(place), "bytes": _used([place])["bytes"]}
    try:
        return {**about, **_contents(place)}
    except ResultsError as error:
        return {**about, "error": str(error)}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        told = f"its run.json is not as ptharness writes it ({error}); run the evaluation again"
        return {**about, "error": f"{place}: {told}"}


def _contents(place: Path) -> dict[str, Any]:
    from ptharness.results import Results

    found = Results(place)
    run = found.run
    engine, evaluated = run.get("engine") or {}, run.get("evaluated") or []
    identity = engine.get("identity") or {}
    names = found.arrow("checkpoints", ["checkpoint"])["checkpoint"].to_pylist()
    return {
        "lineage": run.get("lineage"),
        "checkpoints": names,
        "tasks": list((run.get("tasks") or {}).keys()),
        "evaluated": len(evaluated),
        "started": run.get("started"),
        "finished": run.get("finished"),
        "failures": [dict(failure) for failure in run.get("failures") or ()],
        "engine": engine.get("name"),
        "engine_version": identity.get("version"),
        "dtype": identity.get("dtype"),
        "ptharness": (run.get("versions") or {}).get("ptharness"),
        "support_budget": found.analysis.get("support_budget"),
        "report": (place / "report.html").is_file(),
    }


def _stored(units: Path) -> dict[str, int] | None:
    return _used([units]) if units.is_dir() else None


def _used(places: Iterable[Path]) -> dict[str, int]:
    """Files below some folders and their bytes; what vanishes meanwhile does not count."""
    files = size = 0
    waiting = [str(place) for place in places]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        files, size = files + 1, size + entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return {"files": files, "bytes": size}


def _print_all(described: list[dict[str, Any]]) -> None:
    rows = [
        (
            one["lineage"],
            len(one["checkpoints"]),
            len(one["tasks"]),
            _size(one["bytes"]),
            _date(one["finished"])[:10],
            len(one["failures"]) or "none",
            " ".join(filter(None, (one["engine"], one["engine_version"]))) or "?",
        )
        for one in described
        if "error" not in one
    ]
    columns = ("checkpoints", "tasks", "size", "finished", "failures", "engine")
    if rows:
        print_table(("lineage", *columns), rows)
    for one in described:
        if "error" in one:
            print_text(f"cannot be read: {one['error']}")
    if not described:
        print_text("no published results")


def _print_one(one: dict[str, Any]) -> None:
    if "error" in one:
        print_text(f"cannot be read: {one['error']}")
        return
    pairs = len(one["checkpoints"]) * len(one["tasks"])
    budget = one["support_budget"]
    rows = (
        ("lineage", one["lineage"]),
        ("checkpoints", _names(one["checkpoints"])),
        ("tasks", _names(one["tasks"])),
        ("evaluated", f"{one['evaluated']} of {pairs} checkpoint x task pairs"),
        ("size", _size(one["bytes"])),
        ("started", _date(one["started"])),
        ("finished", _date(one["finished"])),
        ("engine", _engine(one)),
        ("ptharness", one["ptharness"] or "?"),
        ("analysed", f"with a support budget of {budget}" if budget else "no"),
        ("report", "report.html" if one["report"] else "none"),
        ("failures", len(one["failures"]) or "none"),
    )
    for name, value in rows:
        print_text(f"{name:11}  {value}")
    for failure in one["failures"]:
        where = " x ".join(filter(None, (failure.get("checkpoint"), failure.get("task"))))
        told = ": ".join(filter(None, (where, failure.get("stage"), failure.get("message"))))
        print_text(f"failed: {told}")


def _names(names: list[str]) -> str:
    return f"{len(names)}: {' '.join(names)}"


def _engine(one: dict[str, Any]) -> str:
    return " ".join(filter(None, (one["engine"], one["engine_version"], one["dtype"]))) or "?"


def _date(text: str | None) -> str:
    """`2026-11-24 19:49`, in the time zone that it was written in."""
    return str(text)[:16].replace("T", " ") if text else "?"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
