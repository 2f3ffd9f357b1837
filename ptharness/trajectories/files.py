"""Training sets on disk, row by row: JSON lines, Parquet, or a folder of `datasets`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ptharness.errors import TrajectoryError
from ptharness.fingerprint import file_digest, files_digest
from ptharness.regular_files import open_regular
from ptharness.trajectories.rows import MOST_NUMBERS, OURS

LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".json")
LONGEST_LINE = 16 * 1024 * 1024
BATCH_ROWS = 1000
BUFFER_BYTES = 1024 * 1024


def read_rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Every row of a training set, and where it stands: `sft.jsonl line 3`.

    Rows are read as they are asked for. Raises `TrajectoryError`, naming file and row, where
    something cannot be read.
    """
    name = path.name.lower()
    try:
        _refuse_others(_files(path))
        if path.is_dir():
            for file in _arrow_files(path):
                yield from _arrow(file)
        elif name.endswith(LINES):
            yield from _lines(path)
        elif name.endswith(".parquet"):
            yield from _parquet(path)
        elif name.endswith(".arrow"):
            yield from _arrow(path)
        else:
            raise TrajectoryError(
                f"{path}: of no known kind; legal are {', '.join(LINES)}, .parquet, .arrow, and a "
                "folder that `datasets` saved"
            )
    except (OSError, EOFError, pa.ArrowException) as error:
        raise TrajectoryError(f"{path}: cannot be read: {error}") from error


def content_digest(path: Path) -> str:
    """A digest of a training set, remembered until its files change.

    Raises `TrajectoryError` where it cannot be read.
    """
    try:
        files = _files(path)
        _refuse_others(files)
        return files_digest(files) if path.is_dir() else file_digest(path)
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read: {error}") from error


def _files(path: Path) -> list[Path]:
    return _arrow_files(path) if path.is_dir() else [path]


def _refuse_others(files: list[Path]) -> None:
    """Refuse what is no regular file: reading a pipe would wait for its writer."""
    for file in files:
        try:
            open_regular(file).close()
        except OSError as error:
            why = error.strerror or error
            raise TrajectoryError(f"{file}: cannot be read: {why}") from error


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    # Decompressed as it is read, and never more than a line: a small file may be a large one.
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with cast(TextIO, opened(path, "rt", encoding="utf-8-sig", errors="strict")) as file:
        number = 0
        while True:
            number += 1
            where = f"{path} line {number}"
            try:
                line = file.readline(LONGEST_LINE)
            except UnicodeDecodeError as error:
                raise TrajectoryError(f"{where}: is not UTF-8: {error.reason}") from error
            except (OSError, EOFError, zlib.error) as error:
                raise TrajectoryError(f"{where}: cannot be read: {error}") from error
            if not line:
                return
            if len(line) >= LONGEST_LINE:
                raise TrajectoryError(f"{where}: is longer than {LONGEST_LINE:,} characters")
            if line.strip():
                yield _parsed(line, where), where


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise TrajectoryError(
            f"{where}: is not JSON ({error.msg} at column {error.colno}); each line is one JSON "
            "object"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TrajectoryError(f"{where}: is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise TrajectoryError(f"{where}: is a {type(row).__name__}; each line is one JSON object")
    return row


def _arrow_files(path: Path) -> list[Path]:
    """Those that `Dataset.save_to_disk` wrote; of a `DatasetDict` those of its split `train`."""
    files = sorted(path.glob("*.arrow"))
    train = path / "train"
    if not files and train.is_dir():
        files = sorted(train.glob("*.arrow"))
    if not files:
        raise TrajectoryError(
            f"{path}: holds no *.arrow file, nor a folder `train` with one; give a folder that "
            "`save_to_disk` wrote, or a .jsonl or .parquet file"
        )
    return files


def _parquet(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    # As it is read by default, a whole row group lies in memory, which may be the whole file.
    file = pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
    schema = file.schema_arrow
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    chunks = [group.column(place) for group in groups for place in range(group.num_columns)]

    def numbers(place: int) -> int:
        inside = f"{schema.names[place]}."
        return sum(c.num_values for c in chunks if c.path_in_schema.startswith(inside))

    places = _worth_reading(schema, file.metadata.num_rows, numbers)
    names = [schema.names[place] for place in places]
    yield from _batches(file.iter_batches(BATCH_ROWS, columns=names), path)


def _arrow(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:
            source.seek(0)
            file = pa.ipc.open_file(source)
            batches = (file.get_batch(i) for i in range(file.num_record_batches))
            yield from _batches(batches, path)
        else:
            yield from _batches(iter(reader), path)


def _batches(batches: Iterator[pa.RecordBatch], path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    number = 0
    for whole in batches:
        batch = whole.select(_worth_reading(whole.schema, whole.num_rows, partial(_numbers, whole)))
        for start in range(0, batch.num_rows, BATCH_ROWS):
            for row in _rows(batch.slice(start, BATCH_ROWS), path, number):
                number += 1
                yield row, f"{path} row {number}"


def _numbers(batch: pa.RecordBatch, place: int) -> int:
    return pc.sum(pc.list_value_length(batch.column(place))).as_py() or 0


def _rows(batch: pa.RecordBatch, path: Path, before: int) -> list[dict[str, Any]]:
    """The rows of a batch, which `before` others precede in their file."""
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError) as error:
        # Text that is not UTF-8, a time that no calendar has. Only one by one they tell which.
        if batch.num_rows == 1:
            where = f"{path} row {before + 1}"
            raise TrajectoryError(f"{where}: cannot be read: {error}") from error
        return [
            row
            for place in range(batch.num_rows)
            for row in _rows(batch.slice(place, 1), path, before + place)
        ]


def _worth_reading(schema: pa.Schema, rows: int, numbers: Callable[[int], int]) -> list[int]:
    """Places of the columns that are read: all but long lists of numbers.

    Token ids and log-probabilities of rollouts take far longer to read than their text. `numbers`
    gives how many there are in a column of lists, of all its `rows`.
    """
    return [
        place
        for place, field in enumerate(schema)
        if field.name in OURS
        or not _is_numbers(field.type)
        or numbers(place) <= MOST_NUMBERS * rows
    ]


def _is_numbers(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in lists):
        return False
    inner = kind.value_type
    return bool(pa.types.is_integer(inner) or pa.types.is_floating(inner))
