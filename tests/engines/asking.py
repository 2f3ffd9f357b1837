"""Ask a real engine fixed questions, and compare its answers with transformers'."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ptharness.engines.base import Engine, Generated, GenerateRequest, Scored, ScoreRequest
from ptharness.lineage import Checkpoint
from ptharness.protocol import Sampling, derive_seed
from tests.engines.tiny import SPECIAL

EOS, END = SPECIAL.index("<eos>"), SPECIAL.index("<|end|>")
PROMPTS = tuple((1, *(6 + (7 * i + 3 * j) % 40 for j in range(4 + i))) for i in range(6))
GREEDY = Sampling(temperature=0.0, max_tokens=16)
WARM = Sampling(temperature=1.0, max_tokens=16)


def at(directory: Path) -> Checkpoint:
    return Checkpoint(directory.name, directory, str(directory))


def ask(
    engine: Engine,
    sampling: Sampling,
    *,
    samples: int = 1,
    stops: tuple[int, ...] = (EOS,),
    only: Iterable[int] = range(len(PROMPTS)),
    root: int = 0,
) -> dict[int, Generated]:
    requests = (
        GenerateRequest(i, PROMPTS[i], samples, derive_seed(root, i), sampling, stops) for i in only
    )
    return {result.index: result for result in engine.generate(requests)}


def ask_scores(engine: Engine, requests: list[ScoreRequest]) -> dict[int, Scored]:
    return {result.index: result for result in engine.score(requests)}


@cache
def reference(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype="float32").eval()


def reference_logprobs(directory: Path, context: tuple[int, ...], rest: tuple[int, ...]) -> Any:
    """Log-probabilities of `rest` after `context` by transformers, and their ranks' being 1."""
    import torch

    with torch.inference_mode():
        logits = reference(directory)(torch.tensor([context + rest])).logits[0].float()
    logprobs = logits.log_softmax(-1)[len(context) - 1 : -1]
    chosen = logprobs.gather(1, torch.tensor(rest)[:, None])[:, 0]
    return chosen.tolist(), bool((logprobs.argmax(-1) == torch.tensor(rest)).all())


def assert_equals_transformers(
    engine: Engine, directory: Path, stops: tuple[int, ...] = (EOS, END)
) -> None:
    """Greedy tokens, the log-probabilities of all samples, and scores, to 1e-4 nats."""
    import torch

    for index, result in ask(engine, GREEDY, stops=stops).items():
        with torch.inference_mode():
            expected = reference(directory).generate(
                torch.tensor([PROMPTS[index]]),
                max_new_tokens=GREEDY.max_tokens,
                do_sample=False,
                eos_token_id=list(stops),
            )[0, len(PROMPTS[index]) :]
        assert result.completions[0].token_ids == tuple(expected.tolist())
    for index, result in ask(engine, WARM, samples=3, stops=stops).items():
        for drawn in result.completions:
            logprobs, _ = reference_logprobs(directory, PROMPTS[index], drawn.token_ids)
            assert drawn.token_logprobs_nats == pytest.approx(logprobs, abs=1e-4)
    requests = [ScoreRequest(i, PROMPTS[i], (9, 8 + i, 7)) for i in range(len(PROMPTS))]
    for index, scored in ask_scores(engine, requests).items():
        logprobs, greedy = reference_logprobs(directory, PROMPTS[index], (9, 8 + index, 7))
        assert scored.token_logprobs_nats == pytest.approx(logprobs, abs=1e-4)
        assert scored.greedy == greedy


def reference_greedy(directory: Path, context: tuple[int, ...], count: int) -> tuple[int, ...]:
    """The likeliest continuation of `count` tokens by transformers."""
    import torch

    tokens = list(context)
    with torch.inference_mode():
        for _ in range(count):
            logits = reference(directory)(torch.tensor([tokens])).logits[0, -1]
            tokens.append(int(logits.argmax()))
    return tuple(tokens[len(context) :])


def assert_distributions_equal_transformers(engine: Engine, directory: Path) -> None:
    """Of every token of the vocabulary, at every position, among requests that ask for less."""
    import torch

    context, rest = PROMPTS[3], (9, 8, 7, 6)
    long = (1, *(6 + (i * i) % 40 for i in range(200)))
    pairs = [(context, rest), (context, rest[:1]), (context, rest), (long, rest), (long, rest[:2])]
    requests = [ScoreRequest(i, *pairs[i % 5], distributions=5 <= i < 10) for i in range(15)]
    scored = ask_scores(engine, requests)
    assert sorted(scored) == list(range(15))
    for request in requests:
        asked, wanted = request.context_token_ids, request.continuation_token_ids
        logprobs, greedy = reference_logprobs(directory, asked, wanted)
        result = scored[request.index]
        assert result.token_logprobs_nats == pytest.approx(logprobs, abs=1e-4)
        assert result.greedy == greedy
        if not request.distributions:
            assert result.distributions_nats is None
            continue
        with torch.inference_mode():
            logits = reference(directory)(torch.tensor([asked + wanted])).logits[0]
        expected = logits.log_softmax(-1)[len(asked) - 1 : -1].numpy()
        assert result.distributions_nats is not None
        assert result.distributions_nats.shape == expected.shape
        assert abs(result.distributions_nats - expected).max() < 1e-4
