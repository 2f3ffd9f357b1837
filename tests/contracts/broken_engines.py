"""Engines that break one clause of the contract each, and some that keep it.

tests/test_engine_testing.py runs the suite over them and checks which tests fail.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from ptharness.engines.base import (
    Capabilities,
    Completion,
    EngineSettings,
    Generated,
    GenerateRequest,
    LoadReport,
    Scored,
    ScoreRequest,
)
from ptharness.engines.fake import FakeEngine
from ptharness.errors import CheckpointError, EngineError
from ptharness.hookspecs import hookimpl
from ptharness.lineage import Checkpoint
from ptharness.testing import (
    EngineContract,
    leave_adapter_config,
    write_checkpoint,
    write_safetensors,
)

TURNS = itertools.count()


class Sound(FakeEngine):
    """Keeps every clause."""

    name: ClassVar[str] = "sound"

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        for result in super().generate(self.heard(requests)):
            yield self.told(result)

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        """The requests as they are taken, for others to change."""
        yield from requests

    def told(self, result: Generated) -> Generated:
        """A result as it is given, for others to change."""
        return result


def each(result: Generated, change: Any) -> Generated:
    return Generated(result.index, tuple(change(completion) for completion in result.completions))


class TextAlone(Sound):
    """Keeps every clause: it gives no tokens, and says so."""

    capabilities = Capabilities(swaps=True, tokens=False, window=8)

    def told(self, result: Generated) -> Generated:
        return each(result, lambda c: Completion((), (), c.text, "unknown"))

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        for scored in super().score(requests):
            yield replace(scored, token_logprobs_nats=(sum(scored.token_logprobs_nats),))


class NeverTwiceTheSame(Sound):
    """Keeps every clause: its samples depend on when they are drawn, and it says so."""

    capabilities = Capabilities(swaps=True, reproducible=False, window=8)

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for request in requests:
            yield replace(request, seed=next(TURNS))


class NameOfTwoLines(Sound):
    """Its name cannot be printed in a list."""

    name = "sound\nand more"


class RefusesItsOwn(Sound):
    """No option is good enough."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(replace(settings, options={}))

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        if options:
            raise EngineError(f"engine: {', '.join(options)}: refused")


class TakesAnything(Sound):
    """Every option is good."""

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        pass


class RaisesTypeError(Sound):
    """A wrong option is a crash."""

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        try:
            super().check_options(options)
        except EngineError as error:
            raise TypeError(str(error)) from error


class ErrorWithoutOption(Sound):
    """It does not say which option is wrong."""

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        try:
            super().check_options(options)
        except EngineError as error:
            raise EngineError("wrong") from error


class NumbersInIdentity(Sound):
    """Its identity is not text."""

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        numbers: Any = {"version": 7}
        return {**super().identity(settings), **numbers}


class Anonymous(Sound):
    """Its identity leaves its name out."""

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        return {"version": "1"}


class MoodyIdentity(Sound):
    """Its identity is another one each time."""

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        return {**super().identity(settings), "turn": str(next(TURNS))}


class IdentityOfThePlan(Sound):
    """Its identity depends on the plan."""

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        return {**super().identity(settings), "needed": str(settings.needed_tokens)}


class Heavy(Sound):
    """Its identity imports what computes."""

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        sys.modules.setdefault("jax", ModuleType("jax"))
        return super().identity(settings)


def hidden() -> type[Sound]:
    class Hidden(Sound):
        """No other process can find it."""

    return Hidden


class Unregistered(Sound):
    """No plugin adds it."""


class NoDocstring(Sound):
    pass


class AnswersUnloaded(Sound):
    """It answers with nothing loaded."""

    def _before_result(self) -> None:
        pass


class ReportsOthers(Sound):
    """It reports on another checkpoint."""

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        return replace(super().load(checkpoint), checkpoint="another")


class SilentReport(Sound):
    """It has not verified the weights, and does not say why."""

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        return replace(super().load(checkpoint), verified=False)


class Stale(Sound):
    """The first weights stay."""

    first = ""

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        report = super().load(checkpoint)
        self.first = self.first or self._digest
        self._digest = self.first
        return report


class NeverSwaps(Sound):
    """It promises swaps and starts afresh."""

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        report = super().load(checkpoint)
        return replace(report, how="cold") if report.how == "swap" else report


class RemembersPaths(Sound):
    """What it has loaded once from a path it never reads again."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.known: dict[Path, str] = {}

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        report = super().load(checkpoint)
        self._digest = self.known.setdefault(checkpoint.directory, self._digest)
        return report


class BlamesItself(Sound):
    """A broken checkpoint ends the engine."""

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        try:
            return super().load(checkpoint)
        except CheckpointError as error:
            raise EngineError(str(error)) from error


class NamesNothing(Sound):
    """A broken checkpoint is not named."""

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        try:
            return super().load(checkpoint)
        except CheckpointError as error:
            raise CheckpointError("cannot be loaded") from error


class Spoilt(Sound):
    """A broken checkpoint leaves something behind in those after it."""

    broken = 0

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        try:
            report = super().load(checkpoint)
        except CheckpointError:
            self.broken += 1
            raise
        self._digest += str(self.broken)
        return report


class IgnoresAdapters(Sound):
    """An adapter is not looked at."""

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        report = super().load(replace(checkpoint, adapter=None))
        return replace(report, how="adapter") if checkpoint.adapter else report


class KeepsAdapters(Sound):
    """An adapter stays where it has been."""

    kept = ""

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        report = super().load(checkpoint)
        self.kept = str(checkpoint.adapter) if checkpoint.adapter else self.kept
        self._digest += self.kept
        return report


class FailsOnNothing(Sound):
    """No requests are an error."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        count = 0
        for request in requests:
            count += 1
            yield request
        if not count:
            raise EngineError("no requests")


class GreedyOnce(Sound):
    """Of greedy samples it gives one."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for request in requests:
            yield request if request.sampling.temperature else replace(request, samples=1)


class Eager(Sound):
    """It takes all requests before it answers the first."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        yield from list(requests)


class LeavesTraces(Sound):
    """A stream that is closed early changes what is said later."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        try:
            yield from requests
        except GeneratorExit:
            self._digest += "?"
            raise

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        heard = self.heard(requests)
        try:
            yield from FakeEngine.generate(self, heard)
        finally:
            heard.close()  # type: ignore[attr-defined]


class GoesOn(Sound):
    """A stop token stops nothing."""

    def told(self, result: Generated) -> Generated:
        def longer(completion: Completion) -> Completion:
            ids = completion.token_ids
            if ids[-1] != 2 or len(ids) > 10:
                return completion
            logprobs = (*completion.token_logprobs_nats, -1.0)
            return replace(completion, token_ids=(*ids, 50), token_logprobs_nats=logprobs)

        return each(result, longer)


class NeverTooLong(Sound):
    """It says stop whatever ends a completion."""

    def told(self, result: Generated) -> Generated:
        return each(result, lambda c: replace(c, finish_reason="stop"))


class TooLong(Sound):
    """It has room for one token more."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for request in requests:
            sampling = replace(request.sampling, max_tokens=request.sampling.max_tokens + 1)
            yield replace(request, sampling=sampling)


class TokensAnyway(Sound):
    """It gives tokens, and says that it does not."""

    capabilities = Capabilities(swaps=True, tokens=False, window=8)


class IgnoresStops(Sound):
    """Stop strings are ignored."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for request in requests:
            sampling = replace(request.sampling, stop=())
            yield replace(request, sampling=sampling)

    def told(self, result: Generated) -> Generated:
        return each(result, lambda c: replace(c, text=c.text + "." * 20))


class WarmAtZero(Sound):
    """Greedy samples are drawn like others."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for request in requests:
            temperature = request.sampling.temperature or 1.0
            yield replace(request, sampling=replace(request.sampling, temperature=temperature))


class AlwaysGreedy(Sound):
    """It never draws."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for request in requests:
            yield replace(request, sampling=replace(request.sampling, temperature=0.0))


class OneSeed(Sound):
    """The seed does not matter."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for request in requests:
            yield replace(request, seed=0)


class SeedsByPlace(Sound):
    """A sample depends on which requests came before."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for place, request in enumerate(requests):
            yield replace(request, seed=request.seed + place)


class SeedsByCount(Sound):
    """A sample depends on how many there are."""

    def heard(self, requests: Iterable[GenerateRequest]) -> Iterator[GenerateRequest]:
        for request in requests:
            yield replace(request, seed=request.seed + request.samples)


class OneLogprobShort(Sound):
    """The token that ends a completion has no log-probability."""

    def told(self, result: Generated) -> Generated:
        return each(result, lambda c: replace(c, token_logprobs_nats=c.token_logprobs_nats[:-1]))


class PositiveLogprobs(Sound):
    """It gives costs for log-probabilities, of samples and continuations alike."""

    def _logprobs(self, *token_ids: Any) -> tuple[float, ...]:
        return tuple(-value for value in super()._logprobs(*token_ids))


class SumsAlone(Sound):
    """It gives sums where it promises tokens."""

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        for scored in super().score(requests):
            yield replace(scored, token_logprobs_nats=(sum(scored.token_logprobs_nats),))


class WarmLogprobs(Sound):
    """The log-probabilities of samples are those of another temperature."""

    def told(self, result: Generated) -> Generated:
        def warmer(completion: Completion) -> Completion:
            values = tuple(value / 2 for value in completion.token_logprobs_nats)
            return replace(completion, token_logprobs_nats=values)

        return each(result, warmer)


class ForgetsContext(Sound):
    """The log-probability of a token does not depend on what is before it."""

    def _logprobs(self, context: Any, token_ids: Any) -> tuple[float, ...]:
        return tuple(-float(len(token_ids)) for _ in token_ids)


class AllIsGreedy(Sound):
    """Every continuation is the likeliest."""

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        for scored in super().score(requests):
            yield replace(scored, greedy=True)


class ScoresTwice(Sound):
    """Every continuation is scored twice."""

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        for scored in super().score(requests):
            yield scored
            yield scored


class LikeliestFirst(Sound):
    """Distributions are by rank, not by token id."""

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        for scored in super().score(requests):
            whole = scored.distributions_nats
            ranked = None if whole is None else -np.sort(-whole, axis=1)
            yield replace(scored, distributions_nats=ranked)


class ClosesOnce(Sound):
    """It can be closed, but once."""

    open = True

    def close(self) -> None:
        assert self.open
        self.open = False


def plugin_of(engine: type[Sound], *, registers: bool) -> ModuleType:
    """A module that can be imported by its name and adds this engine, or does nothing."""
    module = ModuleType(f"plugin_of_{engine.__name__}")

    @hookimpl
    def ptharness_register_engines(registry: Any) -> None:
        if registers:
            registry.engines.add(engine)

    module.ptharness_register_engines = ptharness_register_engines  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return module


class SuiteOfBroken(EngineContract):
    """The contract as an author sets it up, without torch."""

    options: ClassVar[Mapping[str, Any]] = {"answer": "42", "success": 0.1}

    def write_checkpoints(self, first: Path, second: Path) -> None:
        for value, folder in enumerate((first, second)):
            made = write_checkpoint(folder, vocab_size=128)
            write_safetensors(made / "model.safetensors", float(value))

    def write_adapter(self, folder: Path, base: Path, seed: int) -> None:
        leave_adapter_config(folder, str(base))


hidden()
for broken in [Sound, *Sound.__subclasses__()]:
    attributes = {
        "engine": broken,
        "plugin": plugin_of(broken, registers=broken is not Unregistered),
    }
    globals()[f"Test{broken.__name__}"] = type(
        f"Test{broken.__name__}", (SuiteOfBroken,), attributes
    )
