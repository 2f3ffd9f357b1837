"""How likely one checkpoint finds text that it did not write."""

from __future__ import annotations

import pyarrow as pa

from ptharness.schema.columns import ITEM, LINEAGE, NAMES, NATS, SCOPE, TAG, TAGS, TASK, field

PROVENANCE = pa.schema(
    [
        *TAGS,
        field("parent", TAG, "Checkpoint under which the text was scored.", nullable=False),
        field("parent_fingerprint", pa.string(), "Digest of its weights."),
        field("trajectories", pa.string(), "Digest of the stage's training set."),
        field("engine", TAG, "Engine that generated and scored."),
        field(
            "side",
            TAG,
            "all trajectories; of preference pairs also chosen and rejected.",
            nullable=False,
        ),
        field("provenance_declared", TAG, "What the method or the manifest states."),
        field(
            "provenance_measured",
            TAG,
            "parent_like, parent_unlike, mixed or undetermined: what the likelihoods show.",
            nullable=False,
        ),
        field("reason", pa.string(), "Why it is called so."),
        field("prompts", pa.int32(), "Prompts with a trajectory and a sample.", nullable=False),
        field("given", pa.int32(), "Trajectories scored.", nullable=False),
        field("own", pa.int32(), "The parent's own samples for these prompts.", nullable=False),
        field(
            "gap_nats_per_token",
            pa.float64(),
            "Negative log-likelihood of the given minus that of the own, mean over prompts.",
        ),
        field("gap_stderr", pa.float64(), "Its standard error, over prompts."),
        field("gap_ci_low", pa.float64(), "Lower end of its interval."),
        field("gap_ci_high", pa.float64(), "Upper end of its interval."),
        field(
            "auc",
            pa.float64(),
            "P(a given trajectory is less likely than an own sample of its prompt), ties half.",
        ),
        field("auc_ci_low", pa.float64(), "Lower end of its interval."),
        field("auc_ci_high", pa.float64(), "Upper end of its interval."),
        field("like_share", pa.float64(), "Share of the given that may be the parent's own."),
        field(
            "rare_token_share",
            pa.float64(),
            "Share of the given tokens that the parent gives less probability than rare_below.",
        ),
        field("rare_below", pa.float64(), "Probability below which a token counts as rare."),
        field(
            "given_bits_per_byte",
            pa.float64(),
            "Of the given text; tokenizers compare in it. Null where some is misspelled.",
        ),
        field("own_bits_per_byte", pa.float64(), "Of the own samples."),
        field("reward_difference", pa.float64(), "Mean reward of the given minus the own's."),
        field("reward_ci_low", pa.float64(), "Lower end of its interval."),
        field("reward_ci_high", pa.float64(), "Upper end of its interval."),
        field(
            "looks_filtered",
            pa.bool_(),
            "Whether the given are better than the parent's own; null without 10 prompts' rewards.",
        ),
        field(
            "misspelled",
            pa.int32(),
            "Trajectories that the parent's tokenizer changes: an unknown character, lower case.",
        ),
        field("truncated", pa.int32(), "Own samples that were cut off."),
        field(
            "too_long",
            pa.int32(),
            "Prompts left out, as they or a trajectory do not fit the context.",
        ),
        field("level", pa.float64(), "Confidence of the intervals."),
        field("given_nats_per_token", NATS, "Of each given trajectory, for a histogram."),
        field("own_nats_per_token", NATS, "Of each own sample."),
    ]
)
"""The tags are the stage's."""

DISTANCES = pa.schema(
    [
        LINEAGE,
        field("source", TAG, "Checkpoint whose samples are judged.", nullable=False),
        field("target", TAG, "Checkpoint that judges them.", nullable=False),
        field("source_fingerprint", pa.string(), "Digest of the source's weights."),
        field("target_fingerprint", pa.string(), "Digest of the target's weights."),
        field("source_tokenizer", pa.string(), "Digest of the source's tokenizer and template."),
        field("target_tokenizer", pa.string(), "Digest of the target's."),
        field("engine", TAG, "Engine that generated and scored."),
        field("protocol", pa.string(), "Digest of how was asked and drawn."),
        field(
            "relation",
            TAG,
            "What the source is to the target: child, parent, descendant, ancestor, student, "
            "teacher, other.",
            nullable=False,
        ),
        *SCOPE,
        field("method", TAG, "exact (sums over the vocabulary) or sampled (log-ratios)."),
        field(
            "nats_per_token", pa.float64(), "KL(source || target) over tokens: a ratio of means."
        ),
        field("nats_per_token_stderr", pa.float64(), "Its standard error, clustered."),
        field("nats_per_token_ci_low", pa.float64(), "Lower end of its interval."),
        field("nats_per_token_ci_high", pa.float64(), "Upper end of its interval."),
        field("nats_per_sequence", pa.float64(), "KL(source || target) of whole samples."),
        field("nats_per_sequence_stderr", pa.float64(), "Its standard error, clustered."),
        field("nats_per_sequence_ci_low", pa.float64(), "Lower end of its interval."),
        field("nats_per_sequence_ci_high", pa.float64(), "Upper end of its interval."),
        field(
            "source_bits_per_byte",
            pa.float64(),
            "Bits in which the source codes a byte of its samples' text, special tokens aside.",
        ),
        field(
            "target_bits_per_byte",
            pa.float64(),
            "Bits in which the target does, in its own tokens: vocabularies compare in it.",
        ),
        field("excess_bits_per_byte", pa.float64(), "What the target needs more."),
        field("excess_bits_per_byte_stderr", pa.float64(), "Its standard error, clustered."),
        field("excess_bits_per_byte_ci_low", pa.float64(), "Lower end of its interval."),
        field("excess_bits_per_byte_ci_high", pa.float64(), "Upper end of its interval."),
        field("level", pa.float64(), "Confidence of the intervals."),
        field("items", pa.int32(), "Items that it rests on.", nullable=False),
        field("samples", pa.int32(), "Samples that it rests on.", nullable=False),
        field("reason", pa.string(), "Why something is undefined, and what is left out."),
    ]
)

TOKEN_LIKELIHOODS = pa.schema(
    [
        LINEAGE,
        field("source", TAG, "Checkpoint that wrote the sample.", nullable=False),
        field("target", TAG, "Its parent, which judges it.", nullable=False),
        field("source_fingerprint", pa.string(), "Digest of the source's weights."),
        field("target_fingerprint", pa.string(), "Digest of the target's weights."),
        field("source_tokenizer", pa.string(), "Digest of the source's tokenizer and template."),
        field("target_tokenizer", pa.string(), "Digest of the target's."),
        TASK,
        field("protocol", pa.string(), "Digest of how was asked and drawn."),
        ITEM,
        field("sample", pa.int32(), "Number of the sample.", nullable=False),
        field("prompt", pa.string(), "As it was asked."),
        field("nats", pa.float64(), "log p_source - log p_target of the sample, in nats."),
        field("tokens", NAMES, "Text of each token.", nullable=False),
        field("source_logprobs_nats", NATS, "Of each token under its writer."),
        field("target_logprobs_nats", NATS, "Of each token under the parent."),
        field(
            "divergences_nats",
            NATS,
            "KL(source || target) of the next token at each place; null where it is not exact.",
        ),
    ]
)

LIKELIHOODS = {
    "provenance": PROVENANCE,
    "distances": DISTANCES,
    "token_likelihoods": TOKEN_LIKELIHOODS,
}
"""Tables of how likely one checkpoint finds text; made by commands of their own."""
