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
        pa.field("distributions_nats", pa.large_list(pa.float32())),
    ]
)
"""One row per completion, or per scored continuation (`greedy` set, no text); `row` counts
the prompt set's rows within the unit. `distributions_nats`: tokens x vocabulary, row by row, where
they were asked for."""

_METRIC_VALUES = pa.list_(
    pa.field(
        "item",
        pa.struct([("metric", pa.string()), ("filter", pa.string()), ("value", pa.float64())]),
    )
)
_RAW_VALUES = pa.list_(
    pa.field(
        "item",
        pa.struct([("metric", pa.string()), ("filter", pa.string()), ("value", pa.string())]),
    )
)

SCORES = pa.schema(
    [
        pa.field("document", pa.int32()),
        pa.field("sample", pa.int32()),
        pa.field("answer", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("correct", pa.bool_()),
        pa.field("scores", _METRIC_VALUES),
        pa.field("raw", _RAW_VALUES),
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

# --- published tables: a contract with users' notebooks; add columns freely, rename none -----

_LINEAGE = _field("lineage", _TAG, "Name of the lineage.", nullable=False)
_TASK = _field("task", _TAG, "Name of the task.", nullable=False)
_ITEM = _field(
    "item",
    pa.string(),
    "Index in the evaluation split and a hash of the content.",
    nullable=False,
)
_CLUSTER = _field(
    "cluster", pa.string(), "Items of one cluster are not independent.", nullable=False
)

TAGS = (
    _LINEAGE,
    _field("checkpoint", _TAG, "Name of the checkpoint in the manifest.", nullable=False),
    _field(
        "stage", pa.int32(), "Stages on the longest way from a root; 0 for a root.", nullable=False
    ),
    _field("step", pa.int64(), "Training step within the stage, where the manifest gives one."),
    _field("parents", _NAMES, "Checkpoints it was trained from; empty for a root.", nullable=False),
    _field("method", _TAG, "Kind of stage, as its method plugin names it; null for a root."),
    _field("interface", _TAG, "How the correction was attached to the trajectories."),
    _field("provenance", _TAG, "Declared: whose trajectories the stage learned from."),
    _field("role", _NAMES, "Declared: what the stage is meant to do.", nullable=False),
)

CHECKPOINTS = pa.schema(
    [
        *TAGS,
        _field("teacher", pa.string(), "Teacher of a distillation."),
        _field("path", pa.string(), "Where the manifest says that it is."),
        _field("replicate", pa.int32(), "Number of the independent repetition.", nullable=False),
        _field("fingerprint", pa.string(), "Digest of the weights (and of the adapter)."),
        _field("parameters", pa.int64(), "Number of stored weights."),
        _field("tokenizer_fingerprint", pa.string(), "Digest of tokenizer and chat template."),
        _field("evidence", pa.string(), "What in the folder speaks for the declared method."),
        _field("declaration", pa.string(), "Why provenance and role are declared so."),
    ]
)

DOCUMENTS = pa.schema(
    [
        _LINEAGE,
        _TASK,
        _ITEM,
        _CLUSTER,
        _field("prompt", pa.string(), "As the first checkpoint that used it was asked."),
        _field("gold", pa.string(), "The right answer as the task states it."),
        _field("metadata", pa.string(), "Further fields of the document, as JSON."),
    ]
)

SAMPLES = pa.schema(
    [
        *TAGS,
        _TASK,
        _ITEM,
        _CLUSTER,
        _field(
            "sample",
            pa.int32(),
            "From 0; null where a filter took all samples of the item together.",
        ),
        _field("prompt_digest", pa.string(), "Digest of the prompt's token ids."),
        _field("completion", pa.string(), "Text, cut at the stop strings; null for choices."),
        _field(
            "finish_reason",
            _TAG,
            "stop; length where max_tokens or the context cut it off; too_long where the prompt "
            "did not fit the context and was not asked; null for choices that were.",
        ),
        _field(
            "prompt_tokens", pa.int32(), "Tokens of the prompt; of the first choice's, for choices."
        ),
        _field("completion_tokens", pa.int32(), "Tokens of the completion, its end included."),
        _field(
            "logprob_nats",
            pa.float64(),
            "Log-probability of the completion, or of the text of a rolling task, in nats.",
        ),
        _field("answer", pa.string(), "What the primary filter extracted, or the choice made."),
        _field("score", pa.float64(), "Value of the primary metric."),
        _field("correct", pa.bool_(), "Null where the primary metric is not a yes/no."),
        _field("scores", _METRIC_VALUES, "Every metric and filter with its value."),
        _field(
            "choice_logprobs_nats",
            pa.list_(pa.field("item", pa.float64())),
            "Log-likelihood of each choice, in nats; null for completions and what was not asked.",
        ),
        _field("seed", pa.int64(), "Seed of the request that the sample belongs to."),
        _field("protocol", _TAG, "Key of the protocol in run.json."),
        _field("unit", _TAG, "Key of the generation unit that holds the tokens."),
        _field("error", pa.string(), "Why the scorer gave up on this sample; null if it did not."),
    ]
)

ITEMS = pa.schema(
    [
        *TAGS,
        _TASK,
        _ITEM,
        _CLUSTER,
        _field("n", pa.int32(), "Samples with a yes/no score.", nullable=False),
        _field("c", pa.int32(), "Correct ones among them.", nullable=False),
        _field("mean_score", pa.float64(), "Mean of the primary metric over the samples."),
        _field("completion_tokens", pa.int64(), "Sum over the samples, in tokens."),
        _field("truncated", pa.int32(), "Samples that max_tokens cut off."),
    ]
)

METRICS = pa.schema(
    [
        *TAGS,
        _TASK,
        _field(
            "metric",
            _TAG,
            "lm-eval's name, or pass@k, truncation_rate, too_long_rate (if prompts did not fit).",
            nullable=False,
        ),
        _field(
            "filter", _TAG, "Name of the filter pipeline; none if there is none.", nullable=False
        ),
        _field("value", pa.float64(), "At one sample lm-eval's; else the mean over samples."),
        _field("stderr", pa.float64(), "Standard error, clustered where the task has clusters."),
        _field("ci_low", pa.float64(), "Lower end of the 95 % confidence interval."),
        _field("ci_high", pa.float64(), "Upper end of the 95 % confidence interval."),
        _field(
            "ci_method", _TAG, "normal, rule_of_three (all items 0, or all 1), normal_unclustered."
        ),
        _field("n", pa.int32(), "Items.", nullable=False),
        _field("samples", pa.int32(), "Samples per item.", nullable=False),
        _field(
            "is_primary", pa.bool_(), "Whether score and correct show this metric.", nullable=False
        ),
        _field(
            "tasks",
            _NAMES,
            "Where `task` names a group: its tasks, of which the row is lm-eval's aggregate. Null "
            "for a task.",
        ),
    ]
)

# --- analysis tables: what the published ones say about stages --------------------------------

_SCOPE = (
    _field("scope", _TAG, "What `task` names: task, tag, or pooled.", nullable=False),
    _field(
        "task",
        _TAG,
        "The task; the tag; or pooled, the mean over all tasks (macro).",
        nullable=False,
    ),
    _field("tasks", pa.int32(), "Tasks that the row rests on.", nullable=False),
)

_ESTIMATE = (
    _field("k", pa.int32(), "Attempts; null where the quantity has none."),
    _field("quantity", _TAG, "What is estimated.", nullable=False),
    _field(
        "estimate",
        pa.float64(),
        "In the quantity's unit, mostly fractions of 1; null where it is undefined.",
    ),
    _field("stderr", pa.float64(), "Standard error, clustered."),
    _field("ci_low", pa.float64(), "Lower end of the confidence interval."),
    _field("ci_high", pa.float64(), "Upper end of the confidence interval."),
    _field("ci_method", _TAG, "How the interval was made."),
    _field("level", pa.float64(), "Confidence of the interval; null where there is none."),
    _field("p", pa.float64(), "Two-sided, against 0."),
    _field("q", pa.float64(), "p adjusted over its family (Benjamini-Hochberg)."),
    _field("items", pa.int32(), "Items that it rests on.", nullable=False),
    _field("reason", pa.string(), "Why it is undefined, or what to know about it."),
)

_PAIR = (
    _field("source", _TAG, "The checkpoint compared from.", nullable=False),
    _field("target", _TAG, "The checkpoint compared to.", nullable=False),
    _field(
        "relation",
        _TAG,
        "edge (parent to child), path (root to a later checkpoint), teacher (to its student), "
        "replicate (two runs of the same weights), pair (any two).",
        nullable=False,
    ),
)

_COMPARABLE = _field(
    "comparable",
    _TAG,
    "same; native (each asked as it is meant to be used); no (refused, with the reason).",
    nullable=False,
)

EDGES = pa.schema([*TAGS, *_PAIR, *_SCOPE, *_ESTIMATE, _COMPARABLE])
"""The tags are the target's. Also the schema of `sensitivity` and `turnover`."""

VERDICTS = pa.schema(
    [
        *TAGS,
        *_PAIR,
        *_SCOPE,
        _field("role_declared", _NAMES, "What the stage was meant to do.", nullable=False),
        _field(
            "role_measured",
            _TAG,
            "support_expansion, policy_reshaping, mixed, consolidation, none or undetermined: an "
            "answer-level proxy.",
            nullable=False,
        ),
        _field("attrition", pa.bool_(), "Whether what was reachable no longer is.", nullable=False),
        _field(
            "harmful_reshaping",
            pa.bool_(),
            "Whether the choice among what is reachable got worse.",
            nullable=False,
        ),
        _field("verdict", _TAG, "supported, contradicted or undetermined.", nullable=False),
        _COMPARABLE,
        _field("reason", pa.string(), "The numbers behind it, in a sentence.", nullable=False),
    ]
)

MEASURES = pa.schema([*TAGS, *_SCOPE, *_ESTIMATE])

RETENTION = pa.schema([*TAGS, *_PAIR, *_SCOPE, *_ESTIMATE])
"""source -> target is the stage whose gain is followed; the tags are those of the checkpoint at
which it is looked for."""

CERTIFIED = pa.schema(
    [
        *TAGS,
        *_PAIR,
        _TASK,
        _ITEM,
        _field("direction", _TAG, "newly_reachable or no_longer_reachable.", nullable=False),
        _field("k", pa.int32(), "Attempts within which reachable means.", nullable=False),
        _field("source_n", pa.int32(), "Samples of the source.", nullable=False),
        _field("source_c", pa.int32(), "Correct ones among them.", nullable=False),
        _field("target_n", pa.int32(), "Samples of the target.", nullable=False),
        _field("target_c", pa.int32(), "Correct ones among them.", nullable=False),
        _field("p", pa.float64(), "Of the intersection-union test.", nullable=False),
        _field("q", pa.float64(), "p adjusted over the items of the task.", nullable=False),
    ]
)

_NATS = pa.list_(pa.field("item", pa.float32()))

PROVENANCE = pa.schema(
    [
        *TAGS,
        _field("parent", _TAG, "Checkpoint under which the text was scored.", nullable=False),
        _field(
            "side",
            _TAG,
            "all trajectories; of preference pairs also chosen and rejected.",
            nullable=False,
        ),
        _field("provenance_declared", _TAG, "What the method or the manifest states."),
        _field(
            "provenance_measured",
            _TAG,
            "parent_like, parent_unlike, mixed or undetermined: what the likelihoods show.",
            nullable=False,
        ),
        _field("reason", pa.string(), "Why it is called so."),
        _field("prompts", pa.int32(), "Prompts with a trajectory and a sample.", nullable=False),
        _field("given", pa.int32(), "Trajectories scored.", nullable=False),
        _field("own", pa.int32(), "The parent's own samples for these prompts.", nullable=False),
        _field(
            "gap_nats_per_token",
            pa.float64(),
            "Negative log-likelihood of the given minus that of the own, mean over prompts.",
        ),
        _field("gap_stderr", pa.float64(), "Its standard error, over prompts."),
        _field("gap_ci_low", pa.float64(), "Lower end of its interval."),
        _field("gap_ci_high", pa.float64(), "Upper end of its interval."),
        _field(
            "auc",
            pa.float64(),
            "P(a given trajectory is less likely than an own sample of its prompt), ties half.",
        ),
        _field("auc_ci_low", pa.float64(), "Lower end of its interval."),
        _field("auc_ci_high", pa.float64(), "Upper end of its interval."),
        _field("like_share", pa.float64(), "Share of the given that may be the parent's own."),
        _field(
            "rare_token_share",
            pa.float64(),
            "Share of the given tokens that the parent gives less probability than rare_below.",
        ),
        _field("rare_below", pa.float64(), "Probability below which a token counts as rare."),
        _field("given_bits_per_byte", pa.float64(), "Of the given text; tokenizers compare in it."),
        _field("own_bits_per_byte", pa.float64(), "Of the own samples."),
        _field("reward_difference", pa.float64(), "Mean reward of the given minus the own's."),
        _field("reward_ci_low", pa.float64(), "Lower end of its interval."),
        _field("reward_ci_high", pa.float64(), "Upper end of its interval."),
        _field(
            "looks_filtered",
            pa.bool_(),
            "Whether the given are better than the parent's own; null without rewards.",
        ),
        _field("truncated", pa.int32(), "Own samples that were cut off."),
        _field("too_long", pa.int32(), "Trajectories that do not fit the parent's context."),
        _field("level", pa.float64(), "Confidence of the intervals."),
        _field("given_nats_per_token", _NATS, "Of each given trajectory, for a histogram."),
        _field("own_nats_per_token", _NATS, "Of each own sample."),
    ]
)
"""The tags are the stage's."""

DISTANCES = pa.schema(
    [
        _LINEAGE,
        _field("source", _TAG, "Checkpoint whose samples are judged.", nullable=False),
        _field("target", _TAG, "Checkpoint that judges them.", nullable=False),
        _field(
            "relation",
            _TAG,
            "What the source is to the target: child, parent, descendant, ancestor, student, "
            "teacher, other.",
            nullable=False,
        ),
        *_SCOPE,
        _field("method", _TAG, "exact (sums over the vocabulary) or sampled (log-ratios)."),
        _field(
            "nats_per_token", pa.float64(), "KL(source || target) over tokens: a ratio of means."
        ),
        _field("nats_per_token_stderr", pa.float64(), "Its standard error, clustered."),
        _field("nats_per_token_ci_low", pa.float64(), "Lower end of its interval."),
        _field("nats_per_token_ci_high", pa.float64(), "Upper end of its interval."),
        _field("nats_per_sequence", pa.float64(), "KL(source || target) of whole samples."),
        _field("nats_per_sequence_stderr", pa.float64(), "Its standard error, clustered."),
        _field("nats_per_sequence_ci_low", pa.float64(), "Lower end of its interval."),
        _field("nats_per_sequence_ci_high", pa.float64(), "Upper end of its interval."),
        _field("level", pa.float64(), "Confidence of the intervals."),
        _field("items", pa.int32(), "Items that it rests on.", nullable=False),
        _field("samples", pa.int32(), "Samples that it rests on.", nullable=False),
        _field("reason", pa.string(), "Why it is undefined."),
    ]
)

DIVERGENT = pa.schema(
    [
        _LINEAGE,
        _field("source", _TAG, "Checkpoint that wrote the sample.", nullable=False),
        _field("target", _TAG, "Its parent, which judges it.", nullable=False),
        _TASK,
        _ITEM,
        _field("sample", pa.int32(), "Number of the sample.", nullable=False),
        _field("prompt", pa.string(), "As it was asked."),
        _field("nats", pa.float64(), "log p_source - log p_target of the sample, in nats."),
        _field("tokens", _NAMES, "Text of each token.", nullable=False),
        _field("source_logprobs_nats", _NATS, "Of each token under its writer."),
        _field("target_logprobs_nats", _NATS, "Of each token under the parent."),
    ]
)

LIKELIHOODS = {"provenance": PROVENANCE, "distances": DISTANCES, "divergent": DIVERGENT}
"""Tables of how likely one checkpoint finds text; made by commands of their own."""

ANALYSIS = {
    "edges": EDGES,
    "verdicts": VERDICTS,
    "measures": MEASURES,
    "retention": RETENTION,
    "turnover": EDGES,
    "sensitivity": EDGES,
    "certified": CERTIFIED,
}
"""Tables that the analysis makes of the published ones, under their names."""

PUBLISHED = {
    "checkpoints": CHECKPOINTS,
    "documents": DOCUMENTS,
    "samples": SAMPLES,
    "items": ITEMS,
    "metrics": METRICS,
}
"""Published tables under their names; `samples` is a folder of files, the others are files."""
