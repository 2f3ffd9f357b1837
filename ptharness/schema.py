"""Every Arrow schema: the only place where columns are named.

A field's metadata says what it means and in which unit; docs/reference/tables.md is
generated from it.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = "1"

_TAG = pa.dictionary(pa.int32(), pa.string())
_NAMES = pa.list_(pa.field("item", pa.string()))


def _field(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": meaning})


# --- units: what the store holds -------------------------------------------------------------

PROMPTS = pa.schema(
    [
        pa.field("document", pa.int32()),
        pa.field("request", pa.int32()),
        pa.field("item", pa.string()),
        pa.field("cluster", pa.string()),
        pa.field("document_digest", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("continuation", pa.string()),
        pa.field("prompt_token_ids", pa.list_(pa.int32())),
        pa.field("continuation_token_ids", pa.list_(pa.int32())),
        pa.field("gold", pa.string()),
        pa.field("metadata", pa.string()),
    ]
)
"""One row per request, in document order; `request` counts within the document (a choice)."""

GENERATIONS = pa.schema(
    [
        pa.field("row", pa.int32()),
        pa.field("sample", pa.int32()),
        pa.field("token_ids", pa.list_(pa.int32())),
        pa.field("token_logprobs_nats", pa.list_(pa.float32())),
        pa.field("text", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("greedy", pa.bool_()),
        pa.field("seed", pa.int64()),
    ]
)
"""One row per completion, or per scored continuation (`greedy` set, no text); `row` counts
the prompt set's rows within the unit."""
