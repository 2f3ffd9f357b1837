"""The analysis tables of a results folder, brought up to the published ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.errors import ResultsError
from ptharness.fingerprint import digest, write_atomically
from ptharness.manifest import DEFAULT_SUPPORT_BUDGET
from ptharness.publish.files import samples_file, state_of, write_table
from ptharness.results import Results
from ptharness.schema import ANALYSIS, SCHEMA_VERSION

if TYPE_CHECKING:
    from ptharness.analysis.inputs import Inputs
from ptharness.analysis_settings import Settings

ANALYSIS_VERSION = 1
"""Raised when the same tables would give another analysis."""


def publish_analysis(results: Results, settings: Settings) -> list[str]:
    """Make what is missing or out of date of a folder's analysis tables; their file names.

    Raises `ResultsError` where the published tables are not there, or of an older ptharness.
    """
    state = digest(ANALYSIS_VERSION, SCHEMA_VERSION, results.run.get("state"), asdict(settings))
    files = {name: results.path / f"{name}.parquet" for name in ANALYSIS}
    about = results.path / "analysis.json"
    if about.is_file() and all(state_of(file) == state for file in files.values()):
        return []
    from ptharness.analysis.tables import analyse

    tables = analyse(read_inputs(results), settings)
    for name, file in files.items():
        write_table(file, tables[name], state)
    text = json.dumps({"state": state, **_described(settings)}, indent=2)
    write_atomically(about, (text + "\n").encode("ascii"))
    return [*(file.name for file in files.values()), about.name]


def default_settings(results: Results) -> Settings:
    """The manifest's support budget, and the defaults for the rest."""
    from ptharness.analysis_settings import Settings

    return Settings(k=int(results.run.get("support_budget") or DEFAULT_SUPPORT_BUDGET))


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
