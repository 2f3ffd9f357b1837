"""The clauses of an engine's contract about what it generates, and how it scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ptharness.engines.base import ScoreRequest, vocabulary_size
from ptharness.fingerprint import read_config
from ptharness.protocol import cut_at_stop
from ptharness.testing.engine_checks import (
    CLOSE,
    GREEDY,
    PROMPTS,
    WARM,
    Asker,
    Endless,
    answers_to,
    check_completion,
    check_logprobs,
    close_to,
    scores_of,
)
from ptharness.testing.engine_running import EngineUnderTest, Running


class AnswerClauses(EngineUnderTest):
    """What an engine that runs must answer; part of `EngineContract`."""

    # --- generating ---------------------------------------------------------------------------

    def test_every_request_is_answered_once(self, one: Asker) -> None:
        requests = one.requests(WARM, samples=3, only=(4, 0, 5)) + one.requests(
            GREEDY, samples=1, only=(2,)
        )
        answers_to(one.engine, requests)
        assert answers_to(one.engine, []) == {}

    def test_requests_are_taken_lazily(self, one: Asker) -> None:
        window = one.engine.capabilities.window
        endless = Endless(one, replace(WARM, max_tokens=4), 20 + 2 * window)
        results = one.engine.generate(iter(endless))
        for _ in range(20):
            next(results)
        _close(results)

    def test_closing_early_leaves_it_usable(self, one: Asker) -> None:
        expected = one.say(GREEDY, samples=1)
        endless = Endless(one, WARM, 10 + 4 * one.engine.capabilities.window)
        results = one.engine.generate(iter(endless))
        next(results)
        _close(results)
        assert one.say(GREEDY, samples=1) == expected

    def test_completions_end_as_they_say(self, one: Asker) -> None:
        tokens = one.engine.capabilities.tokens
        reasons: Counter[str] = Counter()
        for result in one.ask(WARM, samples=16).values():
            for completion in result.completions:
                check_completion(completion, WARM, one.stops, tokens=tokens)
                reasons[completion.finish_reason] += 1
        if tokens:
            assert reasons["stop"], (
                f"none of {reasons.total()} completions met a token of {one.stops}; set "
                "`stop_token_ids` to tokens that end some"
            )
        for result in one.ask(replace(WARM, max_tokens=1)).values():
            for completion in result.completions:
                check_completion(completion, replace(WARM, max_tokens=1), one.stops, tokens=tokens)

    def test_a_stop_string_ends_a_completion(self, one: Asker) -> None:
        free = one.ask(WARM)
        texts = [completion.text for r in free.values() for completion in r.completions]
        letters = Counter(letter for text in texts for letter in {*text})
        [(stop, times)] = letters.most_common(1)
        assert times > 1, f"no letter is in two of the texts {texts}"
        until = replace(WARM, stop=(stop,))
        for index, result in one.ask(until).items():
            pairs = zip(result.completions, free[index].completions, strict=True)
            for completion, unstopped in pairs:
                check_completion(
                    completion, until, one.stops, tokens=one.engine.capabilities.tokens
                )
                after = completion.text.partition(stop)[2]
                assert len(after) < 16, f"{completion}: goes on after the stop string {stop!r}"
                if one.engine.capabilities.reproducible:
                    assert cut_at_stop(completion.text, (stop,)) == cut_at_stop(
                        unstopped.text, (stop,)
                    ), f"a stop string changed what comes before it: {completion}, {unstopped}"

    def test_greedy_completions_are_all_the_same(self, one: Asker) -> None:
        first = one.say(GREEDY, samples=3)
        for index, drawn in first.items():
            assert len(set(drawn)) == 1, f"request {index}: greedy samples differ: {drawn}"
        assert one.say(GREEDY, samples=3, root=1) == first, "greedy samples depend on the seed"

    def test_samples_differ(self, one: Asker) -> None:
        drawn = one.say(WARM)
        alike = [index for index, samples in drawn.items() if len(set(samples)) == 1]
        assert len(alike) < len(drawn), f"at temperature 1 all samples are alike: {drawn}"
        again = one.say(WARM, root=1)
        assert all(again[index] != drawn[index] for index in drawn if index not in alike), (
            "another seed gives the same samples"
        )

    def test_samples_depend_on_their_request_alone(self, one: Asker) -> None:
        self._skip_unless_reproducible(one)
        together = one.say(WARM)
        assert one.say(WARM) == together, "the same requests give other samples"
        assert one.say(WARM, only=(3,)) == {30: together[30]}, "alone, a request answers otherwise"
        assert one.say(WARM, only=(5, 2, 0, 4, 1, 3)) == together, "the order matters"

    def test_more_samples_begin_with_the_same(self, one: Asker) -> None:
        self._skip_unless_reproducible(one)
        few, more = one.say(WARM, samples=2), one.say(WARM, samples=5)
        assert {index: drawn[:2] for index, drawn in more.items()} == few, (
            "sample j must depend on the seed and on j alone"
        )

    def test_every_token_has_its_log_probability(self, one: Asker) -> None:
        self._skip_unless_tokens(one)
        for result in one.ask(WARM).values():
            for completion in result.completions:
                values = completion.token_logprobs_nats
                check_logprobs(values, len(completion.token_ids), completion)

    # --- log-likelihoods ----------------------------------------------------------------------

    def test_every_continuation_is_scored_once(self, one: Asker) -> None:
        self._skip_unless_scores(one)
        requests = [ScoreRequest(7 * i, PROMPTS[i], PROMPTS[i][1 : 2 + i]) for i in (3, 0, 5)]
        for index, scored in scores_of(one.engine, requests).items():
            tokens = len(next(r for r in requests if r.index == index).continuation_token_ids)
            count = tokens if one.engine.capabilities.tokens else len(scored.token_logprobs_nats)
            check_logprobs(scored.token_logprobs_nats, count, scored)
            assert isinstance(scored.greedy, bool), f"{scored}: greedy is no yes or no"

    def test_scores_are_those_of_the_samples(self, one: Asker) -> None:
        self._skip_unless_scores(one)
        self._skip_unless_tokens(one)
        drawn = {index: r.completions[0] for index, r in one.ask(WARM, samples=1).items()}
        requests = [
            ScoreRequest(index, PROMPTS[index // 10], completion.token_ids)
            for index, completion in drawn.items()
        ]
        for index, scored in scores_of(one.engine, requests).items():
            for token in zip(
                scored.token_logprobs_nats, drawn[index].token_logprobs_nats, strict=True
            ):
                assert close_to(*token), (
                    f"request {index}: a token has the log-probability {token[0]} when scored "
                    f"and {token[1]} when drawn; both are the model's, at temperature 1"
                )

    def test_scores_add_up(self, one: Asker) -> None:
        self._skip_unless_scores(one)
        whole, prompt = PROMPTS[5][1:7], PROMPTS[0]
        asked = {0: (prompt, whole), 1: (prompt, whole[:2]), 2: (prompt + whole[:2], whole[2:])}
        scores = scores_of(one.engine, [ScoreRequest(i, *pair) for i, pair in asked.items()])
        total, first, rest = (sum(scores[i].token_logprobs_nats) for i in range(3))
        assert close_to(first + rest, total), (
            f"a continuation has {total} nats, and its two parts have {first} and {rest}"
        )

    def test_distributions_agree_with_the_scores(self, one: Asker, running: Running) -> None:
        most = one.engine.capabilities.distributions
        vocabulary = vocabulary_size(read_config(running.folders["one"])) if most else 0
        if not 0 < vocabulary <= most:
            pytest.skip("it promises no distributions over this vocabulary")
        requests = [
            ScoreRequest(i, PROMPTS[i], PROMPTS[i][1 : 2 + i], distributions=i > 1)
            for i in range(len(PROMPTS))
        ]
        scores = scores_of(one.engine, requests)
        for request in requests:
            whole, rest = scores[request.index].distributions_nats, request.continuation_token_ids
            assert (whole is not None) == request.distributions, (
                f"request {request.index}: distributions are for those that ask for them"
            )
            if whole is None:
                continue
            assert whole.shape == (len(rest), vocabulary), (
                f"request {request.index}: distributions of shape {whole.shape} where "
                f"{len(rest)} tokens are out of {vocabulary}"
            )
            total = np.exp(whole.astype(np.float64)).sum(-1)
            assert np.abs(total - 1).max() < CLOSE, (
                f"request {request.index}: probabilities sum to {total.tolist()}, not to 1"
            )
            values = scores[request.index].token_logprobs_nats
            found = whole[np.arange(len(rest)), list(rest)].tolist()
            same = len(found) == len(values) and all(map(close_to, found, values))
            assert same, (
                f"request {request.index}: the tokens {rest} have {found} in the distributions, "
                f"which are by token id, and {list(values)} beside them"
            )

    def test_a_greedy_continuation_is_recognised(self, one: Asker) -> None:
        self._skip_unless_scores(one)
        self._skip_unless_tokens(one)
        drawn = {i: r.completions[0].token_ids for i, r in one.ask(GREEDY, samples=1).items()}
        # Without what ends it, unless that is all that there is.
        likeliest = {i: ids[: max(1, min(3, len(ids) - 1))] for i, ids in drawn.items()}
        other = {i: (*ids[:-1], ids[-1] + 1) for i, ids in likeliest.items()}
        for continuations, expected in ((likeliest, True), (other, False)):
            requests = [ScoreRequest(i, PROMPTS[i // 10], c) for i, c in continuations.items()]
            for index, scored in scores_of(one.engine, requests).items():
                assert scored.greedy == expected, (
                    f"request {index}: {continuations[index]} is said to be "
                    f"{'greedy' if scored.greedy else 'not greedy'}, and it is the other way round"
                )


def _close(results: Iterator[Any]) -> None:
    """End an iterator early; one that is no generator has nothing to close."""
    close = getattr(results, "close", None)
    if close is not None:
        close()
