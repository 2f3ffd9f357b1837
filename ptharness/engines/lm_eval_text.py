"""Other model classes of lm-eval, in this process, by its public interface: `lm_eval:sglang`.

They take text. A prompt is decoded for them, and refused where its text would be encoded as other
tokens than the task's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ptharness.engines import preflight
from ptharness.engines.base import (
    Completion,
    Generated,
    GenerateRequest,
    LoadReport,
    Scored,
    ScoreRequest,
)
from ptharness.engines.lm_eval_batches import windows
from ptharness.engines.lm_eval_class import (
    ModelClassEngine,
    different_samples,
    generation_arguments,
    parameters,
)
from ptharness.errors import CheckpointError, EngineError, PtharnessError
from ptharness.lineage import Checkpoint
from ptharness.protocol import derive_seed
from ptharness.tokenizer import load_tokenizer

PICKLED_WEIGHTS = ("pytorch_model*.bin", "model*.pt", "consolidated*.pth", "*.ckpt", "*.nemo")


class TextEngine(ModelClassEngine):
    """A model class that computes in this process, asked in text."""

    _tokenizer: Any = None

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        """Let the class load the checkpoint's folder."""
        began = time.perf_counter()
        if checkpoint.adapter:
            raise CheckpointError(
                f"{checkpoint.name}: {checkpoint.adapter} is an adapter; {self.name} does not "
                "serve adapters: merge it into its base, or use the vllm engine"
            )
        preflight.check_tensors(preflight.inspect_files(checkpoint.directory))
        _refuse_pickles(checkpoint.directory)
        tokenizer = load_tokenizer(checkpoint.tokenizer_directory)
        model_class = self._class()
        folder = str(checkpoint.directory.resolve())
        if "pretrained" not in parameters(model_class):
            raise EngineError(
                f"{self.name} has no parameter `pretrained`, so it would answer for all "
                "checkpoints alike"
            )
        self.close()
        self._lm = self._make(model_class, folder, {"pretrained": folder})
        self._tokenizer = tokenizer
        return LoadReport(
            checkpoint=checkpoint.name,
            how="cold",
            seconds=time.perf_counter() - began,
            verified=False,
            reason="not verified: what lm-eval's class computes with is not seen",
        )

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        """Yield the completions of each request, a window of them at a time."""
        lm = self._require_lm()
        for window in windows(requests, self.capabilities.window):
            prompts = {r.index: self._text(r.index, r.prompt_token_ids) for r in window}
            drawn: dict[int, list[Completion]] = {request.index: [] for request in window}
            for sample in range(max(different_samples(request) for request in window)):
                asked = [request for request in window if sample < different_samples(request)]
                arguments = [
                    (
                        prompts[request.index],
                        generation_arguments(
                            request.sampling,
                            self._tokenizer.convert_ids_to_tokens(list(request.stop_token_ids)),
                        ),
                    )
                    for request in asked
                ]
                _seed(derive_seed(asked[0].seed, sample))
                answers = self._ask(lm.generate_until, "generate_until", arguments)
                for request, text in zip(asked, answers, strict=True):
                    drawn[request.index].append(Completion((), (), str(text), "unknown"))
            for request in window:
                completions = tuple(drawn[request.index])
                yield Generated(request.index, completions * (request.samples // len(completions)))

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the sum of each continuation's log-likelihood, a window at a time."""
        from lm_eval.api.model import TemplateLM

        lm = self._require_lm()
        for window in windows(requests, self.capabilities.window):
            if isinstance(lm, TemplateLM):
                tokens = [
                    (("", ""), list(r.context_token_ids), list(r.continuation_token_ids))
                    for r in window
                ]
                answers = self._guarded(lambda asked: lm._loglikelihood_tokens(asked), tokens)
            else:
                texts = [self._pair(request) for request in window]
                answers = self._ask(lm.loglikelihood, "loglikelihood", texts)
            for request, (total, greedy) in zip(window, answers, strict=True):
                yield Scored(request.index, (float(total),), bool(greedy))

    def _ask(
        self, method: Callable[..., Any], kind: str, arguments: Sequence[tuple[Any, ...]]
    ) -> Sequence[Any]:
        from lm_eval.api.instance import Instance

        instances = [Instance(kind, {}, pair, i) for i, pair in enumerate(arguments)]
        return self._guarded(method, instances)

    def _guarded(self, method: Callable[..., Any], asked: Sequence[Any]) -> Sequence[Any]:
        try:
            answers = list(method(asked))
        except PtharnessError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise EngineError(
                f"{self.name} failed: {type(error).__name__}: {reason}; a smaller "
                "engine.batch_size needs less memory"
            ) from error
        if len(answers) != len(asked):
            raise EngineError(f"{self.name} gave {len(answers)} answers to {len(asked)} requests")
        return answers

    def _text(self, index: int, token_ids: tuple[int, ...]) -> str:
        """The prompt as text. Raises `EngineError` where the class would encode it otherwise."""
        text = str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))
        again = self._encoded(text)
        if tuple(again) != token_ids:
            raise EngineError(
                f"request {index}: {self.name} takes text, and {text[:60]!r} is encoded as other "
                "tokens than the task's prompt has; use lm_eval:hf or vllm"
            )
        return text

    def _encoded(self, text: str) -> Sequence[int]:
        own = getattr(self._lm, "tok_encode", None)
        if own is not None and getattr(self._lm, "tokenizer", None) is not None:
            encoded: Sequence[int] = own(text)
            return encoded
        encoding: Sequence[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return encoding

    def _pair(self, request: ScoreRequest) -> tuple[str, str]:
        whole = self._text(
            request.index, request.context_token_ids + request.continuation_token_ids
        )
        context = self._text(request.index, request.context_token_ids)
        return context, whole[len(context) :]


def _refuse_pickles(directory: Path) -> None:
    """A class may prefer pickled weights to safetensors, and unpickling runs their code."""
    for pattern in PICKLED_WEIGHTS:
        for path in directory.glob(pattern):
            raise CheckpointError(
                f"{path}: pickled weights can run code, and may be read instead of the "
                "safetensors; remove them"
            )


def _seed(seed: int) -> None:
    """Start the random numbers of the libraries that such a class draws from."""
    from transformers import set_seed

    set_seed(seed % 2**32)
