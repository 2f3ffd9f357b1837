"""Published files: their names, the state they are of, and their replacement."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.fingerprint import digest
from ptharness.schema import SCHEMA_VERSION
from ptharness.store import write_parquet

_LONGEST_NAME = 120
_PANDAS_TYPES = {pa.int32(): "Int32", pa.int64(): "Int64", pa.bool_(): "boolean"}


def file_name(name: str) -> str:
    """A name as one part of a path, on every system, that readers of folders do not skip.

    Letters, digits, `.`, `-` and `_` stay, others are percent-encoded, and so is a leading `.`
    or `_`, since Arrow takes such files as hidden.

    >>> file_name("arabicmmlu_(general)")
    'arabicmmlu_%28general%29'
    """
    encoded = quote(name, safe="", errors="surrogatepass").replace("~", "%7E")
    if encoded[:1] in (".", "_"):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded) > _LONGEST_NAME:
        encoded = f"{encoded[:_LONGEST_NAME]}-{digest(name)[:8]}"
    return encoded


def samples_file(checkpoint: str, task: str) -> str:
    """Where the samples of a checkpoint x task lie, relative to the lineage's folder."""
    return f"samples/{file_name(checkpoint)}/{file_name(task)}.parquet"


def state_of(path: Path) -> str | None:
    """The state that a published file says it is of; None where there is no readable file."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return str(metadata[b"state"].decode())
    except (OSError, pa.ArrowException, KeyError, UnicodeDecodeError):
        return None


def write_table(path: Path, table: pa.Table, state: str) -> None:
    """Replace a published file in one step. Raises `StoreError`."""
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "state": state,
        "pandas": json.dumps(_for_pandas(table.schema)),
    }
    write_parquet(path, table.replace_schema_metadata(metadata), replace=True)


def _for_pandas(schema: pa.Schema) -> dict[str, Any]:
    """The note that makes pandas read integers and booleans that may be null as its own types.

    Otherwise their type would depend on whether a null is among them, and a seed of 63 bits
    would become a float.
    """
    columns = [
        {
            "name": field.name,
            "field_name": field.name,
            "pandas_type": str(field.type),
            "numpy_type": _PANDAS_TYPES[field.type],
            "metadata": None,
        }
        for field in schema
        if field.nullable and field.type in _PANDAS_TYPES
    ]
    return {"index_columns": [], "column_indexes": [], "columns": columns, "pandas_version": "2.2"}


def remove_others(folder: Path, wanted: Iterable[str]) -> list[str]:
    """Delete samples files that are not among `wanted`; their names, relative to `folder`."""
    keep = set(wanted)
    removed = []
    for path in sorted((folder / "samples").glob("*/*.parquet")):
        name = path.relative_to(folder).as_posix()
        if name not in keep:
            path.unlink(missing_ok=True)
            removed.append(name)
            with suppress(OSError):
                # Another task's file may still lie there.
                path.parent.rmdir()
    return removed
