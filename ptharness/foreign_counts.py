"""Counts from elsewhere: a CSV of model, item, n, c and perhaps cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptharness.analysis.counts import TaskCounts
from ptharness.errors import ResultsError, near_misses

if TYPE_CHECKING:
    import pyarrow as pa

NEEDED = ("model", "item", "n", "c")


def read_counts(path: Path) -> TaskCounts:
    """A CSV with a row per model and item: n samples, c correct ones.

    A further column `cluster` says which items belong together; other columns are ignored.
    Raises `ResultsError` naming the line for what are no counts.
    """
    table = _read(path)
    n, c = (_whole_numbers(path, table, name) for name in ("n", "c"))
    for place in np.flatnonzero((n < 1) | (c < 0) | (c > n))[:1]:
        raise ResultsError(
            f"{path}: line {place + 2}: n is {n[place]} and c is {c[place]}; each row needs n >= 1 "
            "samples and 0 <= c <= n correct ones"
        )
    model, item = (table[name].combine_chunks().dictionary_encode() for name in ("model", "item"))
    models, items = (list(map(str, column.dictionary.to_pylist())) for column in (model, item))
    row, column = model.indices.to_numpy(), item.indices.to_numpy()
    _check_unique(path, row, column, models, items)
    dense_n, dense_c = np.zeros((2, len(models), len(items)), np.int64)
    dense_n[row, column], dense_c[row, column] = n, c
    clusters = np.arange(len(items))
    if "cluster" in table.column_names:
        codes = table["cluster"].combine_chunks().dictionary_encode().indices.to_numpy()
        clusters = np.zeros(len(items), np.int64)
        clusters[column] = codes
    return TaskCounts(
        path.stem,
        tuple(models),
        tuple(items),
        clusters,
        dense_n,
        dense_c,
        np.full(dense_n.shape, np.nan),
        # Their tokens are not known; what is counted was attempted.
        dense_n,
    )


def find_model(path: Path, counts: TaskCounts, name: str, option: str) -> str:
    """The model of that name, or the only one whose name contains it. Raises `ResultsError`."""
    if name in counts.checkpoints:
        return name
    found = [model for model in counts.checkpoints if name in model]
    if len(found) == 1:
        return found[0]
    if found:
        raise ResultsError(
            f"{path}: {option} {name!r} is part of several models: {', '.join(sorted(found))}"
        )
    raise ResultsError(
        f"{path}: {option}: no model {name!r}{near_misses(name, counts.checkpoints)}"
    )


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    texts = {"model": pa.string(), "item": pa.string(), "cluster": pa.string()}
    try:
        table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=texts))
    except (OSError, pa.ArrowException) as error:
        raise ResultsError(f"{path}: cannot be read as CSV: {error}") from error
    names = table.column_names
    if missing := [name for name in NEEDED if name not in names]:
        raise ResultsError(
            f"{path}: line 1: no column {missing[0]!r}{near_misses(missing[0], names)}; counts "
            "need the columns model, item, n, c, and may have cluster"
        )
    if not table.num_rows:
        raise ResultsError(f"{path}: has no rows; counts need a row per model and item")
    return table


def _whole_numbers(path: Path, table: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    import pyarrow as pa

    try:
        numbers = table[name].cast(pa.int64())
        if numbers.null_count:
            raise ValueError("nulls")
        return np.asarray(numbers.to_numpy(), dtype=np.int64)
    except (pa.ArrowException, ValueError, TypeError):
        values = table[name].to_pylist()
        place = next((i for i, value in enumerate(values) if not _is_whole(value)), 0)
        raise ResultsError(
            f"{path}: line {place + 2}: {name} is {values[place]!r}, not a whole number"
        ) from None


def _is_whole(value: object) -> bool:
    try:
        return float(str(value)).is_integer()
    except ValueError:
        return False


def _check_unique(path: Path, row: Any, column: Any, models: list[str], items: list[str]) -> None:
    place = row.astype(np.int64) * len(items) + column
    _, first = np.unique(place, return_index=True)
    again = np.setdiff1d(np.arange(len(place)), first)
    if len(again):
        line = int(again[0])
        raise ResultsError(
            f"{path}: line {line + 2}: model {models[row[line]]!r} has item "
            f"{items[column[line]]!r} a second time"
        )
