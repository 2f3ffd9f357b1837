"""What did a checkpoint say, and how likely do it and others find that?

A text set is a prompt set like any other: the samples of one checkpoint on one task, as
continuations that others score. What they give of a sample stands beside what its writer gave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ptharness.analysis.distances import exact_divergence
from ptharness.fingerprint import digest
from ptharness.lineage import Checkpoint
from ptharness.planner import Work
from ptharness.prompts import PromptSet, PromptSetHeader
from ptharness.schema import PROMPTS
from ptharness.store import UnitStore
from ptharness.tasks.encoding import PromptEncoder
from ptharness.tokenizer import BROKEN, special_token_ids, spells, texts_within

VERSION = 3

_LOGPROBS, _DISTRIBUTIONS = "token_logprobs_nats", "distributions_nats"

Array = np.ndarray[Any, np.dtype[np.float64]]
Row = dict[str, Any]
Place = tuple[int, int]
"""Document and sample."""


@dataclass(frozen=True)
class Said:
    """A sample as its writer said it.

    `text` leaves special tokens out; `is_text` says of each token whether it is in it. `logprobs`
    are in nats. Shapes (tokens,).
    """

    item: str
    cluster: str
    number: int
    prompt: str
    token_ids: tuple[int, ...]
    is_text: np.ndarray[Any, np.dtype[np.bool_]]
    text: str
    logprobs: Array


@dataclass(frozen=True)
class TextSet:
    """Samples of one checkpoint on one task, and the prompt set in which a judge is asked for them.

    `own_tokens` says whether that is in their writer's tokens. Where it is not, `unspelled` counts
    those that are not asked since the judge's tokenizer cannot spell them.
    """

    source: Checkpoint
    task: str
    protocol: str
    key: str
    prompts: PromptSet
    said: Mapping[Place, Said]
    own_tokens: bool = True
    unspelled: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of all samples."""
        return sum(len(said.token_ids) for said in self.said.values())


@dataclass(frozen=True)
class Sample:
    """One sample under its writer and its judge: `target` are log-probabilities of the judge's
    tokens, which with `own_tokens` are the writer's.

    `divergences` are KL between their distributions at each token, in nats, shape (tokens,); None
    where these are not there.
    """

    said: Said
    target: Array
    own_tokens: bool = True
    divergences: Array | None = None

    @property
    def log_ratio(self) -> float:
        """log p_source - log p_target of the tokens drawn, in nats."""
        return float(self.said.logprobs.sum() - self.target.sum())

    @property
    def nats(self) -> float:
        """What it says of the divergence; NaN where the tokens are not the same."""
        if not self.own_tokens:
            return math.nan
        return self.log_ratio if self.divergences is None else float(self.divergences.sum())

    @property
    def bits(self) -> tuple[float, float]:
        """Bits of its text under the writer and under the judge, without special tokens."""
        mine = self.said.logprobs[self.said.is_text].sum()
        theirs = self.target[self.said.is_text] if self.own_tokens else self.target
        return -float(mine) / math.log(2), -float(theirs.sum()) / math.log(2)

    @property
    def bytes(self) -> int:
        """Of its text, in UTF-8."""
        return len(self.said.text.encode("utf-8", "surrogatepass"))


def make_text_set(work: Work, tokenizer: Any, store: UnitStore, samples: int) -> TextSet:
    """The first samples of each document as requests for others, kept in the store.

    `tokenizer` is the writer's.
    """
    task = work.planned.prompts.header.task
    prompts = work.planned.prompts.slice_documents(0, work.documents)
    columns = ["document", "item", "cluster", "document_digest", "prompt", "prompt_token_ids"]
    asked = prompts.select(columns).to_pylist()
    starts = work.planned.prompts.document_starts
    rows: list[Row] = []
    drawn: list[Row] = []
    for unit in work.generation:
        if unit.first_sample:
            continue
        first = int(starts[unit.first_document])
        table = store.read("generation", unit.key, ["row", "sample", "token_ids", _LOGPROBS])
        for row in table.to_pylist():
            about = asked[first + row["row"]]
            is_first = first + row["row"] == starts[about["document"]]
            if row["sample"] < samples and row["token_ids"] and is_first:
                ids = row["token_ids"]
                rows.append({**about, "request": row["sample"], "continuation_token_ids": ids})
                drawn.append({**row, **about})
    key = digest("texts", VERSION, [unit.key for unit in work.generation], samples)
    stored = _stored(key, f"{work.checkpoint.name}-{task}", rows, store)
    said = _said(drawn, tokenizer)
    return TextSet(work.checkpoint, task, work.planned.protocol, key, stored, said)


def _said(drawn: Sequence[Row], tokenizer: Any) -> dict[Place, Said]:
    special = np.array(sorted(special_token_ids(tokenizer)))
    is_text = [~np.isin(row["token_ids"], special) for row in drawn]
    kept = [
        np.asarray(row["token_ids"])[plain].tolist()
        for row, plain in zip(drawn, is_text, strict=True)
    ]
    return {
        (row["document"], row["sample"]): Said(
            row["item"],
            row["cluster"],
            row["sample"],
            row["prompt"],
            tuple(row["token_ids"]),
            plain,
            text,
            np.asarray(row[_LOGPROBS], np.float64),
        )
        for row, plain, text in zip(drawn, is_text, texts_within(tokenizer, kept), strict=True)
    }


def respell(
    texts: TextSet, asked: PromptSet, asked_key: str, tokenizer: Any, store: UnitStore
) -> TextSet:
    """The same texts after the prompts of a judge with another vocabulary, in its tokens.

    `asked` is its prompt set of the same task. Empty texts are not asked: they take no bits. A text
    is left out in which a character is cut off, which the judge's tokenizer changes, or of which
    it makes a special token.
    """
    last = max((document for document, _ in texts.said), default=-1)
    prompts: dict[int, Row] = {}
    columns = ["document", "prompt", "prompt_token_ids"]
    for row in asked.slice_documents(0, last + 1).select(columns).to_pylist():
        prompts.setdefault(row["document"], row)
    rows = [
        {**row, **prompts[row["document"]], "continuation": text}
        for row in texts.prompts.rows.select(PROMPTS.names).to_pylist()
        if (text := texts.said[row["document"], row["request"]].text)
    ]
    encoded = PromptEncoder(tokenizer).continuations(
        [(row["prompt"], row["prompt_token_ids"], row["continuation"]) for row in rows]
    )
    special = special_token_ids(tokenizer)
    kept = [
        {**row, "continuation_token_ids": ids}
        for row, ids in zip(rows, encoded, strict=True)
        if BROKEN not in row["continuation"]
        and special.isdisjoint(ids)
        and spells(tokenizer, ids, row["continuation"])
    ]
    key = digest("texts", VERSION, texts.key, asked_key)
    return replace(
        texts,
        key=key,
        prompts=_stored(key, f"{texts.source.name}-{texts.task}", kept, store),
        own_tokens=False,
        unspelled=len(rows) - len(kept),
    )


def _stored(key: str, name: str, rows: Sequence[Row], store: UnitStore) -> PromptSet:
    rows = sorted(rows, key=lambda row: (row["document"], row["request"]))
    header = PromptSetHeader(
        task=name, kind="loglikelihood", documents=len({row["document"] for row in rows})
    )
    table = PromptSet(header, pa.Table.from_pylist(rows, schema=PROMPTS)).to_table()
    store.write("prompts", key, table)
    return PromptSet.from_table(table)


def judged_samples(
    texts: TextSet, work: Work | None, own: Work | None, store: UnitStore
) -> Iterator[Sample]:
    """The samples that a judge's stored work is of; exact with the writer's own work on them.

    Those that did not fit the judge's context are not among them.
    """
    if not texts.own_tokens:
        nothing = np.empty(0)
        yield from (Sample(s, nothing, own_tokens=False) for s in texts.said.values() if not s.text)
    if work is None:
        return
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
            shape = len(logprobs), -1
            yield Sample(
                texts.said[places[first + row]],
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
