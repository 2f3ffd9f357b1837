"""What did a checkpoint say, and how likely do it and others find that?

A text set is a prompt set like any other: the samples of one checkpoint on one task, as
continuations that others score. What they give of a sample stands beside what its writer gave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from ptharness.analysis.distances import exact_divergence, log_ratios
from ptharness.fingerprint import digest
from ptharness.lineage import Checkpoint
from ptharness.planner import Work
from ptharness.prompts import PromptSet, PromptSetHeader
from ptharness.schema import PROMPTS
from ptharness.store import UnitStore

VERSION = 1
MOST_TEXTS = 3
"""Samples per edge and task that are kept token by token."""

_LOGPROBS, _DISTRIBUTIONS = "token_logprobs_nats", "distributions_nats"

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class TextSet:
    """Samples of one checkpoint on one task: token ids, log-probabilities, and their prompt set."""

    source: Checkpoint
    task: str
    key: str
    prompts: PromptSet
    logprobs: Mapping[tuple[int, int], Array]


@dataclass(frozen=True)
class Sample:
    """One sample, token by token, under its writer and its judge.

    `exact` is the sum over its positions of KL between their distributions, in nats; None where
    these are not there.
    """

    row: int
    number: int
    source: Array
    target: Array
    exact: float | None = None

    @property
    def log_ratio(self) -> float:
        """log p_source - log p_target of the tokens drawn, in nats."""
        return log_ratios(self.source, self.target)

    @property
    def nats(self) -> float:
        """What it says of the divergence."""
        return self.log_ratio if self.exact is None else self.exact


def make_text_set(work: Work, store: UnitStore, samples: int) -> TextSet:
    """The first samples of each document as requests for others, kept in the store."""
    prompts = work.planned.prompts
    starts = prompts.document_starts
    columns = ["document", "item", "cluster", "document_digest", "prompt", "prompt_token_ids"]
    asked = prompts.rows.select(columns).to_pylist()
    rows: list[dict[str, Any]] = []
    logprobs: dict[tuple[int, int], Array] = {}
    for unit in work.generation:
        if unit.first_sample:
            continue
        first = int(starts[unit.first_document])
        table = store.read("generation", unit.key, ["row", "sample", "token_ids", _LOGPROBS])
        for row in table.to_pylist():
            about = asked[first + row["row"]]
            is_first = first + row["row"] == starts[about["document"]]
            if row["sample"] < samples and row["token_ids"] and is_first:
                rows.append(
                    {
                        **about,
                        "request": row["sample"],
                        "continuation_token_ids": row["token_ids"],
                    }
                )
                place = about["document"], row["sample"]
                logprobs[place] = np.asarray(row[_LOGPROBS], np.float64)
    rows.sort(key=lambda row: (row["document"], row["request"]))
    keys = [unit.key for unit in work.generation]
    key = digest("texts", VERSION, keys, samples)
    header = PromptSetHeader(
        task=f"{work.checkpoint.name}-{prompts.header.task}",
        kind="loglikelihood",
        documents=len({row["document"] for row in rows}),
    )
    table = PromptSet(header, pa.Table.from_pylist(rows, schema=PROMPTS)).to_table()
    store.write("prompts", key, table)
    return TextSet(work.checkpoint, prompts.header.task, key, PromptSet.from_table(table), logprobs)


def judged_samples(
    texts: TextSet, work: Work, own: Work | None, store: UnitStore
) -> Iterator[Sample]:
    """The samples that a judge's stored work is of; exact with the writer's own work on them."""
    columns = [texts.prompts.rows[name].to_pylist() for name in ("document", "request")]
    places = list(zip(*columns, strict=True))
    for i, unit in enumerate(work.generation):
        first = int(texts.prompts.document_starts[unit.first_document])
        source = _distributions(store, own.generation[i].key) if own else {}
        target = _distributions(store, unit.key) if own else {}
        table = store.read("generation", unit.key, ["row", _LOGPROBS])
        for row, logprobs in zip(*(column.to_pylist() for column in table), strict=True):
            if not logprobs or (own and row not in source):
                continue
            place = places[first + row]
            shape = len(logprobs), -1
            exact = (
                exact_divergence(source[row].reshape(shape), target[row].reshape(shape))
                if own
                else None
            )
            judged = np.asarray(logprobs, np.float64)
            yield Sample(first + row, place[1], texts.logprobs[place], judged, exact)


def _distributions(store: UnitStore, key: str) -> dict[int, np.ndarray[Any, Any]]:
    """The distributions of each row of a unit that has some, flat."""
    table = store.read("generation", key, ["row", _DISTRIBUTIONS])
    lists = table[_DISTRIBUTIONS].combine_chunks()
    values, ends = lists.values.to_numpy(), lists.offsets.to_numpy()
    return {
        row: values[ends[i] : ends[i + 1]]
        for i, row in enumerate(table["row"].to_pylist())
        if lists[i].is_valid
    }


def most_divergent(texts: TextSet, samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """The samples that a parent finds least likely against their writer, one of an item.

    In columns of `schema.DIVERGENT`.
    """
    from ptharness.tokenizer import decode, load_tokenizer

    rows = texts.prompts.rows
    items, ids, prompts = rows["item"].to_pylist(), rows["continuation_token_ids"], rows["prompt"]
    chosen: dict[str, Sample] = {}
    for sample in sorted(samples, key=lambda sample: -sample.log_ratio):
        chosen.setdefault(items[sample.row], sample)
    if not chosen:
        return
    tokenizer = load_tokenizer(texts.source.tokenizer_directory)
    for item, sample in islice(chosen.items(), MOST_TEXTS):
        tokens = [[token] for token in ids[sample.row].as_py()]
        yield {
            "task": texts.task,
            "item": item,
            "sample": sample.number,
            "prompt": prompts[sample.row].as_py(),
            "nats": sample.log_ratio,
            "tokens": decode(tokenizer, tokens, skip_special_tokens=False),
            "source_logprobs_nats": sample.source,
            "target_logprobs_nats": sample.target,
        }
