"""What a user opens: the published tables of one lineage, as pandas or Arrow.

results = Results("results/arith")
results.metrics                      # a pandas DataFrame
results.read("samples", columns=["checkpoint", "item", "correct"],
             filters=[("task", "==", "gsm8k")])
results.dataset("samples")           # a pyarrow dataset, for what does not fit in memory
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.errors import ResultsError, near_misses
from ptharness.schema import ANALYSIS, LIKELIHOODS, PUBLISHED, SAMPLES, SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

TABLES = (*PUBLISHED, *ANALYSIS, *LIKELIHOODS)

Filters: TypeAlias = "Sequence[Any] | pc.Expression"
"""Conditions as pandas and pyarrow take them: `[("task", "==", "gsm8k"), ("sample", "<", 4)]`
for all of them, a list of such lists for any of those; or a pyarrow expression."""


class Results:
    """The results folder of one lineage. Tables are read when they are asked for.

    Raises `ResultsError` where `path` is not such a folder, or a newer ptharness wrote it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.run = self._read_run()

    def __repr__(self) -> str:
        tables = [name for name in TABLES if self._place(name).exists()]
        count = len(self.run.get("failures") or ())
        failures = f"{count or 'no'} failure{'s' * (count != 1)}"
        lines = [
            f"Results({str(self.path)!r})",
            f"  lineage {self.run.get('lineage', '?')}, {len(self._checkpoint_names)} checkpoints: "
            + " ".join(self._checkpoint_names),
            f"  tables: {', '.join(f'.{name}' for name in tables)}",
            f"  finished {self.run.get('finished')}, {failures}",
        ]
        return "\n".join(lines)

    @cached_property
    def checkpoints(self) -> pd.DataFrame:
        """One row per checkpoint, parents first."""
        return self.read("checkpoints")

    @cached_property
    def documents(self) -> pd.DataFrame:
        """One row per task x item: prompt, gold, cluster."""
        return self.read("documents")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per completion, or per item of a choice task."""
        return self.read("samples")

    @cached_property
    def items(self) -> pd.DataFrame:
        """One row per checkpoint x task x item: n samples, c correct."""
        return self.read("items")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row per checkpoint x task x metric x filter, with intervals."""
        return self.read("metrics")

    @cached_property
    def edges(self) -> pd.DataFrame:
        """One row per source x target x task x quantity: what each stage did."""
        return self.read("edges")

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row per source x target x task: declared and measured role."""
        return self.read("verdicts")

    @cached_property
    def measures(self) -> pd.DataFrame:
        """One row per checkpoint x task x quantity: pass@k curves, votes, answers, cost."""
        return self.read("measures")

    @cached_property
    def retention(self) -> pd.DataFrame:
        """One row per stage x later checkpoint x task: how much of its gain is left."""
        return self.read("retention")

    @cached_property
    def turnover(self) -> pd.DataFrame:
        """One row per two checkpoints x task x quantity: items gained, lost, kept."""
        return self.read("turnover")

    @cached_property
    def sensitivity(self) -> pd.DataFrame:
        """The cells of `edges` at other support budgets."""
        return self.read("sensitivity")

    @cached_property
    def certified(self) -> pd.DataFrame:
        """One row per item that certainly became reachable, or no longer is."""
        return self.read("certified")

    @cached_property
    def provenance(self) -> pd.DataFrame:
        """One row per stage with trajectories: how likely they are under its parent."""
        return self.read("provenance")

    @cached_property
    def distances(self) -> pd.DataFrame:
        """One row per ordered pair of checkpoints x task: KL divergence on the source's samples."""
        return self.read("distances")

    @cached_property
    def token_likelihoods(self) -> pd.DataFrame:
        """One row per sample of a child that its parent judged, token by token."""
        return self.read("token_likelihoods")

    @cached_property
    def analysis(self) -> dict[str, Any]:
        """How the analysis was made: k, level, false discovery rate, families; empty if it was
        not."""
        try:
            content = json.loads((self.path / "analysis.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def read(
        self, table: str, columns: Sequence[str] | None = None, filters: Filters | None = None
    ) -> pd.DataFrame:
        """A table as pandas; tags become categories. See `Filters` for the conditions."""
        frame: pd.DataFrame = self.arrow(table, columns, filters).to_pandas()
        return frame

    def arrow(
        self, table: str, columns: Sequence[str] | None = None, filters: Filters | None = None
    ) -> pa.Table:
        """A table as Arrow. Raises `ResultsError` for an unknown table or column."""
        schema = self._schema(table)
        self._check_columns(table, schema, columns or ())
        chosen = None if columns is None else list(columns)
        try:
            self._check_columns(table, schema, _filtered_columns(filters))
            if table == "samples" or filters is not None:
                found = self.dataset(table).to_table(columns=chosen, filter=_expression(filters))
            else:
                # Without pyarrow.dataset, whose import takes pandas along.
                found = (
                    pq.ParquetFile(self._place(table))
                    .read(columns=chosen)
                    .select(schema.names if chosen is None else chosen)
                )
        except (OSError, pa.ArrowException, TypeError, ValueError) as error:
            advice = remedy(table, self.path)
            if filters is not None:
                advice = f"check the filters, or {advice}"
            raise ResultsError(
                f"{self._place(table)}: cannot be read: {error}; {advice}"
            ) from error
        # Tags of several files: one dictionary, so that pandas has one set of categories.
        return found.unify_dictionaries()

    def columns(self, table: str) -> list[str]:
        """The columns that a table has. Raises `ResultsError` for an unknown table."""
        names: list[str] = self._schema(table).names
        return names

    def dataset(self, table: str) -> ds.Dataset:
        """A table as a pyarrow dataset, which reads piecewise. Raises `ResultsError`."""
        import pyarrow.dataset as ds

        schema = self._schema(table)
        if not (files := self._files(table)):
            return ds.dataset(schema.empty_table())
        paths = [str(file) for file in files]
        return ds.dataset(paths, schema=schema, format="parquet", partitioning=None)

    def _schema(self, table: str) -> pa.Schema:
        """A table's schema as its first file has it; `ResultsError` if there is no such table."""
        if table not in TABLES:
            raise ResultsError(f"{self.path}: no table {table!r}{near_misses(table, TABLES)}")
        if files := self._files(table):
            try:
                schema = pq.read_schema(files[0])
            except (OSError, pa.ArrowException) as error:
                raise ResultsError(
                    f"{files[0]}: cannot be read ({error}); {remedy(table, self.path)}"
                ) from error
            version = (schema.metadata or {}).get(b"schema_version", b"0").decode()
            _check_version(files[0], version)
            return schema
        if table == "samples":
            return SAMPLES
        if table in ANALYSIS:
            raise ResultsError(
                f"{self.path}: no table {table!r}: the analysis has not been run on these results; "
                f"`ptharness analyze {self.path}` does it"
            )
        raise ResultsError(f"{self._place(table)}: missing; {remedy(table, self.path)}")

    def _files(self, table: str) -> list[Path]:
        place = self._place(table)
        if table != "samples":
            return [place] if place.is_file() else []
        # In the lineage's order, which the categories of pandas then have too.
        order = {name: index for index, name in enumerate(self._checkpoint_names)}
        return sorted(
            place.glob("*/*.parquet"),
            key=lambda file: (order.get(file.parent.name, len(order)), file),
        )

    def _place(self, table: str) -> Path:
        return self.path / (table if table == "samples" else f"{table}.parquet")

    @cached_property
    def _checkpoint_names(self) -> list[str]:
        names: list[str] = self.arrow("checkpoints", ["checkpoint"])["checkpoint"].to_pylist()
        return names

    def _read_run(self) -> dict[str, Any]:
        path = self.path / "run.json"
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise ResultsError(self._not_results()) from None
        except (OSError, ValueError) as error:
            raise ResultsError(
                f"{path}: cannot be read ({error}); delete it and run the evaluation again"
            ) from error
        if not isinstance(run, dict):
            raise ResultsError(
                f"{path}: is not a JSON object; was another program's file put here?"
            )
        _check_version(path, run.get("schema_version", "0"))
        return run

    def _not_results(self) -> str:
        if not self.path.exists():
            return f"{self.path}: no such folder; give the results folder of one lineage"
        below = sorted(str(file.parent) for file in self.path.glob("*/run.json"))
        if below:
            return f"{self.path}: holds the results of several runs; open one: {', '.join(below)}"
        return (
            f"{self.path}: not a results folder (no run.json in it); `ptharness run` writes one "
            "for each lineage"
        )

    def _check_columns(self, table: str, schema: pa.Schema, columns: Iterable[str]) -> None:
        for column in columns:
            if column not in schema.names:
                raise ResultsError(
                    f"{self.path}: table {table!r} has no column {column!r}"
                    f"{near_misses(column, schema.names)}"
                )


def _check_version(path: Path, version: object) -> None:
    if str(version).isdecimal() and int(str(version)) <= int(SCHEMA_VERSION):
        return
    raise ResultsError(
        f"{path}: is of version {version!r} and this ptharness reads up to {SCHEMA_VERSION}; "
        "upgrade ptharness"
    )


def remedy(table: str, folder: Path) -> str:
    """What writes a table of a results folder that is missing or damaged."""
    if table in ANALYSIS:
        return f"`ptharness analyze {folder}` writes it again"
    if table in LIKELIHOODS:
        command = "provenance" if table == "provenance" else "distances"
        return f"`ptharness {command} MANIFEST` writes it again"
    return "run the evaluation again, which writes what is missing or damaged"


def checked(path: Path, table: pa.Table) -> pa.Table:
    """A table of likelihoods with the columns of its schema, and no others.

    Raises `ResultsError` where it lacks one, or what it holds is of another type: a command of
    its own writes it, so that it may be older than the rest of the folder.
    """
    schema = LIKELIHOODS[path.stem]
    try:
        if lacking := [name for name in schema.names if name not in table.column_names]:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            raise ValueError(f"it lacks the columns {', '.join(lacking[:3])}{more}")
        table.validate(full=True)
        return table.select(schema.names).cast(schema)
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise ResultsError(
            f"{path}: is not as this ptharness writes it ({error}); "
            f"{remedy(path.stem, path.parent)}"
        ) from error


def _filtered_columns(filters: Filters | None) -> list[str]:
    """The columns that conditions of the list form name."""
    if filters is None or _is_expression(filters):
        return []
    names: list[str] = []
    for entry in filters:
        if isinstance(entry, tuple):
            names.append(str(entry[0]) if entry else "")
        elif isinstance(entry, list):
            names += _filtered_columns(entry)
    return names


def _expression(filters: Filters | None) -> pc.Expression | None:
    if filters is None or _is_expression(filters):
        return filters
    return pq.filters_to_expression(list(filters)) if len(filters) else None


def _is_expression(filters: Filters) -> bool:
    import pyarrow.compute as pc

    return isinstance(filters, pc.Expression)
