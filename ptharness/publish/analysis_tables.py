"""The analysis tables of a results folder, brought up to the published ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.analysis_settings import MOST_ATTEMPTS, Settings
from ptharness.errors import ManifestError, ResultsError
from ptharness.fingerprint import digest, write_atomically
from ptharness.manifest import DEFAULT_SUPPORT_BUDGET
from ptharness.publish.files import samples_file, state_of, write_table
from ptharness.results import Results
from ptharness.schema import ANALYSIS, SCHEMA_VERSION

if TYPE_CHECKING:
    from ptharness.analysis.inputs import Inputs

ANALYSIS_VERSION = 5
"""Raised when the same tables would give another analysis."""


def publish_analysis(results: Results, settings: Settings) -> list[str]:
    """Make what is missing or out of date of a folder's analysis tables; their file names.

    Raises `ResultsError` where the published tables are not there, or of an older ptharness.
    """
    state = digest(ANALYSIS_VERSION, SCHEMA_VERSION, results.run.get("state"), asdict(settings))
    files = {name: results.path / f"{name}.parquet" for name in ANALYSIS}
    about = results.path / "analysis.json"
    if results.analysis.get("state") == state and _are_of(files.values(), state):
        return []
    from ptharness.analysis.tables import analyse

    tables = analyse(read_inputs(results), settings)
    for name, file in files.items():
        write_table(file, tables[name], state)
    text = json.dumps({"state": state, **_described(settings)}, indent=2)
    write_atomically(about, (text + "\n").encode("ascii"))
    results.__dict__.pop("analysis", None)  # what is cached of it is out of date
    if not _are_of(files.values(), state):
        raise ResultsError(
            f"{results.path}: another analysis, with other settings, wrote its tables at the same "
            "time, so they are a mixture; run the command again"
        )
    return [*(file.name for file in files.values()), about.name]


def _are_of(files: Iterable[Path], state: str) -> bool:
    return all(state_of(file) == state for file in files)


def default_settings(results: Results) -> Settings:
    """The manifest's support budget, and the defaults for the rest. Raises `ResultsError`."""
    budget = results.run.get("support_budget")
    if budget is None:
        budget = DEFAULT_SUPPORT_BUDGET
    if not isinstance(budget, int) or not 1 <= budget <= MOST_ATTEMPTS:
        raise ResultsError(
            f"{results.path / 'run.json'}: support_budget is {budget!r}, not a number of attempts "
            f"from 1 to {MOST_ATTEMPTS}; run the evaluation again"
        )
    return Settings(k=budget)


def _described(settings: Settings) -> dict[str, Any]:
    """How the analysis was made, for whoever reads the tables."""
    thresholds = settings.thresholds
    return {
        "support_budget": settings.k,
        "level": thresholds.level,
        "false_discovery_rate": thresholds.fdr,
        "smallest_effect": thresholds.smallest_effect,
        "replicates": settings.replicates,
        "seed": settings.seed,
        "family": "q adjusts p (Benjamini-Hochberg) over exp, rsh_up, rsh_down and att of all "
        "comparisons of one relation in one scope",
    }


def read_inputs(results: Results) -> Inputs:
    """What the analysis takes from the published tables. Raises `ResultsError`."""
    try:
        inputs = _read_inputs(results)
        # Made of the table's rows, so that a wrong one is found before anything is computed.
        _ = inputs.edges
    except (KeyError, TypeError, ValueError, AttributeError, ManifestError) as error:
        raise ResultsError(
            f"{results.path}: its run.json, checkpoints.parquet and items.parquet are not as "
            f"ptharness writes them ({type(error).__name__}: {error}); run the evaluation again"
        ) from error
    for task, counts in inputs.counts.items():
        if (counts.n < 0).any() or (counts.c < 0).any() or (counts.c > counts.n).any():
            raise ResultsError(
                f"{results.path / 'items.parquet'}: task {task!r} has an item with c outside 0 to "
                "n; run the evaluation again"
            )
    return inputs


def _read_inputs(results: Results) -> Inputs:
    from ptharness.analysis.comparability import Asked
    from ptharness.analysis.counts import COLUMNS, counts_of
    from ptharness.analysis.inputs import Inputs

    run = results.run
    if "evaluated" not in run:
        raise ResultsError(
            f"{results.path}: was published by an older ptharness; run the evaluation again "
            "(what is in the store is not generated again)"
        )
    protocols: Mapping[str, Mapping[str, Any]] = run.get("protocols", {})
    asked = {
        (e["checkpoint"], e["task"]): Asked(
            e["items"],
            e["gold"],
            e["prompts"],
            e["scoring"],
            e["tokenizer"],
            tuple(e["stop_token_ids"]),
            protocols.get(e["protocol"], {}),
        )
        for e in run["evaluated"]
    }

    def samples(checkpoint: str, task: str, columns: Sequence[str]) -> pa.Table:
        file = results.path / samples_file(checkpoint, task)
        try:
            return pq.read_table(file, columns=list(columns), partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(
                f"{file}: cannot be read ({error}); run the evaluation again, which writes what is "
                "missing or damaged"
            ) from error

    return Inputs(
        results.arrow("checkpoints"),
        counts_of(results.arrow("items", COLUMNS)),
        asked,
        {task: described.get("tags", ()) for task, described in run.get("tasks", {}).items()},
        samples,
    )
