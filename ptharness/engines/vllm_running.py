"""A started vLLM and what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ptharness.engines.base import GenerateRequest, ScoreRequest, check_distributed
from ptharness.engines.preflight import Files
from ptharness.engines.vllm_room import Room
from ptharness.errors import EngineError


class Served(NamedTuple):
    """What requests for one checkpoint need: its tokenizer and, of an adapter, vLLM's request."""

    tokenizer: Any
    adapter: Any = None


@dataclass
class Running:
    """A started vLLM.

    `files` are those of the checkpoint in it, or of the adapters' base. `reason` says why its
    weights are not verified or others may not be swapped in, "" where they may. `room` is for
    adapters; `served` holds what is loaded, by the checkpoints' names.
    """

    llm: Any
    files: Files
    dtype: str
    verified: bool
    reason: str
    room: Room | None = None
    served: dict[str, Served] = field(default_factory=dict)

    @property
    def limit(self) -> int:
        """Tokens that a request may have, prompt and completion together."""
        return int(self.llm.model_config.max_model_len)

    @property
    def vocabulary(self) -> int:
        """Rows of the input embeddings."""
        return int(self.llm.model_config.get_vocab_size())

    @property
    def block(self) -> int | None:
        """Tokens that the prefix cache keeps as one; None where there is none."""
        cache = self.llm.llm_engine.vllm_config.cache_config
        return int(cache.block_size) if cache.enable_prefix_caching else None

    @property
    def unverified(self) -> str:
        """Why the weights are not verified, "" where they are."""
        return "" if self.verified else f"not verified: {self.reason}"

    def served_for(self, request: GenerateRequest | ScoreRequest) -> Served:
        """What a request needs. Raises `EngineError` where its checkpoint is not loaded."""
        if request.checkpoint in self.served:
            return self.served[request.checkpoint]
        if not request.checkpoint and len(self.served) == 1:
            return next(iter(self.served.values()))
        raise EngineError(
            f"request {request.index}: checkpoint {request.checkpoint!r} is not loaded "
            f"(loaded: {', '.join(self.served) or 'none'})"
        )

    def check_fits(self, index: int, token_ids: tuple[int, ...]) -> None:
        """Raise `EngineError`, naming the request, for token ids that the model cannot take."""
        if not token_ids:
            raise EngineError(f"request {index}: the prompt is empty")
        if len(token_ids) >= self.limit:
            raise EngineError(
                f"request {index}: a prompt of {len(token_ids)} tokens leaves no room in the "
                f"engine's {self.limit}; shorten the prompt or raise engine.max_model_len"
            )
        if max(token_ids) >= self.vocabulary or min(token_ids) < 0:
            raise EngineError(
                f"request {index}: token {max(token_ids)} is not one of the model's "
                f"{self.vocabulary}; does the checkpoint's tokenizer belong to it?"
            )

    def checked(self, request: ScoreRequest) -> ScoreRequest:
        """The same request. Raises `EngineError`, naming it, where it cannot be scored."""
        context, rest = request.context_token_ids, request.continuation_token_ids
        if not context or not rest:
            raise EngineError(
                f"request {request.index}: a context and a continuation of at least one token "
                "each are needed"
            )
        # Of the last token nothing is computed.
        self.check_fits(request.index, (context + rest)[:-1])
        self.check_fits(request.index, rest[-1:])
        check_distributed(request, self.vocabulary)
        self.served_for(request)
        return request
