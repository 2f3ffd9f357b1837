"""`lm_eval:hf`: lm-eval's reference model, driven by token ids.

lm-eval loads the checkpoint with `transformers` and computes; prompts are ours. Nothing is
tokenised again, nothing cut, and log-probabilities come token by token. Log-likelihoods and greedy
texts are those of `simple_evaluate(model="hf")`. Every checkpoint is loaded afresh.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ptharness.engines import adapters, lm_eval_options, preflight
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
)
from ptharness.engines.devices import gpu_names
from ptharness.engines.lm_eval_batches import BatchSize, free_memory, windows
from ptharness.engines.lm_eval_hf_draw import Row, draw
from ptharness.engines.lm_eval_hf_load import (
    compare,
    device,
    device_class,
    forget_generation_config,
    hf_model_class,
    merge_adapter,
    start,
)
from ptharness.engines.lm_eval_hf_score import group_by_input, model_input, score
from ptharness.engines.lm_eval_names import PREFIX, library_version, lm_eval_version
from ptharness.errors import CheckpointError, EngineError
from ptharness.fingerprint import position_limit
from ptharness.lineage import Checkpoint
from ptharness.tokenizer import load_tokenizer


class HfEngine(Engine):
    """Computes with `transformers`, as lm-eval's `hf` does; the reference for other engines."""

    name: ClassVar[str] = f"{PREFIX}hf"
    capabilities: ClassVar[Capabilities] = Capabilities(
        adapters=True, window=64, scoring_overhead=-1, distributions=MOST_DISTRIBUTED
    )

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.check_options(settings.options)
        # An instance knows more than the class. What else is in the batch changes the last bits
        # of a sum: of 24 bits they decide nothing but ties, of 8 they do now and then.
        self.capabilities = replace(  # type: ignore[misc]
            type(self).capabilities,
            window=int(settings.options.get("window", type(self).capabilities.window)),
            reproducible=device(settings) == "cpu"
            and settings.options.get("dtype") == "float32"
            and settings.options.get("mixed_precision_dtype", "float32") == "float32",
        )
        self._lm: Any = None
        self._batches: BatchSize | None = None
        self._limit = 0

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `EngineError` for an option that is refused, unknown, or of the wrong type."""
        lm_eval_options.check(cls.name, options, lm_eval_options.HF_ALLOWED)

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        """Versions of lm-eval, `transformers` and torch, the dtypes and the device; imports none.

        The batch size is left out: it changes sums by their last bits, as does what else happens
        to be in a batch.
        """
        options = settings.options
        identity = {
            "engine": cls.name,
            "version": lm_eval_version(),
            "transformers": library_version("transformers"),
            "torch": library_version("torch"),
            "dtype": str(options.get("dtype", "auto")),
            "device": device_class(settings),
        }
        for name in ("mixed_precision_dtype", "softmax_dtype", "max_length"):
            if name in options:
                identity[name] = str(options[name])
        return identity

    @classmethod
    def token_limit(cls, settings: EngineSettings) -> int | None:
        """The option `max_length`."""
        chosen = settings.options.get("max_length")
        return None if chosen is None else int(chosen)

    @classmethod
    def preload(cls) -> None:
        """Import lm-eval's model, and with it `transformers` and torch."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        if not gpu_names():
            # With a thread on every core, each tiny parallel region waits for the thread that
            # lost its core to another process, such as the scorers.
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) - 1)))
        hf_model_class()

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        """Load the checkpoint's safetensors, and compare the weights with the files.

        An adapter is then merged into its base's weights.
        """
        began = time.perf_counter()
        known = hf_model_class()
        files = preflight.inspect_files(checkpoint.directory)
        preflight.check_tensors(files)
        preflight.check_complete(files)
        adapter = _inspect_adapter(checkpoint, files)
        tokenizer = load_tokenizer(checkpoint.tokenizer_directory)
        self.close()
        lm = start(known, files, tokenizer, self.settings)
        if lm.backend != "causal":
            raise CheckpointError(
                f"{files.directory}: an encoder-decoder; prompts are made for decoders alone"
            )
        unverified = compare(lm.model, files)
        if adapter:
            merge_adapter(lm.model, adapter)
        forget_generation_config(lm.model)
        self._lm, self._batches = lm, self._batch_size(lm)
        # Where a config names no limit lm-eval cuts at 2,048; the plan, and this, have none then.
        chosen = self.token_limit(self.settings) or position_limit(files.directory)
        self._limit = chosen or sys.maxsize
        return LoadReport(
            checkpoint=checkpoint.name,
            how="adapter" if adapter else "cold",
            seconds=time.perf_counter() - began,
            verified=not unverified,
            reason=unverified and f"not verified: {unverified}",
        )

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        """Yield the completions of each request when the batch with its last one is computed.

        Raises `EngineError`, naming its index, for a request that does not fit.
        """
        lm, batches = self._loaded()
        for window in windows(requests, self.capabilities.window):
            alike: dict[Any, list[Row]] = {}
            for row in (row for request in window for row in self._rows(request)):
                alike.setdefault(row.drawing, []).append(row)
            for rows in alike.values():
                # Sorting is stable: the samples of a request stay together.
                rows.sort(key=lambda row: -len(row.prompt))
                yield from self._draw(lm, batches, rows)

    def _draw(self, lm: Any, batches: BatchSize, rows: Sequence[Row]) -> Iterator[Generated]:
        batches.fit(max(len(row.prompt) + row.budget for row in rows))
        drawn: dict[int, list[Completion]] = {}
        for row, completion in batches.run(rows, lambda batch: draw(lm, batch)):
            request = row.request
            completions = drawn.setdefault(request.index, [])
            completions.append(completion)
            if len(completions) == _different_samples(request):
                times = request.samples // len(completions)
                yield Generated(request.index, tuple(drawn.pop(request.index)) * times)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the log-likelihood of each continuation; equal beginnings are computed once.

        Raises `EngineError`, naming its index, for a request that does not fit.
        """
        lm, batches = self._loaded()
        for window in windows(requests, self.capabilities.window):
            for request in window:
                self._check_score(request)
            groups = group_by_input(window)
            batches.fit(len(model_input(groups[0][0])))
            for _, results in batches.run(groups, lambda batch: score(lm, batch)):
                yield from results

    def close(self) -> None:
        """Give the model's memory back."""
        if self._lm is not None:
            self._lm = self._batches = None
            free_memory()

    def _batch_size(self, lm: Any) -> BatchSize:
        if lm.batch_size != "auto":
            return BatchSize(int(lm.batch_size))

        def detect(tokens: int) -> int:
            return int(lm._detect_batch_size([(None, [0] * tokens, [0])]))

        return BatchSize(1, detect)

    def _loaded(self) -> tuple[Any, BatchSize]:
        if self._lm is None or self._batches is None:
            raise EngineError("no checkpoint is loaded; call load() first")
        return self._lm, self._batches

    def _rows(self, request: GenerateRequest) -> list[Row]:
        """One row for each sample; equal ones, at temperature 0, are drawn once."""
        length = len(request.prompt_token_ids)
        self._check_tokens(request.index, request.prompt_token_ids)
        room = self._limit - length
        if room < 1:
            raise EngineError(
                f"request {request.index}: a prompt of {length} tokens leaves no room in the "
                f"model's {self._limit}; shorten the prompt or raise engine.max_length"
            )
        budget = min(request.sampling.max_tokens, room)
        return [Row(request, j, budget) for j in range(_different_samples(request))]

    def _check_score(self, request: ScoreRequest) -> None:
        if not request.context_token_ids or not request.continuation_token_ids:
            raise EngineError(
                f"request {request.index}: a context and a continuation of at least one token "
                "each are needed"
            )
        self._check_tokens(
            request.index, request.context_token_ids + request.continuation_token_ids
        )
        check_distributed(request, self._vocabulary())
        if len(model_input(request)) > self._limit:
            raise EngineError(
                f"request {request.index}: {len(model_input(request)) + 1} tokens do not fit the "
                f"model's {self._limit}; shorten them or raise engine.max_length"
            )

    def _vocabulary(self) -> int:
        return int(self._lm.model.get_input_embeddings().num_embeddings)

    def _check_tokens(self, index: int, token_ids: tuple[int, ...]) -> None:
        if not token_ids:
            raise EngineError(f"request {index}: the prompt is empty")
        vocabulary = self._vocabulary()
        if max(token_ids) >= vocabulary or min(token_ids) < 0:
            raise EngineError(
                f"request {index}: token {max(token_ids)} is not one of the model's "
                f"{vocabulary}; does the checkpoint's tokenizer belong to it?"
            )


def _inspect_adapter(checkpoint: Checkpoint, base: preflight.Files) -> adapters.Adapter | None:
    """The checkpoint's adapter, if it is one, whose files are sound and made for this base."""
    if checkpoint.adapter is None:
        return None
    adapter = adapters.inspect_adapter(checkpoint.adapter)
    if base.quantised:
        raise CheckpointError(
            f"{checkpoint.adapter}: its base {base.directory} is quantised, and an adapter is "
            "merged into whole weights alone; use the vllm engine"
        )
    adapters.check_on_base(adapter, base)
    adapters.check_finite(adapter)
    return adapter


def _different_samples(request: GenerateRequest) -> int:
    return request.samples if request.sampling.temperature else 1
