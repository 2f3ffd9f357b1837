"""Published tables in, analysis tables out: Arrow to Arrow, no files and no engine."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from ptharness.analysis.edges import (
    adjusted,
    compare,
    edge_rows,
    sensitivity_rows,
    verdict_rows,
)
from ptharness.analysis.inputs import Inputs, Row, Settings
from ptharness.analysis.pairs import turnover_rows
from ptharness.schema import ANALYSIS


def analyse(inputs: Inputs, settings: Settings) -> dict[str, pa.Table]:
    """The tables of `schema.ANALYSIS` under their names."""
    draws = inputs.draws(settings)
    compared = compare(inputs, settings, draws)
    q = adjusted(compared)
    rows: dict[str, Iterable[Row]] = {
        "edges": edge_rows(inputs, compared, q),
        "verdicts": verdict_rows(inputs, compared, q, settings, {}),
        "sensitivity": sensitivity_rows(inputs, settings, draws),
        "turnover": turnover_rows(inputs, settings, draws),
    }
    return {
        name: pa.Table.from_pylist(list(rows.get(name, ())), schema=schema)
        for name, schema in ANALYSIS.items()
    }
