"""From judged samples to rows of tables: distances, and what children say token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptharness.analysis.distances import divergence, text_bits
from ptharness.analysis.inputs import POOLED
from ptharness.analysis.resampling import Estimate
from ptharness.distances.texts import Row, Sample, TextSet
from ptharness.fingerprint import digest
from ptharness.tokenizer import token_texts

INFINITE = "infinite: the target rules out tokens that the source may say"
OTHER_VOCABULARY = "another vocabulary: its tokens are not these"


@dataclass(frozen=True)
class Item:
    """An item of one pair and task: means over its samples."""

    task: str
    cluster: str
    nats: float
    tokens: float
    source_bits: float
    target_bits: float
    bytes: float
    samples: int


@dataclass(frozen=True)
class Judged:
    """What is known of one pair on one task: items, of how many texts, and how many of these were
    not judged, as the judge's tokenizer cannot spell them or its context is too short."""

    task: str
    protocol: str
    items: tuple[Item, ...]
    texts: int
    unspelled: int
    too_long: int


def summed_up(texts: TextSet, samples: Sequence[Sample]) -> Judged:
    """What is judged, by item."""
    by_item: dict[str, list[Sample]] = {}
    for sample in samples:
        by_item.setdefault(sample.said.item, []).append(sample)
    items = []
    for found in by_item.values():
        source_bits, target_bits = np.mean([sample.bits for sample in found], axis=0).tolist()
        items.append(
            Item(
                texts.task,
                found[0].said.cluster,
                float(np.mean([sample.nats for sample in found])),
                float(np.mean([len(sample.said.token_ids) for sample in found])),
                source_bits,
                target_bits,
                float(np.mean([sample.bytes for sample in found])),
                len(found),
            )
        )
    count = len(texts.said)
    too_long = count - texts.unspelled - len(samples)
    return Judged(texts.task, texts.protocol, tuple(items), count, texts.unspelled, too_long)


def distance_rows(
    common: Mapping[str, Any], judged: Sequence[Judged], level: float
) -> Iterator[Row]:
    """A row over all tasks of one pair, and one per task.

    Without a `method` in `common` the vocabularies differ.
    """
    if judged:
        # What a task lacks, the mean of all lacks too; what has no item is in none.
        there = [one for one in judged if one.items]
        yield _row(common, there or judged, POOLED, POOLED, level)
    for one in judged:
        yield _row(common, [one], "task", one.task, level)


def _row(
    common: Mapping[str, Any], judged: Sequence[Judged], scope: str, task: str, level: float
) -> Row:
    items = [item for one in judged for item in one.items]
    protocols = sorted(one.protocol for one in judged)
    row = {
        **common,
        "scope": scope,
        "task": task,
        "tasks": len({item.task for item in items}),
        "protocol": protocols[0] if scope == "task" else digest(protocols)[:12],
        "level": level,
        "items": len(items),
        "samples": sum(item.samples for item in items),
    }
    why = None
    if not common["method"]:
        why = OTHER_VOCABULARY
    elif not all(math.isfinite(item.nats) for item in items):
        why = INFINITE
    if items:
        row |= _estimates(items, level, is_defined=why is None)
    reasons = [why, row["reason"], *_left_out(judged)]
    return {**row, "reason": "; ".join(reason for reason in reasons if reason) or None}


def _left_out(judged: Sequence[Judged]) -> Iterator[str]:
    texts = sum(one.texts for one in judged)
    if unspelled := sum(one.unspelled for one in judged):
        yield f"the target's tokenizer cannot spell {unspelled:,} of {texts:,} texts"
    if too_long := sum(one.too_long for one in judged):
        yield f"{too_long:,} of {texts:,} texts do not fit the target's context"


def _estimates(items: Sequence[Item], level: float, *, is_defined: bool) -> Row:
    clusters = [f"{item.task}/{item.cluster}" for item in items]
    tasks = [item.task for item in items]
    row: Row = {"reason": None}
    if is_defined:
        found = divergence(
            [item.nats for item in items], [item.tokens for item in items], clusters, tasks, level
        )
        row |= _columns("nats_per_token", found.per_token)
        row |= _columns("nats_per_sequence", found.per_sequence)
        row["reason"] = found.per_token.reason
    if not all(math.isfinite(item.target_bits) for item in items):
        return row
    bits = text_bits(
        [item.source_bits for item in items],
        [item.target_bits for item in items],
        [item.bytes for item in items],
        clusters,
        tasks,
        level,
    )
    row |= {"source_bits_per_byte": bits.source, "target_bits_per_byte": bits.target}
    row |= _columns("excess_bits_per_byte", bits.excess)
    if bits.excess.estimate is None:
        row["reason"] = row["reason"] or bits.excess.reason
    return row


def _columns(name: str, found: Estimate) -> Row:
    return {
        name: found.estimate,
        f"{name}_stderr": found.stderr,
        f"{name}_ci_low": found.ci_low,
        f"{name}_ci_high": found.ci_high,
    }


def token_rows(texts: TextSet, samples: Sequence[Sample], tokenizer: Any) -> Iterator[Row]:
    """Every judged sample, token by token, in columns of `schema.TOKEN_LIKELIHOODS`.

    `tokenizer` is the writer's.
    """
    ids = [sample.said.token_ids for sample in samples]
    for sample, tokens in zip(samples, token_texts(tokenizer, ids), strict=True):
        yield {
            "task": texts.task,
            "item": sample.said.item,
            "sample": sample.said.number,
            "prompt": sample.said.prompt,
            "nats": sample.log_ratio,
            "tokens": tokens,
            "source_logprobs_nats": sample.said.logprobs,
            "target_logprobs_nats": sample.target,
            "divergences_nats": sample.divergences,
        }
