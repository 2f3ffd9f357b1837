"""What did a checkpoint say, and how likely do it and others find that?

A text set is a prompt set like any other: the samples of one checkpoint on one task, as
continuations that others score. What they give of a sample stands beside what its writer gave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
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
from ptharness.tasks.encoding import PromptEncoder
from ptharness.tokenizer import special_token_ids, spells

VERSION = 2

_LOGPROBS, _DISTRIBUTIONS = "token_logprobs_nats", "distributions_nats"

Array = np.ndarray[Any, np.dtype[np.float64]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """A sample of its writer.

    `text` leaves special tokens out; `is_text` says of each token whether it is in it. `logprobs`
    are in nats. Shapes (tokens,).
    """

    text: str
    is_text: np.ndarray[Any, np.dtype[np.bool_]]
    logprobs: Array


@dataclass(frozen=True)
class TextSet:
    """Samples of one checkpoint on one task, under (document, sample), and their prompt set.

    `own_tokens` says whether they are asked in their writer's tokens; `left_out` how many are not
    asked, since the judge's tokenizer cannot spell them.
    """

    source: Checkpoint
    task: str
    key: str
    prompts: PromptSet
    said: Mapping[tuple[int, int], Said]
    own_tokens: bool = True
    left_out: int = 0


@dataclass(frozen=True)
class Sample:
    """One sample under its writer and its judge: `target` are log-probabilities of the judge's
    tokens, which with `own_tokens` are the writer's.

    `divergences` are KL between their distributions at each token, in nats, shape (tokens,); None
    where these are not there.
    """

    row: int
    number: int
    said: Said
    target: Array
    own_tokens: bool = True
    divergences: Array | None = None

    @property
    def source(self) -> Array:
        """Log-probabilities of its tokens under the writer."""
        return self.said.logprobs

    @property
    def log_ratio(self) -> float:
        """log p_source - log p_target of the tokens drawn, in nats."""
        return log_ratios(self.source, self.target)

    @property
    def nats(self) -> float:
        """What it says of the divergence; NaN where the tokens are not the same."""
        if not self.own_tokens:
            return math.nan
        return self.log_ratio if self.divergences is None else float(self.divergences.sum())

    @property
    def bits(self) -> tuple[float, float]:
        """Bits of its text under the writer and under the judge, without special tokens."""
        mine = self.source[self.said.is_text].sum()
        theirs = self.target[self.said.is_text] if self.own_tokens else self.target
        return -float(mine) / math.log(2), -float(theirs.sum()) / math.log(2)

    @cached_property
    def bytes(self) -> int:
        """Of its text, in UTF-8."""
        return len(self.said.text.encode("utf-8", "surrogatepass"))


def make_text_set(work: Work, tokenizer: Any, store: UnitStore, samples: int) -> TextSet:
    """The first samples of each document as requests for others, kept in the store.

    `tokenizer` is the writer's.
    """
    prompts = work.planned.prompts
    starts = prompts.document_starts
    special = np.array(sorted(special_token_ids(tokenizer)))
    columns = ["document", "item", "cluster", "document_digest", "prompt", "prompt_token_ids"]
    asked = prompts.rows.select(columns).to_pylist()
    rows: list[Row] = []
    said: dict[tuple[int, int], Said] = {}
    for unit in work.generation:
        if unit.first_sample:
            continue
        first = int(starts[unit.first_document])
        table = store.read(
            "generation", unit.key, ["row", "sample", "token_ids", _LOGPROBS, "text"]
        )
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
                said[about["document"], row["sample"]] = Said(
                    row["text"] or "",
                    ~np.isin(row["token_ids"], special),
                    np.asarray(row[_LOGPROBS], np.float64),
                )
    rows.sort(key=lambda row: (row["document"], row["request"]))
    key = digest("texts", VERSION, [unit.key for unit in work.generation], samples)
    stored = _stored(key, f"{work.checkpoint.name}-{prompts.header.task}", rows, store)
    return TextSet(work.checkpoint, prompts.header.task, key, stored, said)


def respell(
    texts: TextSet, asked: PromptSet, asked_key: str, tokenizer: Any, store: UnitStore
) -> TextSet:
    """The same texts after the prompts of a judge with another vocabulary, in its tokens.

    `asked` is its prompt set of the same task. Empty texts are not asked.
    """
    columns = ["document", "prompt", "prompt_token_ids"]
    prompts: dict[int, Row] = {}
    for row in asked.rows.select(columns).to_pylist():
        prompts.setdefault(row["document"], row)
    rows = [
        {**row, **prompts[row["document"]], "continuation": text}
        for row in texts.prompts.rows.select(PROMPTS.names).to_pylist()
        if (text := texts.said[row["document"], row["request"]].text) and row["document"] in prompts
    ]
    encoder = PromptEncoder(tokenizer)
    spelled = encoder.continuations(
        [(row["prompt"], row["prompt_token_ids"], row["continuation"]) for row in rows]
    )
    kept = [
        {**row, "continuation_token_ids": ids}
        for row, ids in zip(rows, spelled, strict=True)
        if ids and spells(tokenizer, ids, row["continuation"])
    ]
    key = digest("texts", VERSION, texts.key, asked_key)
    name = f"{texts.source.name}-{texts.task}"
    return replace(
        texts,
        key=key,
        prompts=_stored(key, name, kept, store),
        own_tokens=False,
        left_out=len(rows) - len(kept),
    )


def _stored(key: str, name: str, rows: Sequence[Row], store: UnitStore) -> PromptSet:
    header = PromptSetHeader(
        task=name, kind="loglikelihood", documents=len({row["document"] for row in rows})
    )
    table = PromptSet(header, pa.Table.from_pylist(list(rows), schema=PROMPTS)).to_table()
    store.write("prompts", key, table)
    return PromptSet.from_table(table)


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
            yield Sample(
                first + row,
                place[1],
                texts.said[place],
                np.asarray(logprobs, np.float64),
                texts.own_tokens,
                exact_divergence(source[row].reshape(shape), target[row].reshape(shape))
                if own
                else None,
            )


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
