"""lm-eval's models of servers, by token ids: `lm_eval:local-completions`.

A server computes with what it was started on, whatever the manifest says; so each checkpoint must
be served under a name of its own, and a server that lists its models must list that one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ptharness.engines.base import (
    Capabilities,
    Completion,
    Generated,
    GenerateRequest,
    LoadReport,
    Scored,
    ScoreRequest,
)
from ptharness.engines.lm_eval_class import (
    ModelClassEngine,
    different_samples,
    generation_arguments,
)
from ptharness.errors import CheckpointError, EngineError
from ptharness.lineage import Checkpoint
from ptharness.protocol import derive_seed
from ptharness.tokenizer import load_tokenizer

PLACES = ("{name}", "{path}")
DEFAULT_MODEL = "{name}"
NEEDS_ADDRESS = ("local-completions",)
SEED_BITS = 31
"""More than some servers take."""

Request = TypeVar("Request")
Result = TypeVar("Result")


class ApiEngine(ModelClassEngine):
    """A server that speaks the completions API, through a model class of lm-eval."""

    capabilities: ClassVar[Capabilities] = replace(ModelClassEngine.capabilities, adapters=True)

    @classmethod
    def check_adapter(cls, adapter: Path, base: Path) -> None:
        """Nothing: it is the server that loads it, of whatever kind it is."""

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `EngineError` for a wrong option, a missing address, or one model for all."""
        super().check_options(options)
        if "base_url" not in options and cls.model_class.name in NEEDS_ADDRESS:
            raise EngineError(
                "engine.base_url is missing: the server's address, such as "
                "http://127.0.0.1:8000/v1/completions"
            )
        model = options.get("model", DEFAULT_MODEL)
        if not any(place in model for place in PLACES):
            raise EngineError(
                f"engine.model: {model!r} would answer for every checkpoint; write where its name "
                "goes: {name}, or {path} for the path as the manifest has it"
            )

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        """Make its name the one that the server is asked for."""
        began = time.perf_counter()
        load_tokenizer(checkpoint.tokenizer_directory)
        model = str(self.settings.options.get("model", DEFAULT_MODEL))
        model = model.replace("{name}", checkpoint.name).replace("{path}", checkpoint.source)
        forced = {
            "model": model,
            "tokenizer": str(checkpoint.tokenizer_directory.resolve()),
            "tokenizer_backend": "huggingface",
            "tokenized_requests": True,
        }
        self.close()
        lm = self._make(self._class(), checkpoint.name, forced)
        _check_served(lm, checkpoint.name)
        self._lm = lm
        return LoadReport(
            checkpoint=checkpoint.name,
            how="cold",
            seconds=time.perf_counter() - began,
            verified=False,
            reason=f"not verified: what {lm.base_url} serves as {model!r} is not seen",
        )

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        """Yield the completions of each request as the server answers."""
        lm = self._require_lm()

        def ask(request: GenerateRequest) -> Generated:
            stops = lm.tokenizer.convert_ids_to_tokens(list(request.stop_token_ids))
            arguments = generation_arguments(request.sampling, stops)
            completions = []
            for sample in range(different_samples(request)):
                seed = derive_seed(request.seed, sample) >> (63 - SEED_BITS)
                answer = _call(
                    lm,
                    request.index,
                    messages=[list(request.prompt_token_ids)],
                    generate=True,
                    gen_kwargs={**arguments, "seed": seed},
                )
                completions.append(_completion(lm, request.index, answer))
            times = request.samples // len(completions)
            return Generated(request.index, tuple(completions) * times)

        yield from self._in_flight(requests, ask)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the log-likelihood of each continuation as the server answers."""
        lm = self._require_lm()

        def ask(request: ScoreRequest) -> Scored:
            tokens = [*request.context_token_ids, *request.continuation_token_ids]
            answer = _call(lm, request.index, messages=[tokens], generate=False)
            return _scored(lm, request, answer)

        yield from self._in_flight(requests, ask)

    def _in_flight(
        self, requests: Iterable[Request], ask: Callable[[Request], Result]
    ) -> Iterator[Result]:
        """Yield what `ask` gives for each request, keeping a window of them under way."""
        waiting = iter(requests)
        flying: set[Future[Result]] = set()
        with ThreadPoolExecutor(int(self.settings.options.get("num_concurrent", 1))) as pool:
            try:
                while True:
                    while len(flying) < self.capabilities.window:
                        request = next(waiting, None)
                        if request is None:
                            break
                        flying.add(pool.submit(ask, request))
                    if not flying:
                        return
                    done, flying = wait(flying, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                for future in flying:
                    future.cancel()


def _check_served(lm: Any, checkpoint: str) -> None:
    """Raise where the server is not there, or lists its models and has not this one."""
    import requests

    address = str(lm.base_url).removesuffix("/").removesuffix("/completions") + "/models"
    try:
        answer = requests.get(
            address, headers=lm.header, timeout=lm.timeout, verify=lm.verify_certificate
        )
        served = [str(model["id"]) for model in answer.json()["data"]] if answer.ok else []
    except requests.ConnectionError as error:
        raise EngineError(f"{lm.base_url}: no server answers there; start it first") from error
    except (requests.RequestException, ValueError, KeyError, TypeError):
        # Not every server lists its models; it is asked for one by its name all the same.
        return
    if served and lm.model not in served:
        raise CheckpointError(
            f"{checkpoint}: the server at {lm.base_url} serves {', '.join(served[:5])}, not "
            f"{lm.model!r}; serve it under that name, or set engine.model to its pattern"
        )


def _call(lm: Any, index: int, **arguments: Any) -> Any:
    """The server's answer, asked for again as lm-eval would. Raises `EngineError`."""
    import requests
    from tenacity import retry, retry_if_exception, stop_after_attempt, wait_exponential

    attempt = retry(
        stop=stop_after_attempt(lm.max_retries),
        wait=wait_exponential(multiplier=0.5, min=1, max=10),
        retry=retry_if_exception(_worth_another),
        reraise=True,
    )(lm.model_call)
    try:
        return attempt(**arguments)
    except requests.RequestException as error:
        said = error.response.text[:300] if error.response is not None else ""
        reason = " ".join(f"{error} {said}".split())
        raise EngineError(f"request {index}: {lm.base_url}: {reason}") from error


def _worth_another(error: BaseException) -> bool:
    """Whether the same question may be answered the next time."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, requests.RequestException)


def _completion(lm: Any, index: int, answer: Any) -> Completion:
    try:
        [text] = lm.parse_generations(outputs=answer)
        reason = answer["choices"][0].get("finish_reason")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _misunderstood(lm, index, error) from error
    return Completion((), (), text or "", reason if reason in ("stop", "length") else "unknown")


def _scored(lm: Any, request: ScoreRequest, answer: Any) -> Scored:
    count, start = len(request.continuation_token_ids), len(request.context_token_ids)
    tokens = [*request.context_token_ids, *request.continuation_token_ids]
    try:
        [(_, greedy)] = lm.parse_logprobs(outputs=answer, tokens=[tokens], ctxlens=[start])
        single = answer["choices"][0]["logprobs"]["token_logprobs"][start : start + count]
    except (KeyError, IndexError, TypeError, ValueError, AssertionError) as error:
        raise _misunderstood(lm, request.index, error) from error
    if len(single) != count:
        raise EngineError(
            f"request {request.index}: {lm.base_url} gave log-probabilities of {len(single)} of "
            f"the {count} tokens of the continuation; it must echo the prompt's"
        )
    return Scored(request.index, tuple(map(float, single)), bool(greedy))


def _misunderstood(lm: Any, index: int, error: Exception) -> EngineError:
    return EngineError(
        f"request {index}: {lm.base_url} answered otherwise than the completions API does "
        f"({type(error).__name__}: {error})"
    )
