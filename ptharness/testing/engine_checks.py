"""The single checks that the contract of an engine is made of, and the questions it asks."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ptharness.engines.base import (
    Completion,
    Engine,
    Generated,
    GenerateRequest,
    Scored,
    ScoreRequest,
)
from ptharness.protocol import Sampling, derive_seed

GREEDY = Sampling(temperature=0.0, max_tokens=12)
WARM = Sampling(temperature=1.0, max_tokens=12)
SAMPLES = 6

PROMPTS = tuple((1, *(6 + (7 * i + 3 * j) % 40 for j in range(4 + i))) for i in range(6))
"""Of several lengths, within the vocabulary of `write_model`."""

NEEDED_TOKENS = 64
"""More than any request of the contract has, prompt and completion together."""

CLOSE = 2e-3
"""Nats by which a log-probability may differ between two ways to compute it."""

HEAVY = ("torch", "vllm", "transformers", "lm_eval", "datasets", "tensorflow", "jax", "ray")

_IDENTITY = """
import importlib, json, sys
module, name = sys.argv[1].split(":")
engine = importlib.import_module(module)
for part in name.split("."):
    engine = getattr(engine, part)
from ptharness.engines.base import EngineSettings
engine.identity(EngineSettings(engine.name, json.loads(sys.argv[2])))
print(json.dumps([name for name in sys.argv[3:] if name in sys.modules]))
"""

Said = tuple[tuple[int, ...] | str, ...]
"""The tokens of each completion of a request, or their texts where there are no tokens."""


class Asker:
    """Asks an engine the same questions again and again."""

    def __init__(self, engine: Engine, stops: tuple[int, ...]) -> None:
        self.engine, self.stops = engine, stops

    def requests(
        self,
        sampling: Sampling,
        *,
        samples: int = SAMPLES,
        only: Iterable[int] = range(len(PROMPTS)),
        root: int = 0,
    ) -> list[GenerateRequest]:
        """One request for each prompt; its index is ten times the prompt's."""
        return [
            GenerateRequest(10 * i, PROMPTS[i], samples, derive_seed(root, i), sampling, self.stops)
            for i in only
        ]

    def ask(self, sampling: Sampling, **how: Any) -> dict[int, Generated]:
        """The answers by index, checked to be one for each request."""
        return answers_to(self.engine, self.requests(sampling, **how))

    def say(self, sampling: Sampling, **how: Any) -> dict[int, Said]:
        """What is said to each request, by index."""
        return {i: said(result) for i, result in sorted(self.ask(sampling, **how).items())}


def answers_to(engine: Engine, requests: Sequence[GenerateRequest]) -> dict[int, Generated]:
    """The answers by index. Asserts that each request has one, with all of its samples."""
    results = list(engine.generate(iter(requests)))
    check_indices([result.index for result in results], [request.index for request in requests])
    asked = {request.index: request for request in requests}
    for result in results:
        assert len(result.completions) == asked[result.index].samples, (
            f"request {result.index} wants {asked[result.index].samples} samples and got "
            f"{len(result.completions)}"
        )
    return {result.index: result for result in results}


def scores_of(engine: Engine, requests: Sequence[ScoreRequest]) -> dict[int, Scored]:
    """The log-likelihoods by index. Asserts that each request has one."""
    results = list(engine.score(iter(requests)))
    check_indices([result.index for result in results], [request.index for request in requests])
    return {result.index: result for result in results}


def check_indices(got: Sequence[int], wanted: Sequence[int]) -> None:
    """Assert that every index came back once."""
    assert sorted(got) == sorted(wanted), (
        f"requests {sorted(wanted)} were answered as {sorted(got)}; yield one result for each, "
        "with its own index"
    )


def said(result: Generated) -> Said:
    """The tokens of each completion, or their texts where there are no tokens."""
    return tuple(completion.token_ids or completion.text for completion in result.completions)


def check_completion(
    completion: Completion, sampling: Sampling, stops: Sequence[int], *, tokens: bool
) -> None:
    """Assert that one completion is whole, and ends as it says."""
    assert isinstance(completion.text, str), f"{completion}: the text is no text"
    if not tokens:
        assert completion.token_ids == completion.token_logprobs_nats == (), (
            f"{completion}: an engine without capabilities.tokens leaves token ids and "
            "log-probabilities empty"
        )
        return
    ids = completion.token_ids
    assert ids, f"{completion}: a completion has a token at least, the one that ends it"
    assert len(ids) <= sampling.max_tokens, (
        f"{completion}: {len(ids)} tokens where at most {sampling.max_tokens} were asked for"
    )
    assert not set(ids[:-1]) & set(stops), f"{completion}: goes on after a stop token of {stops}"
    if completion.finish_reason == "stop":
        at_string = any(stop in completion.text for stop in sampling.stop)
        assert ids[-1] in stops or at_string, (
            f"{completion}: says stop, and neither ends with one of {tuple(stops)} nor holds one "
            f"of {sampling.stop}"
        )
    else:
        assert completion.finish_reason == "length", (
            f"{completion}: the reason of its end is neither stop nor length"
        )
        assert len(ids) == sampling.max_tokens, (
            f"{completion}: says length, and has {len(ids)} tokens of {sampling.max_tokens}"
        )
        assert ids[-1] not in stops, f"{completion}: says length, and ends with a stop token"


def check_logprobs(values: Sequence[float], tokens: int, what: object) -> None:
    """Assert that there is one log-probability for each token."""
    assert len(values) == tokens, f"{what}: {len(values)} log-probabilities of {tokens} tokens"
    for value in values:
        assert isinstance(value, float), f"{what}: {value!r} is no number"
        assert -math.inf < value <= CLOSE, (
            f"{what}: {value!r} is no log-probability in nats; they are finite and at most 0"
        )


def close_to(left: float, right: float) -> bool:
    """Whether two log-likelihoods are the same but for rounding."""
    return abs(left - right) <= CLOSE + 1e-3 * abs(right)


class Endless:
    """Requests without end, which say so when an engine takes more than `most` of them."""

    def __init__(self, asker: Asker, sampling: Sampling, most: int) -> None:
        self.pulled = 0
        self._asker, self._sampling, self._most = asker, sampling, most

    def __iter__(self) -> Iterator[GenerateRequest]:
        while True:
            assert self.pulled < self._most, (
                f"{self.pulled} requests were taken before enough results came; take them "
                "lazily, about capabilities.window at a time, and yield results as they finish"
            )
            index, self.pulled = self.pulled, self.pulled + 1
            yield GenerateRequest(
                index,
                PROMPTS[index % len(PROMPTS)],
                1,
                derive_seed("endless", index),
                self._sampling,
                self._asker.stops,
            )


def imported_for_identity(engine: type[Engine], options: str) -> str:
    """Heavy libraries that importing the engine and its `identity` import, as JSON.

    They are tried in a process of their own; what it says instead where it fails.
    """
    place = f"{engine.__module__}:{engine.__qualname__}"
    ran = subprocess.run(
        [sys.executable, "-c", _IDENTITY, place, options, *HEAVY],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    return ran.stdout.strip() if ran.returncode == 0 else ran.stderr.strip()
