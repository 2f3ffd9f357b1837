"""The tables that the report is made of: rows as plain values, and why a table is not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import pyarrow.parquet as pq

from ptharness.errors import ResultsError
from ptharness.results import TABLES, Filters, Results

Row: TypeAlias = dict[str, Any]


class Tables:
    """Rows of a results folder; a table that is missing has none, and a note says so."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.run: dict[str, Any] = results.run
        self._read: dict[str, list[Row]] = {}

    def rows(self, table: str) -> list[Row]:
        """All rows; none where the table is missing. Raises `ResultsError` where it is damaged."""
        if table not in self._read:
            self._read[table] = [] if self.missing(table) else self._load(table)
        return self._read[table]

    def some(self, table: str, columns: Sequence[str], filters: Filters) -> list[Row]:
        """Some columns of the rows that meet the conditions."""
        rows: list[Row] = self.results.arrow(table, columns, filters).to_pylist()
        return rows

    def missing(self, table: str) -> str | None:
        """Why there is nothing of this table, and what to do; None where it is there."""
        if (self.results.path / f"{table}.parquet").is_file():
            return None
        return (
            f"{table}.parquet is not in this results folder, so this part is empty. "
            "`ptharness analyze` makes the analysis tables from the published ones, without an "
            "engine; `ptharness report` then writes this page again."
        )

    def _load(self, table: str) -> list[Row]:
        if table in TABLES:
            return _plain(self.results.arrow(table).to_pylist())
        path = self.results.path / f"{table}.parquet"
        try:
            return _plain(pq.ParquetFile(path).read().to_pylist())
        except (OSError, ValueError) as error:
            raise ResultsError(
                f"{path}: cannot be read ({error}); `ptharness analyze` writes it again"
            ) from error


def _plain(rows: list[Row]) -> list[Row]:
    """Numbers that are none become null: nothing downstream has to know about NaN."""
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float) and not abs(value) < float("inf"):
                row[name] = None
    return rows


def files(*tables: str) -> tuple[str, ...]:
    """The names of the files that a panel is made of."""
    return tuple("samples/" if table == "samples" else f"{table}.parquet" for table in tables)


def index(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], Row]:
    """Rows under the values of some columns; of several the last."""
    return {tuple(row[column] for column in columns): row for row in rows}
