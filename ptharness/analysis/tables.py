"""Published tables in, analysis tables out: Arrow to Arrow, no files and no engine."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from ptharness.analysis.certified_items import certified_rows, certify_all
from ptharness.analysis.edges import (
    adjusted,
    compare,
    edge_rows,
    further_rows,
    sensitivity_rows,
    verdict_rows,
)
from ptharness.analysis.inputs import Inputs, Row
from ptharness.analysis.measures import measure_rows
from ptharness.analysis.pairs import turnover_rows
from ptharness.analysis.retained import consolidation, retention_rows
from ptharness.analysis.threads import on_one_core
from ptharness.analysis_settings import Settings
from ptharness.schema import ANALYSIS


def analyse(inputs: Inputs, settings: Settings) -> dict[str, pa.Table]:
    """The tables of `schema.ANALYSIS` under their names."""
    with on_one_core():
        return _analyse(inputs, settings)


def _analyse(inputs: Inputs, settings: Settings) -> dict[str, pa.Table]:
    draws = inputs.draws(settings)
    compared = compare(inputs, settings, draws)
    q = adjusted(compared)
    certified = certify_all(inputs, settings)
    evidence = consolidation(inputs, settings)
    rows: dict[str, Iterable[Row]] = {
        "edges": [
            *edge_rows(inputs, compared, q),
            *further_rows(inputs, compared, certified, settings),
        ],
        "verdicts": verdict_rows(inputs, compared, q, settings, evidence),
        "measures": measure_rows(inputs, settings),
        "retention": retention_rows(inputs, settings),
        "turnover": turnover_rows(inputs, settings, draws),
        "sensitivity": sensitivity_rows(inputs, settings, draws),
        "certified": certified_rows(inputs, settings, certified),
    }
    return {
        name: pa.Table.from_pylist(list(rows[name]), schema=schema)
        for name, schema in ANALYSIS.items()
    }
