"""Columns that many tables share, and the making of a table by its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ptharness.lineage import Checkpoint, Lineage


def clean(text: str | None) -> str | None:
    """Text that Arrow can hold: half surrogate pairs, which UTF-8 has not, become `?`."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def tag_values(lineage: Lineage, checkpoint: Checkpoint) -> dict[str, Any]:
    """One value for each column of `schema.TAGS`."""
    stage = checkpoint.stage
    return {
        "lineage": lineage.name,
        "checkpoint": checkpoint.name,
        "stage": lineage.depths[checkpoint.name],
        "step": checkpoint.step,
        "parents": list(checkpoint.parents),
        "method": clean(stage.method) if stage else None,
        "interface": stage.interface.value if stage else None,
        "provenance": stage.provenance.value if stage else None,
        "role": [role.value for role in stage.roles] if stage else [],
    }


def make_table(
    schema: pa.Schema, rows: int, columns: Mapping[str, Any], constants: Mapping[str, Any]
) -> pa.Table:
    """A table with exactly `schema`: arrays from `columns`, else one value for all rows.

    A column in neither is null throughout, and has its type all the same.
    """
    if rows == 0:
        return schema.empty_table()
    arrays = []
    for field in schema:
        if field.name in columns:
            array = columns[field.name]
            if not isinstance(array, pa.Array | pa.ChunkedArray):
                array = pa.array(array, field.type)
            arrays.append(array.cast(field.type))
        else:
            arrays.append(pa.repeat(pa.scalar(constants.get(field.name), field.type), rows))
    return pa.Table.from_arrays(arrays, schema=schema)
