"""Generation units -> requests for an engine, and its results -> rows of finished units.

An engine sees requests alone. What of a unit fits the checkpoint's context, how a long text is
cut into windows, and which seed a request gets is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from ptharness.context import TOO_LONG, rolling_windows, too_long
from ptharness.engines.base import Completion, Generated, GenerateRequest, Scored, ScoreRequest
from ptharness.prompts import PromptSet
from ptharness.protocol import SAMPLE_BLOCK, Sampling, derive_seed
from ptharness.store import UnitStore
from ptharness.units import GenerationUnit


@dataclass
class _Pending:
    """A unit in flight: `waiting` of its requests are not answered yet."""

    unit: GenerationUnit
    waiting: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Row:
    """A row of a unit in flight, and what answers its requests: several windows, if rolling."""

    pending: _Pending
    number: int
    parts: list[Generated | Scored | None]


class Flight:
    """Units in flight: their requests in, their finished rows out.

    `on_open` is told of units before their first request is made.
    Units are opened a pool at a time, the longest requests of a pool first; a pool is opened
    while the engine still works on the one before, so it neither drains at the end of a unit
    nor keeps all units open until the end.
    """

    def __init__(
        self,
        store: UnitStore,
        units: Sequence[GenerationUnit],
        window: int,
        on_open: Callable[[Sequence[GenerationUnit]], None],
    ) -> None:
        self.store, self.units, self.window, self.on_open = store, units, window, on_open
        self.places: dict[int, tuple[_Row, int, int]] = {}
        self.prompt_sets: dict[str, PromptSet] = {}
        self.finished: list[_Pending] = []
        self.completions, self.tokens = 0, 0

    def requests(self) -> Iterator[GenerateRequest | ScoreRequest]:
        """Every request of every unit, pool by pool."""
        index = 0
        for pool in _pools(self.units, self.window):
            self.on_open(pool)
            requests: list[GenerateRequest | ScoreRequest] = []
            for unit in pool:
                for request in self._open(unit, index):
                    requests.append(request)
                    index += 1
            if pool[0].kind == "generate":
                requests.sort(key=_length, reverse=True)
            yield from requests

    def _open(self, unit: GenerationUnit, index: int) -> Iterator[GenerateRequest | ScoreRequest]:
        """A unit's requests, numbered from `index`; rows that make none are done at once."""
        pending = _Pending(unit)
        for number, asked in enumerate(unit_requests(unit, self._prompts(unit), index)):
            row = _Row(pending, number, [None] * len(asked or ()))
            if not asked:
                pending.rows += _rows_without_request(unit, number, fits=asked is not None)
                self.completions += unit.samples
            for part, request in enumerate(asked or ()):
                seed = request.seed if isinstance(request, GenerateRequest) else 0
                self.places[request.index] = (row, part, seed)
                pending.waiting += 1
                yield request
        if not pending.waiting:
            self.finished.append(pending)

    def _prompts(self, unit: GenerationUnit) -> PromptSet:
        if unit.prompt_set not in self.prompt_sets:
            table = self.store.read("prompts", unit.prompt_set)
            self.prompt_sets[unit.prompt_set] = PromptSet.from_table(table)
        return self.prompt_sets[unit.prompt_set]

    def add(self, result: Generated | Scored) -> None:
        """Keep a result."""
        row, part, seed = self.places.pop(result.index)
        row.parts[part] = result
        pending = row.pending
        pending.waiting -= 1
        if None not in row.parts:
            made = _rows_of(_joined(row.parts), row.number, pending.unit, seed)
            pending.rows += made
            self.completions += len(made)
            self.tokens += sum(len(one["token_ids"]) for one in made)
        if pending.waiting == 0:
            self.finished.append(pending)

    def pop_finished(self) -> list[tuple[GenerationUnit, list[dict[str, Any]]]]:
        """Units whose rows are all there, with these."""
        finished, self.finished = self.finished, []
        return [(pending.unit, pending.rows) for pending in finished]

    def pop_progress(self) -> tuple[int, int]:
        """Completions and tokens that were finished since this was asked last."""
        finished = self.completions, self.tokens
        self.completions, self.tokens = 0, 0
        return finished


def _joined(parts: Sequence[Generated | Scored | None]) -> Generated | Scored:
    """One result of the windows of a text, in their order."""
    if len(parts) == 1 and parts[0] is not None:
        return parts[0]
    scored = [part for part in parts if isinstance(part, Scored)]
    logprobs = tuple(value for part in scored for value in part.token_logprobs_nats)
    return Scored(scored[0].index, logprobs, all(part.greedy for part in scored))


def _pools(units: Iterable[GenerationUnit], window: int) -> Iterator[list[GenerationUnit]]:
    """Neighbouring units with about two windows of requests in each pool."""
    remaining = iter(units)
    while pool := list(islice(remaining, 1)):
        requests = pool[0].rows
        for unit in remaining:
            pool.append(unit)
            requests += unit.rows
            if requests >= 2 * window:
                break
        yield pool


def _length(request: GenerateRequest | ScoreRequest) -> int:
    assert isinstance(request, GenerateRequest)
    return len(request.prompt_token_ids) + request.sampling.max_tokens


def unit_requests(
    unit: GenerationUnit, prompts: PromptSet, first_index: int = 0
) -> Iterator[list[GenerateRequest | ScoreRequest] | None]:
    """The requests of each row of a unit, numbered from `first_index`, each with its own seed.

    None for a row whose document does not fit; an empty list for an empty text; several where
    a text is cut into windows.
    """
    rows = prompts.slice_documents(unit.first_document, unit.documents)
    columns = ["prompt_token_ids", "continuation_token_ids", "prompt_digest", "occurrence"]
    values = zip(*(rows[name].to_pylist() for name in columns), strict=True)
    block = unit.first_sample // SAMPLE_BLOCK
    index = first_index
    unasked = too_long(rows, unit.kind, unit.limit)
    for skip, (prompt, continuation, prompt_digest, occurrence) in zip(
        unasked.tolist(), values, strict=True
    ):
        if skip:
            yield None
            continue
        asked: list[GenerateRequest | ScoreRequest] = []
        if unit.kind == "generate":
            seed = derive_seed(*unit.stream, prompt_digest, occurrence, block)
            sampling = _within(unit.sampling, len(prompt), unit.limit)
            asked.append(
                GenerateRequest(
                    index,
                    tuple(prompt),
                    unit.samples,
                    seed,
                    sampling,
                    unit.stop_token_ids,
                    unit.checkpoint,
                )
            )
        elif unit.kind == "loglikelihood":
            asked.append(
                ScoreRequest(
                    index,
                    tuple(prompt),
                    tuple(continuation),
                    unit.checkpoint,
                    unit.distributions,
                )
            )
        else:
            asked += [
                ScoreRequest(index + part, *window, unit.checkpoint)
                for part, window in enumerate(rolling_windows(prompt, continuation, unit.limit))
            ]
        index += len(asked)
        yield asked


def _within(sampling: Sampling, prompt_tokens: int, limit: int | None) -> Sampling:
    """The same sampling with as many tokens as the context has room for."""
    if limit is None or prompt_tokens + sampling.max_tokens <= limit:
        return sampling
    return replace(sampling, max_tokens=limit - prompt_tokens)


def _rows_without_request(unit: GenerationUnit, number: int, *, fits: bool) -> list[dict[str, Any]]:
    """Rows of `schema.GENERATIONS` for a document that was not asked, or an empty text."""
    if fits:
        return _rows_of(Scored(0, (), True), number, unit, 0)
    return [
        {
            "row": number,
            "sample": unit.first_sample + j,
            "token_ids": [],
            "finish_reason": TOO_LONG,
        }
        for j in range(unit.samples)
    ]


def _rows_of(
    result: Generated | Scored, row: int, unit: GenerationUnit, seed: int
) -> list[dict[str, Any]]:
    """Rows of `schema.GENERATIONS`."""
    if isinstance(result, Scored):
        values = np.asarray(result.token_logprobs_nats, dtype=np.float32)
        whole = result.distributions_nats
        return [
            {
                "row": row,
                "sample": 0,
                "token_ids": [],
                "token_logprobs_nats": values.tolist(),
                "greedy": result.greedy,
                "distributions_nats": None if whole is None else whole.ravel(),
            }
        ]
    return [
        _completion_row(completion, row, unit.first_sample + j, seed)
        for j, completion in enumerate(result.completions)
    ]


def _completion_row(completion: Completion, row: int, sample: int, seed: int) -> dict[str, Any]:
    return {
        "row": row,
        "sample": sample,
        "token_ids": completion.token_ids,
        "token_logprobs_nats": completion.token_logprobs_nats,
        # A completion may hold half a surrogate pair; Arrow holds UTF-8 alone.
        "text": completion.text.encode("utf-8", "replace").decode(),
        "finish_reason": completion.finish_reason,
        "seed": seed,
    }
