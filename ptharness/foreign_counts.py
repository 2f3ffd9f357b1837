"""Counts from elsewhere: a CSV of model, item, n, c and perhaps cluster."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptharness.analysis.counts import TaskCounts
from ptharness.analysis.decomposition import MOST_SAMPLES
from ptharness.analysis.resampling import Codes
from ptharness.errors import ResultsError, near_misses

if TYPE_CHECKING:
    import pyarrow as pa

NEEDED = ("model", "item", "n", "c")

MOST_PLACES = 50_000_000
"""Models x items held at once: 1.6 GB."""


def read_counts(path: Path) -> TaskCounts:
    """A CSV with a row per model and item: n samples, c correct ones.

    A further column `cluster` says which items belong together, where it is not empty; other
    columns are ignored. Raises `ResultsError` naming the line for what are no counts.
    """
    table = _read(path)
    n, c = (_whole_numbers(path, table, name) for name in ("n", "c"))
    for place in np.flatnonzero((n < 1) | (c < 0) | (c > n) | (n > MOST_SAMPLES))[:1]:
        raise ResultsError(
            f"{path}: line {_line(path, place)}: n is {n[place]} and c is {c[place]}; each row "
            f"needs 1 <= n <= {MOST_SAMPLES} samples and 0 <= c <= n correct ones"
        )
    model, item = (table[name].combine_chunks().dictionary_encode() for name in ("model", "item"))
    models, items = (list(map(str, column.dictionary.to_pylist())) for column in (model, item))
    row, column = model.indices.to_numpy(), item.indices.to_numpy()
    _check_unique(path, row, column, models, items)
    if len(models) * len(items) > MOST_PLACES:
        raise ResultsError(
            f"{path}: {len(models)} models with {len(items)} items in all are too many at once; "
            "leave only the rows of the models to compare"
        )
    dense_n, dense_c = np.zeros((2, len(models), len(items)), np.int64)
    dense_n[row, column], dense_c[row, column] = n, c
    clusters = np.arange(len(items))
    if "cluster" in table.column_names:
        clusters = _clusters(path, table["cluster"].to_pylist(), column, items)
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


def _clusters(path: Path, names: list[str], column: Codes, items: list[str]) -> Codes:
    """Each item's cluster; an item without one is its own."""
    of_item: dict[int, str] = {}
    for place, (item, name) in enumerate(zip(column.tolist(), names, strict=True)):
        if of_item.setdefault(item, name) != name:
            raise ResultsError(
                f"{path}: line {_line(path, place)}: item {items[item]!r} is of cluster {name!r}, "
                f"and of {of_item[item]!r} in a line before"
            )
    codes: dict[tuple[bool, str | int], int] = {}
    keys = [(bool(name := of_item[item]), name or item) for item in range(len(items))]
    return np.array([codes.setdefault(key, len(codes)) for key in keys], np.int64)


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
    from pyarrow import csv as arrow_csv

    texts = {"model": pa.string(), "item": pa.string(), "cluster": pa.string()}
    try:
        table = arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(
                delimiter="\t" if path.suffix.casefold() == ".tsv" else ","
            ),
            convert_options=arrow_csv.ConvertOptions(column_types=texts),
        )
    except (OSError, pa.ArrowException) as error:
        raise ResultsError(f"{path}: cannot be read as CSV: {error}") from error
    names = table.column_names
    if again := [name for name in (*NEEDED, "cluster") if names.count(name) > 1]:
        raise ResultsError(f"{path}: line 1: there are several columns {again[0]!r}")
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
            f"{path}: line {_line(path, place)}: {name} is {values[place]!r}, not a whole number "
            f"up to {MOST_SAMPLES}"
        ) from None


def _is_whole(value: object) -> bool:
    try:
        number = float(str(value))
        return number.is_integer() and abs(number) <= MOST_SAMPLES
    except ValueError:
        return False


def _check_unique(path: Path, row: Any, column: Any, models: list[str], items: list[str]) -> None:
    place = row.astype(np.int64) * len(items) + column
    _, first = np.unique(place, return_index=True)
    again = np.setdiff1d(np.arange(len(place)), first)
    if len(again):
        found = int(again[0])
        raise ResultsError(
            f"{path}: line {_line(path, found)}: model {models[row[found]]!r} has item "
            f"{items[column[found]]!r} a second time"
        )


def _line(path: Path, row: int) -> int:
    """The line on which a row below the header ends; blank lines are no rows."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        rows = (reader.line_num for cells in reader if cells)
        return next(islice(rows, row + 1, None), row + 2)
