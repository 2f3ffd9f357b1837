"""What is asked of vLLM for log-likelihoods: pure, without vLLM."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ptharness.engines.base import MOST_DISTRIBUTED, ScoreRequest, check_distributed
from ptharness.engines.vllm_score import MOST_WANTED, Answers, Ask, asks
from ptharness.errors import EngineError

LONG, SHORT = tuple(range(40)), (1, 2)
BLOCK = 32


def asked(
    context: tuple[int, ...], *choices: tuple[int, ...], block: int | None = BLOCK
) -> list[Ask]:
    requests = [ScoreRequest(i, context, choice) for i, choice in enumerate(choices)]
    return list(asks(requests, block))


def test_choices_of_one_token_are_one_prompt() -> None:
    (one,) = asked(SHORT, (5,), (6,), (5,), (7,))
    assert (one.token_ids, one.scored, one.wanted) == (SHORT, 0, (5, 6, 7))
    assert [request.index for request in one.requests] == [0, 1, 2, 3]


def test_a_long_context_is_computed_once() -> None:
    first, second, third = asked(LONG, (5, 6), (7, 8, 9))
    assert (first.token_ids, first.wanted, first.scored) == (LONG, (5, 7), 0)
    # Of two tokens the second is the one after the prompt: no logits of the prompt are needed.
    assert (second.token_ids, second.wanted, second.scored) == ((*LONG, 5), (6,), 0)
    assert (third.token_ids, third.wanted, third.scored) == ((*LONG, 7, 8), (9,), 1)


def test_a_short_context_is_computed_with_each_choice() -> None:
    (one,) = asked(SHORT, (5, 6, 7))
    assert (one.token_ids, one.scored, one.wanted, one.place) == ((1, 2, 5, 6), 2, (7,), 0)
    assert asked(LONG, (5, 6), block=None)[0].place == 0


def test_only_neighbours_share_a_context() -> None:
    requests = [ScoreRequest(i, (c,), (5,)) for i, c in enumerate([1, 1, 2, 1])]
    assert [len(ask.requests) for ask in asks(requests, BLOCK)] == [2, 1, 1]
    adapters = [ScoreRequest(0, (1,), (5,), "a"), ScoreRequest(1, (1,), (5,), "b")]
    assert [len(ask.requests) for ask in asks(adapters, BLOCK)] == [1, 1]


def test_vllm_reports_so_many_tokens_and_no_more() -> None:
    made = asked(SHORT, *((i,) for i in range(300)))
    assert [len(ask.wanted) for ask in made] == [MOST_WANTED, MOST_WANTED, 44]


def test_what_the_cache_holds_of_a_continuation_is_asked_again() -> None:
    (ask,) = asked(SHORT, (5, 6, 7))
    # Logits are needed from the context's last token on.
    assert ask.is_whole(1)
    assert not ask.is_whole(2)
    assert not ask.without_cache().cached


def test_whole_distributions_share_nothing() -> None:
    requests = [
        ScoreRequest(0, LONG, (5,)),
        *(ScoreRequest(i, LONG, (5, 6), distributions=True) for i in (1, 2)),
    ]
    shared, *whole = asks(requests, BLOCK)
    assert not shared.distributions
    for ask, request in zip(whole, requests[1:], strict=True):
        assert ask.requests == (request,)
        assert (ask.token_ids, ask.scored, ask.cached) == ((*LONG, 5), 1, False)
        assert ask.distributions


def reported(*ids: int) -> SimpleNamespace:
    """vLLM's flat report of one position: the token there, then all by rank."""
    values = [-float(token) for token in ids]
    return SimpleNamespace(start_indices=[0], end_indices=[4], token_ids=ids, logprobs=values)


def test_a_distribution_is_by_token_and_whole() -> None:
    (ask,) = asks([ScoreRequest(0, SHORT, (1,), distributions=True)], BLOCK)
    output = SimpleNamespace(outputs=[SimpleNamespace(logprobs=reported(1, 2, 0, 1))])
    (scored,) = Answers().add(ask, output)
    assert scored.distributions_nats is not None
    assert scored.distributions_nats.tolist() == [[0.0, -1.0, -2.0]]
    assert (scored.token_logprobs_nats, scored.greedy) == ((-1.0,), False)
    output.outputs[0].logprobs = reported(1, 2, 0, 2)
    with pytest.raises(EngineError, match="request 0: vLLM gave no log-probability"):
        list(Answers().add(ask, output))


@pytest.mark.parametrize("vocabulary", [0, MOST_DISTRIBUTED + 1])
def test_distributions_over_large_vocabularies_are_refused(vocabulary: int) -> None:
    check_distributed(ScoreRequest(3, LONG, (5,)), vocabulary)
    with pytest.raises(EngineError, match=f"request 3: .*{vocabulary} tokens"):
        check_distributed(ScoreRequest(3, LONG, (5,), distributions=True), vocabulary)
