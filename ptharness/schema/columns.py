"""Columns and types that several tables share; every one says what it means."""

from __future__ import annotations

import pyarrow as pa

TAG = pa.dictionary(pa.int32(), pa.string())
NAMES = pa.list_(pa.field("item", pa.string()))


def field(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": meaning})


METRIC_VALUES = pa.list_(
    pa.field(
        "item",
        pa.struct([("metric", pa.string()), ("filter", pa.string()), ("value", pa.float64())]),
    )
)
RAW_VALUES = pa.list_(
    pa.field(
        "item",
        pa.struct([("metric", pa.string()), ("filter", pa.string()), ("value", pa.string())]),
    )
)

LINEAGE = field("lineage", TAG, "Name of the lineage.", nullable=False)
TASK = field("task", TAG, "Name of the task.", nullable=False)
ITEM = field(
    "item",
    pa.string(),
    "Index in the evaluation split and a hash of the content.",
    nullable=False,
)
CLUSTER = field("cluster", pa.string(), "Items of one cluster are not independent.", nullable=False)

TAGS = (
    LINEAGE,
    field("checkpoint", TAG, "Name of the checkpoint in the manifest.", nullable=False),
    field(
        "stage", pa.int32(), "Stages on the longest way from a root; 0 for a root.", nullable=False
    ),
    field("step", pa.int64(), "Training step within the stage, where the manifest gives one."),
    field("parents", NAMES, "Checkpoints it was trained from; empty for a root.", nullable=False),
    field("method", TAG, "Kind of stage, as its method plugin names it; null for a root."),
    field("interface", TAG, "How the correction was attached to the trajectories."),
    field("provenance", TAG, "Declared: whose trajectories the stage learned from."),
    field("role", NAMES, "Declared: what the stage is meant to do.", nullable=False),
)

SCOPE = (
    field("scope", TAG, "What `task` names: task, tag, or pooled.", nullable=False),
    field(
        "task",
        TAG,
        "The task; the tag; or pooled, the mean over all tasks (macro).",
        nullable=False,
    ),
    field("tasks", pa.int32(), "Tasks that the row rests on.", nullable=False),
)

ESTIMATE = (
    field("k", pa.int32(), "Attempts; null where the quantity has none."),
    field("quantity", TAG, "What is estimated.", nullable=False),
    field(
        "estimate",
        pa.float64(),
        "In the quantity's unit, mostly fractions of 1; null where it is undefined.",
    ),
    field("stderr", pa.float64(), "Standard error, clustered."),
    field("ci_low", pa.float64(), "Lower end of the confidence interval."),
    field("ci_high", pa.float64(), "Upper end of the confidence interval."),
    field("ci_method", TAG, "How the interval was made."),
    field("level", pa.float64(), "Confidence of the interval; null where there is none."),
    field("p", pa.float64(), "Two-sided, against 0."),
    field("q", pa.float64(), "p adjusted over its family (Benjamini-Hochberg)."),
    field("items", pa.int32(), "Items that it rests on.", nullable=False),
    field("reason", pa.string(), "Why it is undefined, or what to know about it."),
)

PAIR = (
    field("source", TAG, "The checkpoint compared from.", nullable=False),
    field("target", TAG, "The checkpoint compared to.", nullable=False),
    field(
        "relation",
        TAG,
        "edge (parent to child), path (root to a later checkpoint), teacher (to its student), "
        "replicate (two runs of the same weights), pair (any two).",
        nullable=False,
    ),
)

COMPARABLE = field(
    "comparable",
    TAG,
    "same; native (each asked as it is meant to be used); no (refused, with the reason).",
    nullable=False,
)

NATS = pa.list_(pa.field("item", pa.float32()))
