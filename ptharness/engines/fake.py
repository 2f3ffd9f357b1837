"""A deterministic engine without a model: for plugin authors, and for testing everything else.

Its completions are a function of the weight files' bytes, the prompt, the seed and the sample's
number, so two checkpoints differ, a rerun agrees, and the order of requests does not matter. A
token's log-probability is a function of the weights and of all tokens up to it; in a whole
distribution the other tokens share the rest equally.
Worked example: `engine: {name: fake, success: 0.7, answer: "42"}` answers "42" to about 70 % of
samples and noise to the others. It is never a default.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ptharness.engines.base import (
    MOST_DISTRIBUTED,
    Capabilities,
    Completion,
    Engine,
    EngineSettings,
    Generated,
    GenerateRequest,
    LoadReport,
    Scored,
    ScoreRequest,
    check_distributed,
    vocabulary_size,
)
from ptharness.errors import CheckpointError, EngineError, near_misses
from ptharness.fingerprint import read_config, weight_files, weights_digest
from ptharness.lineage import Checkpoint
from ptharness.safetensors_header import tensor_shapes

CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz "
OPTIONS: Mapping[str, type] = {
    "answer": str,  # text of a successful completion
    "success": float,  # share of completions that are the answer
    "delay_s": float,  # wait before each result
    "fail_on": str,  # name of a checkpoint that cannot be loaded
    "crash_on": str,  # name of a checkpoint that kills the process when it generates
    "crash_after": int,  # results after which the process dies
    "raise_after": int,  # results after which generate raises EngineError
}


class FakeEngine(Engine):
    """Pseudo-random completions; a `fake.json` in a checkpoint's folder overrides options."""

    name: ClassVar[str] = "fake"
    capabilities: ClassVar[Capabilities] = Capabilities(
        swaps=True, adapters=True, window=8, distributions=MOST_DISTRIBUTED
    )

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.check_options(settings.options)
        self._options = dict(settings.options)
        self._checkpoint: Checkpoint | None = None
        self._digest = ""
        self._results = 0

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `EngineError` for an unknown option or a value of the wrong type."""
        for name, value in options.items():
            if name not in OPTIONS:
                raise EngineError(
                    f"engine.{name}: not an option of the fake engine{near_misses(name, OPTIONS)}"
                )
            accepted = (int, float) if OPTIONS[name] is float else (OPTIONS[name],)
            if not isinstance(value, accepted) or isinstance(value, bool):
                kind = OPTIONS[name].__name__
                raise EngineError(f"engine.{name}: {value!r} is not a value of type {kind}")

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        """Version of the rule, and the options that change what is drawn."""
        drawn = {k: str(v) for k, v in settings.options.items() if k in ("answer", "success")}
        return {"engine": cls.name, "version": "1", **drawn}

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        """Read the digest of the weights and, if there is one, the folder's fake.json."""
        began = time.perf_counter()
        if checkpoint.name == self.settings.options.get("fail_on"):
            raise CheckpointError(f"{checkpoint.name}: planted failure (engine.fail_on)")
        how = "cold" if self._checkpoint is None else "swap"
        own = checkpoint.directory / "fake.json"
        self._options = dict(self.settings.options)
        self._digest = str(checkpoint.adapter or "")
        if own.is_file():
            content = own.read_text(encoding="utf-8")
            self._digest += hashlib.sha256(content.encode()).hexdigest()
            self._options |= json.loads(content)
            self.check_options(self._options)
        else:
            for path in weight_files(checkpoint.directory):
                tensor_shapes(path)
            self._digest += weights_digest(checkpoint.directory)
        self._checkpoint = checkpoint
        seconds = time.perf_counter() - began
        if checkpoint.adapter:
            return LoadReport(checkpoint.name, "adapter", seconds, verified=True)
        return LoadReport(
            checkpoint.name, "cold" if how == "cold" else "swap", seconds, verified=True
        )

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        """Yield each request's completions, in order."""
        for request in requests:
            self._before_result()
            completions = tuple(self._draw(request, j) for j in range(request.samples))
            yield Generated(request.index, completions)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield a pseudo-random log-probability for each continuation token."""
        for request in requests:
            self._before_result()
            context, wanted = request.context_token_ids, request.continuation_token_ids
            likeliest = tuple(ord(character) for character in self._text(context, ()))
            greedy = wanted == likeliest[: len(wanted)]
            logprobs = self._logprobs(context, wanted)
            whole = self._distributions(request, logprobs) if request.distributions else None
            yield Scored(request.index, logprobs, greedy, whole)

    def _before_result(self) -> None:
        if self._checkpoint is None:
            raise EngineError("no checkpoint is loaded; call load() first")
        time.sleep(self._options.get("delay_s", 0.0))
        crash_after = self._options.get("crash_after", math.inf)
        if self._results >= crash_after or self._checkpoint.name == self._options.get("crash_on"):
            os._exit(66)
        if self._results >= self._options.get("raise_after", math.inf):
            raise EngineError("planted failure (engine.raise_after)")
        self._results += 1

    def _draw(self, request: GenerateRequest, sample: int) -> Completion:
        sampling = request.sampling
        text = self._text(
            request.prompt_token_ids, (request.seed, sample) if sampling.temperature else ()
        )
        ends = [text.find(stop) + len(stop) for stop in sampling.stop if stop and stop in text]
        text = text[: min(ends, default=None)]
        finished = len(text) + (not ends) <= sampling.max_tokens
        text = text[: sampling.max_tokens]
        stop = request.stop_token_ids[:1] if finished and not ends else ()
        token_ids = (*(ord(character) for character in text), *stop)
        logprobs = self._logprobs(request.prompt_token_ids, token_ids)
        return Completion(token_ids, logprobs, text, "stop" if finished else "length")

    def _text(self, prompt: tuple[int, ...], stream: tuple[int, ...]) -> str:
        """The whole completion in a stream; the empty one is the greedy one."""
        source = self._random(prompt, stream)
        text = str(self._options.get("answer", ""))
        if source.random() >= self._options.get("success", 0.0):
            text = "".join(source.choices(CHARACTERS, k=source.randint(1, 12)))
        return text

    def _logprobs(self, context: tuple[int, ...], token_ids: tuple[int, ...]) -> tuple[float, ...]:
        every = context + token_ids
        return tuple(
            -self._random(every[: len(context) + i + 1]).expovariate(1.0)
            for i in range(len(token_ids))
        )

    def _distributions(
        self, request: ScoreRequest, logprobs: Sequence[float]
    ) -> npt.NDArray[np.float32]:
        assert self._checkpoint is not None
        vocabulary = vocabulary_size(read_config(self._checkpoint.directory))
        check_distributed(request, vocabulary)
        # What it says are code points, whatever tokens the checkpoint has.
        vocabulary = max(vocabulary, max(request.continuation_token_ids) + 1)
        chosen = np.exp(logprobs)[:, None]
        every = np.log1p(-chosen) - math.log(vocabulary - 1) + np.zeros(vocabulary)
        every[np.arange(len(logprobs)), list(request.continuation_token_ids)] = logprobs
        return np.asarray(every, np.float32)

    def _random(self, *parts: Any) -> random.Random:
        return random.Random(repr((self._digest, parts)))
