"""The published tables: a contract with users' notebooks; add columns freely, rename none."""

from __future__ import annotations

import pyarrow as pa

from ptharness.schema.columns import (
    CLUSTER,
    ITEM,
    LINEAGE,
    METRIC_VALUES,
    NAMES,
    TAG,
    TAGS,
    TASK,
    field,
)

CHECKPOINTS = pa.schema(
    [
        *TAGS,
        field("teacher", pa.string(), "Teacher of a distillation."),
        field("path", pa.string(), "Where the manifest says that it is."),
        field("replicate", pa.int32(), "Number of the independent repetition.", nullable=False),
        field("fingerprint", pa.string(), "Digest of the weights (and of the adapter)."),
        field(
            "architecture_fingerprint",
            pa.string(),
            "Digest of what of config.json decides what the weights compute.",
        ),
        field("parameters", pa.int64(), "Number of stored weights."),
        field("tokenizer_fingerprint", pa.string(), "Digest of tokenizer and chat template."),
        field("evidence", pa.string(), "What in the folder speaks for the declared method."),
        field("declaration", pa.string(), "Why provenance and role are declared so."),
    ]
)

DOCUMENTS = pa.schema(
    [
        LINEAGE,
        TASK,
        ITEM,
        CLUSTER,
        field("prompt", pa.string(), "As the first checkpoint that used it was asked."),
        field("gold", pa.string(), "The right answer as the task states it."),
        field("metadata", pa.string(), "Further fields of the document, as JSON."),
    ]
)

SAMPLES = pa.schema(
    [
        *TAGS,
        TASK,
        ITEM,
        CLUSTER,
        field(
            "sample",
            pa.int32(),
            "From 0; null where a filter took all samples of the item together.",
        ),
        field("prompt_digest", pa.string(), "Digest of the prompt's token ids."),
        field("completion", pa.string(), "Text, cut at the stop strings; null for choices."),
        field(
            "finish_reason",
            TAG,
            "stop; length where max_tokens or the context cut it off; too_long where the prompt "
            "did not fit the context and was not asked; null for choices that were.",
        ),
        field(
            "prompt_tokens", pa.int32(), "Tokens of the prompt; of the first choice's, for choices."
        ),
        field("completion_tokens", pa.int32(), "Tokens of the completion, its end included."),
        field(
            "logprob_nats",
            pa.float64(),
            "Log-probability of the completion, or of the text of a rolling task, in nats.",
        ),
        field("answer", pa.string(), "What the primary filter extracted, or the choice made."),
        field("score", pa.float64(), "Value of the primary metric."),
        field("correct", pa.bool_(), "Null where the primary metric is not a yes/no."),
        field("scores", METRIC_VALUES, "Every metric and filter with its value."),
        field(
            "choice_logprobs_nats",
            pa.list_(pa.field("item", pa.float64())),
            "Log-likelihood of each choice, in nats; null for completions and what was not asked.",
        ),
        field("seed", pa.int64(), "Seed of the request that the sample belongs to."),
        field("protocol", TAG, "Key of the protocol in run.json."),
        field("unit", TAG, "Key of the generation unit that holds the tokens."),
        field("error", pa.string(), "Why the scorer gave up on this sample; null if it did not."),
    ]
)

ITEMS = pa.schema(
    [
        *TAGS,
        TASK,
        ITEM,
        CLUSTER,
        field("n", pa.int32(), "Samples with a yes/no score.", nullable=False),
        field("c", pa.int32(), "Correct ones among them.", nullable=False),
        field("mean_score", pa.float64(), "Mean of the primary metric over the samples."),
        field("completion_tokens", pa.int64(), "Sum over the samples, in tokens."),
        field("truncated", pa.int32(), "Samples that max_tokens cut off."),
    ]
)

METRICS = pa.schema(
    [
        *TAGS,
        TASK,
        field(
            "metric",
            TAG,
            "lm-eval's name, or pass@k, truncation_rate, too_long_rate (if prompts did not fit).",
            nullable=False,
        ),
        field("filter", TAG, "Name of the filter pipeline; none if there is none.", nullable=False),
        field("value", pa.float64(), "At one sample lm-eval's; else the mean over samples."),
        field("stderr", pa.float64(), "Standard error, clustered where the task has clusters."),
        field("ci_low", pa.float64(), "Lower end of the 95 % confidence interval."),
        field("ci_high", pa.float64(), "Upper end of the 95 % confidence interval."),
        field("ci_method", TAG, "normal, rule_of_three (all items alike), normal_unclustered."),
        field("n", pa.int32(), "Items.", nullable=False),
        field("samples", pa.int32(), "Samples per item.", nullable=False),
        field(
            "is_primary", pa.bool_(), "Whether score and correct show this metric.", nullable=False
        ),
        field(
            "tasks",
            NAMES,
            "Where `task` names a group: its tasks, of which the row is lm-eval's aggregate. Null "
            "for a task.",
        ),
    ]
)

PUBLISHED = {
    "checkpoints": CHECKPOINTS,
    "documents": DOCUMENTS,
    "samples": SAMPLES,
    "items": ITEMS,
    "metrics": METRICS,
}
"""Published tables under their names; `samples` is a folder of files, the others are files."""
