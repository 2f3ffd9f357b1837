"""What the store holds."""

from __future__ import annotations

import pyarrow as pa

from ptharness.schema.columns import METRIC_VALUES, RAW_VALUES

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
        pa.field("distributions_nats", pa.large_list(pa.float32())),
    ]
)
"""One row per completion, or per scored continuation (`greedy` set, no text); `row` counts
the prompt set's rows within the unit. `distributions_nats`: tokens x vocabulary, row by row, where
they were asked for."""

SCORES = pa.schema(
    [
        pa.field("document", pa.int32()),
        pa.field("sample", pa.int32()),
        pa.field("answer", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("correct", pa.bool_()),
        pa.field("scores", METRIC_VALUES),
        pa.field("raw", RAW_VALUES),
        pa.field("error", pa.string()),
    ]
)
"""One row per document and sample, in that order; `sample` is null where a filter took all
samples together. `error` says why a scorer gave up on it."""

AGGREGATES = pa.schema(
    [
        pa.field("metric", pa.string()),
        pa.field("filter", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("stderr", pa.float64()),
        pa.field("samples", pa.int32()),
    ]
)
