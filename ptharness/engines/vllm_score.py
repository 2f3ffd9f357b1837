"""Log-likelihoods in vLLM with as little computed as the question needs.

vLLM gives log-probabilities of a prompt's tokens by computing the logits of all its positions,
and those of chosen tokens at the position after it for next to nothing. So

- a context that several continuations share is asked once, for the first token of each: choices
  of one token need nothing else;
- a longer continuation is asked with its context in front, of which the prefix cache holds whole
  blocks, and without its last token, which is asked for at the position after it;
- whole distributions are asked for each request on its own, computed from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ptharness.engines.base import Scored, ScoreRequest
from ptharness.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_WANTED = 128
"""Tokens that vLLM reports of one position (`MAX_LOGPROB_TOKEN_IDS`)."""


@dataclass(frozen=True)
class Ask:
    """One prompt for vLLM: the log-probabilities of its last `scored` tokens, and of `wanted`
    tokens after it.

    `requests` are those that it answers in part; of `place`, the first of their tokens that it
    answers. `cached` is False where the prefix cache must not be read. `distributions` are asked
    for of all tokens, not only of these.
    """

    requests: tuple[ScoreRequest, ...]
    token_ids: tuple[int, ...]
    scored: int
    wanted: tuple[int, ...]
    place: int
    cached: bool = True
    distributions: bool = False

    def is_whole(self, cached_tokens: int) -> bool:
        """Whether nothing that it asks for came from the prefix cache, which has no logits."""
        return not self.scored or cached_tokens < len(self.token_ids) - self.scored

    def without_cache(self) -> Ask:
        """The same, computed from its beginning."""
        return replace(self, cached=False)


def asks(requests: Iterable[ScoreRequest], block: int | None) -> Iterator[Ask]:
    """What to ask for requests, of which neighbours with one context belong together.

    `block` are the tokens that the prefix cache keeps as one, None where there is no cache.
    """
    by_context = groupby(
        requests, key=lambda r: (r.checkpoint, r.context_token_ids, r.distributions)
    )
    for (_, context, distributions), group in by_context:
        if distributions:
            yield from map(_whole, group)
            continue
        members = list(group)
        is_kept = block is not None and len(context) >= block
        first = [m for m in members if is_kept or len(m.continuation_token_ids) == 1]
        yield from _first_tokens(context, first)
        for member in members:
            rest = member.continuation_token_ids
            if len(rest) > 1:
                place = 1 if is_kept else 0
                yield Ask(
                    (member,),
                    context + rest[:-1],
                    scored=len(rest) - 1 - place,
                    wanted=rest[-1:],
                    place=place,
                )


def _whole(request: ScoreRequest) -> Ask:
    rest = request.continuation_token_ids
    return Ask(
        (request,),
        request.context_token_ids + rest[:-1],
        scored=len(rest) - 1,
        wanted=rest[-1:],
        place=0,
        cached=False,
        distributions=True,
    )


def _first_tokens(context: tuple[int, ...], members: Sequence[ScoreRequest]) -> Iterator[Ask]:
    for start in range(0, len(members), MOST_WANTED):
        some = members[start : start + MOST_WANTED]
        wanted = tuple(dict.fromkeys(member.continuation_token_ids[0] for member in some))
        yield Ask(tuple(some), context, scored=0, wanted=wanted, place=0)


@dataclass
class _Partial:
    logprobs: list[float | None]
    greedy: bool = True


@dataclass
class Answers:
    """Puts the answers to asks together into results."""

    _partial: dict[int, _Partial] = field(default_factory=dict)

    def add(self, ask: Ask, output: Any) -> Iterator[Scored]:
        """Take vLLM's output for an ask; yield the results that it completes."""
        if ask.distributions:
            yield _distributed(ask.requests[0], output)
            return
        prompt = output.prompt_logprobs
        completion = output.outputs[0]
        after = dict(zip(completion.logprobs.token_ids, completion.logprobs.logprobs, strict=True))
        likeliest = completion.token_ids[0]
        for request in ask.requests:
            rest = request.continuation_token_ids
            found = self._partial.setdefault(request.index, _Partial([None] * len(rest)))
            if ask.scored:
                end = ask.place + ask.scored
                found.logprobs[ask.place : end] = prompt.logprobs[-ask.scored :]
                found.greedy &= all(rank == 1 for rank in prompt.ranks[-ask.scored :])
            last = ask.place + ask.scored
            found.logprobs[last] = after[rest[last]]
            found.greedy &= likeliest == rest[last]
            if None not in found.logprobs:
                del self._partial[request.index]
                logprobs = tuple(value for value in found.logprobs if value is not None)
                yield Scored(request.index, logprobs, found.greedy)


def _distributed(request: ScoreRequest, output: Any) -> Scored:
    import numpy as np

    rest, completion = request.continuation_token_ids, output.outputs[0]
    parts = [_by_token(completion.logprobs, 1)]
    if len(rest) > 1:
        parts.insert(0, _by_token(output.prompt_logprobs, len(rest) - 1))
    distributions = np.concatenate(parts)
    if np.isnan(distributions).any():
        raise EngineError(
            f"request {request.index}: vLLM gave no log-probability of some tokens where "
            "distributions were asked for; set engine.dtype: float32 or bfloat16, or choose the "
            "method sampled"
        )
    chosen = distributions[np.arange(len(rest)), rest]
    greedy = bool((chosen == distributions.max(-1)).all())
    return Scored(request.index, tuple(chosen.tolist()), greedy, distributions)


def _by_token(reported: Any, positions: int) -> npt.NDArray[np.float32]:
    """The last positions of vLLM's flat report, in the order of token ids.

    Of each it holds the token that is there, and then all of the vocabulary, the likeliest first.
    """
    import numpy as np

    starts = reported.start_indices[-positions:]
    width = reported.end_indices[-1] - starts[-1]
    ids = np.asarray(reported.token_ids[starts[0] :], np.int64).reshape(positions, width)[:, 1:]
    values = np.asarray(reported.logprobs[starts[0] :], np.float32).reshape(positions, width)
    found = np.full(ids.shape, np.nan, np.float32)
    np.put_along_axis(found, ids, values[:, 1:], axis=1)
    return found
