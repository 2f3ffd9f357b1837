"""The tables that the report is made of: rows as plain values, and why a table is not there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.errors import ResultsError
from ptharness.results import Results, checked, remedy
from ptharness.schema import ANALYSIS, LIKELIHOODS, PUBLISHED

Row: TypeAlias = dict[str, Any]

_UNREAD = frozenset(
    {"lineage", "stage", "step", "parents", "method", "interface", "provenance", "role", "stderr"}
)
"""Columns that a report has no use for, save those of `checkpoints`: turning them into Python's
values takes longer than all else."""


class Tables:
    """Rows of a results folder; a table that is missing has none, and a note says so.

    So has a table of likelihoods that is damaged or has other columns: a command of its own makes
    it, which the evaluation does not need.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.run: dict[str, Any] = results.run
        self.analysis: dict[str, Any] = results.analysis
        self._read: dict[str, list[Row]] = {}
        self._likelihoods: dict[str, pa.Table | None] = {}
        self._unusable: dict[str, str] = {}

    def rows(self, table: str) -> list[Row]:
        """All rows; none where the table is missing. Raises `ResultsError` where it is damaged."""
        if table not in self._read:
            self._read[table] = self._load(table) if self.is_there(table) else []
        return self._read[table]

    def likelihoods(self, table: str) -> pa.Table | None:
        """A table of likelihoods, with all columns; None where it is missing or unusable."""
        if table not in self._likelihoods:
            self._likelihoods[table] = None
            if self.is_there(table):
                try:
                    found = self.results.arrow(table)
                    path = self.results.path / f"{table}.parquet"
                    self._likelihoods[table] = checked(path, found)
                except ResultsError as error:
                    # The page is the same wherever its folder lies.
                    said = str(error).removeprefix(f"{self.results.path}/")
                    self._unusable[table] = said.replace(".parquet: ", ".parquet ", 1)
        return self._likelihoods[table]

    def unusable(self, table: str) -> str | None:
        """Why a table of likelihoods that is there is not shown, and what to do."""
        self.likelihoods(table)
        return self._unusable.get(table)

    def is_there(self, table: str) -> bool:
        """Whether the table's file exists."""
        return (self.results.path / f"{table}.parquet").is_file()

    def missing(self, table: str) -> str | None:
        """That the table is not there, and what to do; None where it is."""
        if self.is_there(table):
            return None
        return (
            f"{table}.parquet is not in this results folder, so this part is empty. "
            "`ptharness analyze` makes the analysis tables from the published ones, without an "
            "engine; `ptharness report` then writes this page again."
        )

    def of_items(self, path: Path, columns: Sequence[str], items: Collection[str]) -> Iterator[Row]:
        """Some columns of the rows of some items in one file; of a missing file none.

        Long texts are read from those row groups alone that hold such an item.
        """
        if not path.is_file():
            return
        table = path.relative_to(self.results.path).with_suffix("").as_posix()
        advice = remedy(table, self.results.path)
        try:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    # No array is made of Python's values here: that would import pandas.
                    names = file.read_row_group(group, ["item"])["item"].to_pylist()
                    here = [place for place, name in enumerate(names) if name in items]
                    if here:
                        whole = file.read_row_group(group, list(columns))
                        if table in LIKELIHOODS:
                            whole = checked(path, whole)
                        for place in here:
                            yield from whole.slice(place, 1).to_pylist()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise ResultsError(f"{path}: cannot be read ({error}); {advice}") from error

    def _load(self, table: str) -> list[Row]:
        if table in LIKELIHOODS:
            found = self.likelihoods(table)
            return [] if found is None else _plain(found.to_pylist())
        columns = None
        if table != "checkpoints":
            schema = {**PUBLISHED, **ANALYSIS}[table]
            # Tables of before may lack a column that was added since.
            there = self.results.columns(table)
            columns = [name for name in schema.names if name in there and name not in _UNREAD]
        return _plain(self.results.arrow(table, columns).to_pylist())


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
