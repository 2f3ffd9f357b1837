"""From judged samples to rows of tables: distances, and what children say token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptharness.analysis.distances import divergence, text_bits
from ptharness.analysis.resampling import Estimate
from ptharness.distances.texts import Row, Sample, TextSet
from ptharness.lineage import Lineage
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


def items_of(texts: TextSet, samples: Sequence[Sample]) -> list[Item]:
    """What is judged, by item."""
    rows = texts.prompts.rows
    items, clusters = rows["item"].to_pylist(), rows["cluster"].to_pylist()
    by_item: dict[str, list[Sample]] = {}
    for sample in samples:
        by_item.setdefault(items[sample.row], []).append(sample)
    made = []
    for found in by_item.values():
        source_bits, target_bits = np.mean([sample.bits for sample in found], axis=0).tolist()
        made.append(
            Item(
                texts.task,
                clusters[found[0].row],
                float(np.mean([sample.nats for sample in found])),
                float(np.mean([len(sample.source) for sample in found])),
                source_bits,
                target_bits,
                float(np.mean([sample.bytes for sample in found])),
                len(found),
            )
        )
    return made


def distance_rows(
    common: Mapping[str, Any], items: Sequence[Item], left_out: int, level: float
) -> Iterator[Row]:
    """A row per task of one pair, and one over all of them.

    Without a `method` in `common` the vocabularies differ, and `left_out` texts could not be
    spelled in the target's.
    """
    reason = ""
    if not common["method"]:
        reason = OTHER_VOCABULARY
        if left_out:
            reason += f"; {left_out} texts are left out, which the target's tokenizer cannot spell"
    elif not all(math.isfinite(item.nats) for item in items):
        reason = INFINITE
    if not items or reason == INFINITE:
        about = {"scope": "pooled", "task": "pooled", "tasks": 0, "items": 0, "samples": 0}
        yield {**common, **about, "reason": reason}
        return
    tasks = list(dict.fromkeys(item.task for item in items))
    scopes = [("task", task, [item for item in items if item.task == task]) for task in tasks]
    if len(tasks) > 1:
        scopes.insert(0, ("pooled", "pooled", list(items)))
    for scope, task, found in scopes:
        yield {
            **common,
            "scope": scope,
            "task": task,
            "tasks": len({item.task for item in found}),
            **_estimates(found, level, reason),
            "level": level,
            "items": len(found),
            "samples": sum(item.samples for item in found),
        }


def _estimates(items: Sequence[Item], level: float, reason: str) -> Row:
    clusters = [f"{item.task}/{item.cluster}" for item in items]
    tasks = [item.task for item in items]
    bits = text_bits(
        [item.source_bits for item in items],
        [item.target_bits for item in items],
        [item.bytes for item in items],
        clusters,
        tasks,
        level,
    )
    told = {
        "source_bits_per_byte": bits.source,
        "target_bits_per_byte": bits.target,
        **_columns("excess_bits_per_byte", bits.excess),
    }
    if reason:
        return {**told, "reason": reason}
    found = divergence(
        [item.nats for item in items], [item.tokens for item in items], clusters, tasks, level
    )
    return {
        **told,
        **_columns("nats_per_token", found.per_token),
        **_columns("nats_per_sequence", found.per_sequence),
        "reason": found.per_token.reason,
    }


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
    rows = texts.prompts.rows
    items, prompts = rows["item"].to_pylist(), rows["prompt"].to_pylist()
    ids = [rows["continuation_token_ids"][sample.row].as_py() for sample in samples]
    for sample, tokens in zip(samples, token_texts(tokenizer, ids), strict=True):
        yield {
            "task": texts.task,
            "item": items[sample.row],
            "sample": sample.number,
            "prompt": prompts[sample.row],
            "nats": sample.log_ratio,
            "tokens": tokens,
            "source_logprobs_nats": sample.source,
            "target_logprobs_nats": sample.target,
            "divergences_nats": sample.divergences,
        }


def relation(lineage: Lineage, source: str, target: str) -> str:
    """What the source is to the target."""
    above, below = lineage.by_name[target], lineage.by_name[source]
    if target in below.parents:
        return "child"
    if source in above.parents:
        return "parent"
    if below.stage and below.stage.teacher == target:
        return "student"
    if above.stage and above.stage.teacher == source:
        return "teacher"
    if target in _ancestors(lineage, source):
        return "descendant"
    return "ancestor" if source in _ancestors(lineage, target) else "other"


def _ancestors(lineage: Lineage, name: str) -> set[str]:
    found: set[str] = set()
    waiting = list(lineage.by_name[name].parents)
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += lineage.by_name[parent].parents
    return found
