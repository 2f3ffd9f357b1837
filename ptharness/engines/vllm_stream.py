"""Keep vLLM's engine fed from an iterable, and yield each request as it finishes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from ptharness.errors import EngineError, PtharnessError

Request = TypeVar("Request")
_numbers = itertools.count()


class Asked(NamedTuple):
    """A request as vLLM takes it: `adapter` is its `LoRARequest`, None for the base's weights."""

    token_ids: list[int]
    parameters: Any
    adapter: Any = None


class StepError(EngineError):
    """vLLM failed in the middle of a step; what it holds is not to be trusted any more."""


def stream(
    engine: Any,
    requests: Iterable[Request],
    window: int,
    arguments: Callable[[Request], Asked],
) -> Iterator[tuple[Request, Any]]:
    """Yield (request, vLLM's finished output), keeping up to `window` requests in flight.

    `engine` is an `LLMEngine`; `arguments` says what a request asks of it, right before it is
    handed over, and raises where it cannot be served. Fewer requests are in flight where they
    have many samples: twice what vLLM computes at once keeps it busy, and more would only
    wait. Whatever ends this generator (the caller closing it, an error) leaves no request
    behind. Raises `StepError` where vLLM fails.
    """
    waiting = iter(requests)
    flying: dict[str, Request] = {}
    samples: dict[str, int] = {}
    most = 2 * int(engine.vllm_config.scheduler_config.max_num_seqs)
    exhausted = False
    try:
        while True:
            while not exhausted and len(flying) < window and sum(samples.values()) < most:
                request = next(waiting, None)
                if request is None:
                    exhausted = True
                    break
                asked = arguments(request)
                # vLLM accepts an id twice without a word, so ids are never used again.
                name = f"ptharness-{next(_numbers)}"
                flying[name], samples[name] = request, asked.parameters.n
                prompt = {"prompt_token_ids": asked.token_ids}
                engine.add_request(name, prompt, asked.parameters, lora_request=asked.adapter)
            if not flying:
                return
            for output in _step(engine):
                if output.finished and output.request_id in flying:
                    del samples[output.request_id]
                    yield flying.pop(output.request_id), output
    finally:
        if flying:
            engine.abort_request(list(flying))


def _step(engine: Any) -> list[Any]:
    try:
        return list(engine.step())
    except PtharnessError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise StepError(f"vLLM failed in a step: {type(error).__name__}: {reason}") from error
