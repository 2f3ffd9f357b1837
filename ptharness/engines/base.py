"""What an engine is: it loads one checkpoint at a time and turns token ids into completions.

An engine class has a light half, which runs where no engine is installed or started
(`identity`, `check_options`), and a heavy half (`load`, `generate`, `score`, `close`), which
runs in a worker process. Heavy libraries are imported in the heavy half only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ptharness.engines.adapters import inspect_on_base
from ptharness.errors import CheckpointError, EngineError
from ptharness.lineage import Checkpoint
from ptharness.protocol import Sampling

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST_DISTRIBUTED = 1024
"""Tokens of the largest vocabulary whose distributions are taken whole.

Of a token that is 4 KiB in the store, for each judge, and 80 KiB while vLLM hands it over as
Python objects, of thousands of tokens at once. Models of characters, bytes, or residues are below.
"""


@dataclass(frozen=True)
class EngineSettings:
    """The manifest's `engine:` entry and what the plan adds to it.

    `options` are the engine's own (dtype, memory fraction, ...). `needed_tokens` is the
    longest prompt plus completion of the plan: enough for every request, so an engine may
    use it to bound its memory; it is no part of a unit's key.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needed_tokens: int | None = None


@dataclass(frozen=True)
class Capabilities:
    """What an engine can promise; the contract tests ask for exactly this.

    `reproducible`: the same request gives the same samples alone and among others.
    `swaps`: serves several checkpoints of one architecture from one start.
    `adapters`: serves LoRA adapters on a base, and so many of one base at once: `side_by_side`.
    `scores`: gives log-likelihoods.
    `window`: requests that should be in flight to keep it busy. `scoring_overhead`: positions
    of the context that scoring a sequence takes beyond its tokens: 1 where what would follow is
    computed too, -1 where the last token is not even an input. `tokens`: gives
    the tokens of its completions and a log-probability for each; without, it gives text alone.
    `distributions`: tokens of the largest vocabulary of which `score` gives whole distributions.
    """

    reproducible: bool = True
    swaps: bool = False
    adapters: bool = False
    side_by_side: int = 1
    scores: bool = True
    window: int = 256
    scoring_overhead: int = 1
    tokens: bool = True
    distributions: int = 0


@dataclass(frozen=True)
class LoadReport:
    """How a checkpoint came into the engine, and whether its weights were verified.

    `reason` says why a cold start was needed where a swap was hoped for.
    """

    checkpoint: str
    how: Literal["cold", "swap", "adapter"]
    seconds: float
    verified: bool
    reason: str = ""


@dataclass(frozen=True)
class GenerateRequest:
    """Draw `samples` completions of one prompt; `index` is the caller's own.

    `stop_token_ids` holds the checkpoint's end-of-sequence ids: the engine's own are ignored.
    Sample j uses a stream derived from `seed` and j alone. `checkpoint` names one of several
    that are loaded side by side; "" is the one that is loaded.
    """

    index: int
    prompt_token_ids: tuple[int, ...]
    samples: int
    seed: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...] = ()
    checkpoint: str = ""


@dataclass(frozen=True)
class Completion:
    """One sample. `token_logprobs_nats` are the model's at temperature 1, one per token.

    `token_ids` holds a final end-of-sequence or stop token too; `text` is decoded with the
    checkpoint's own tokenizer and not yet cut at stop strings. `finish_reason` is stop or length.
    An engine without `capabilities.tokens` leaves both tuples empty, and says "unknown" where it
    cannot tell why a completion ended.
    """

    token_ids: tuple[int, ...]
    token_logprobs_nats: tuple[float, ...]
    text: str
    finish_reason: str


@dataclass(frozen=True)
class Generated:
    """The completions of one request, in sample order."""

    index: int
    completions: tuple[Completion, ...]


@dataclass(frozen=True)
class ScoreRequest:
    """The log-likelihood of a continuation after a context, both as token ids.

    `checkpoint` names one of several that are loaded side by side; "" is the one that is loaded.
    `distributions` asks for the whole distribution at each of its tokens too, of an engine whose
    `capabilities.distributions` cover the vocabulary.
    """

    index: int
    context_token_ids: tuple[int, ...]
    continuation_token_ids: tuple[int, ...]
    checkpoint: str = ""
    distributions: bool = False


@dataclass(frozen=True)
class Scored:
    """Log-probability in nats of each continuation token; greedy if each was the likeliest.

    An engine without `capabilities.tokens` may give their sum alone, as one value.
    `distributions_nats`, where asked for: log-probabilities at temperature 1 of every token that
    the softmax ranges over (padding included), by token id, where each token of the continuation
    was predicted; shape (tokens, vocabulary).
    """

    index: int
    token_logprobs_nats: tuple[float, ...]
    greedy: bool
    distributions_nats: npt.NDArray[np.float32] | None = field(default=None, compare=False)


def vocabulary_size(config: Mapping[str, Any]) -> int:
    """Tokens that a model's softmax ranges over, as its config names them; 0 if it does not."""
    inner = config.get("text_config")
    size = (inner if inner and isinstance(inner, dict) else config).get("vocab_size")
    return size if type(size) is int and size > 0 else 0


def check_distributed(request: ScoreRequest, vocabulary: int) -> None:
    """Raise `EngineError` for a request for whole distributions over too many tokens."""
    if request.distributions and not 0 < vocabulary <= MOST_DISTRIBUTED:
        raise EngineError(
            f"request {request.index}: distributions over {vocabulary} tokens are not given, "
            f"those over 1 to {MOST_DISTRIBUTED} are"
        )


class Engine(ABC):
    """Base of every engine. One instance lives in one worker process.

    `load` raises `CheckpointError` where the checkpoint is at fault (the engine then stays
    usable for the next one, by a fresh start if need be) and `EngineError` where the engine
    is. `generate` and `score` pull requests lazily, keep about `capabilities.window` of them
    in flight, and yield each result as it finishes, in any order.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `EngineError` for an option that is unknown, malformed or not allowed."""

    @classmethod
    @abstractmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        """What a unit's key says of the engine: version, dtype, quantisation, device, ...

        Light: it must not import the engine's library.
        """

    @classmethod
    def token_limit(cls, settings: EngineSettings) -> int | None:
        """Tokens that the options let a request have; None leaves it to the model. Light.

        Here: the option `max_model_len`.
        """
        chosen = settings.options.get("max_model_len")
        return None if chosen is None else int(chosen)

    @classmethod
    def check_adapter(cls, adapter: Path, base: Path) -> None:
        """Raise `CheckpointError` for an adapter's folder that will be refused. Light.

        Here: for what is no plain LoRA, or not for this base, by configs and headers alone.
        """
        inspect_on_base(adapter, base)

    @classmethod
    def preload(cls) -> None:
        """Import what `load` will need, called while the plan is still being made."""

    @abstractmethod
    def load(self, checkpoint: Checkpoint) -> LoadReport:
        """Make `checkpoint` the one that the next requests are for."""

    def load_adapters(
        self, checkpoints: Sequence[Checkpoint]
    ) -> Sequence[LoadReport | CheckpointError]:
        """Make LoRA adapters on one base ready side by side: each one's report or its error.

        The next requests name theirs. Raises like `load` where the base is at fault, which then
        concerns all of them. There may be more than `capabilities.side_by_side` of them.
        """
        raise NotImplementedError(f"engine {self.name!r} serves no adapters side by side")

    @abstractmethod
    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        """Yield the completions of each request as they finish."""

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the log-likelihood of each request's continuation as they finish."""
        raise NotImplementedError(f"engine {self.name!r} gives no log-likelihoods")

    def close(self) -> None:
        """Give back memory and processes. The instance is not used afterwards."""
