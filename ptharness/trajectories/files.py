"""Training sets on disk, row by row: JSON lines, Parquet, or a folder of `datasets`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.errors import TrajectoryError
from ptharness.fingerprint import file_digest, files_digest

LINES = (".jsonl", ".jsonl.gz", ".ndjson", ".json")
LONGEST_LINE = 16 * 1024 * 1024
BATCH_ROWS = 1000


def read_rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Every row of a training set, and where it stands: `sft.jsonl line 3`.

    Rows are read as they are asked for. Raises `TrajectoryError`, naming file and row, where
    something cannot be read.
    """
    name = path.name.lower()
    try:
        if path.is_dir():
            yield from _folder(path)
        elif name.endswith(LINES):
            yield from _lines(path)
        elif name.endswith(".parquet"):
            yield from _batches(pq.ParquetFile(path).iter_batches(BATCH_ROWS), path)
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
        if path.is_dir():
            return files_digest(sorted(path.rglob("*.arrow")))
        return file_digest(path)
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read: {error}") from error


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


def _folder(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """What `Dataset.save_to_disk` wrote; of a `DatasetDict` its split `train`."""
    files = sorted(path.glob("*.arrow"))
    train = path / "train"
    if not files and train.is_dir():
        files = sorted(train.glob("*.arrow"))
    if not files:
        raise TrajectoryError(
            f"{path}: holds no *.arrow file, nor a folder `train` with one; give a folder that "
            "`save_to_disk` wrote, or a .jsonl or .parquet file"
        )
    for file in files:
        yield from _arrow(file)


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
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            for row in batch.slice(start, BATCH_ROWS).to_pylist():
                number += 1
                yield row, f"{path} row {number}"
