"""vLLM: one engine start serves every checkpoint of one architecture.

New weights go into the running engine. vLLM swaps *only* the weights, though: its tokenizer,
end-of-sequence ids and generation config stay the first checkpoint's. So prompts come as token
ids, stop token ids come with each request, and text is decoded with the tokenizer of the
checkpoint that is loaded. What is checked around a swap: docs/explanation/hot-swap.md.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

from ptharness.engines import preflight, swap, vllm_lora, vllm_options, vllm_start
from ptharness.engines.base import (
    MOST_DISTRIBUTED,
    Capabilities,
    Engine,
    EngineSettings,
    Generated,
    GenerateRequest,
    LoadReport,
    Scored,
    ScoreRequest,
)
from ptharness.engines.probe import Finding, probe
from ptharness.engines.vllm_requests import (
    sampling_parameters,
    scoring_parameters,
    to_generated,
)
from ptharness.engines.vllm_room import SLOTS, Room, room_for
from ptharness.engines.vllm_running import Running, Served
from ptharness.engines.vllm_score import Answers, Ask, asks
from ptharness.engines.vllm_stream import Asked, StepError, stream
from ptharness.errors import CheckpointError, EngineError
from ptharness.lineage import Checkpoint
from ptharness.tokenizer import load_tokenizer


class VllmEngine(Engine):
    """Serves checkpoints with vLLM, in this process."""

    name: ClassVar[str] = "vllm"
    capabilities: ClassVar[Capabilities] = Capabilities(
        swaps=True,
        adapters=True,
        side_by_side=SLOTS,
        window=256,
        scoring_overhead=0,
        distributions=MOST_DISTRIBUTED,
    )

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self.check_options(settings.options)
        # An instance knows more than the class: on a GPU, sums depend on what else is in the
        # batch, so a sample may differ where two tokens are almost equally likely.
        self.capabilities = replace(  # type: ignore[misc]
            type(self).capabilities,
            window=int(settings.options.get("window", type(self).capabilities.window)),
            side_by_side=int(settings.options.get("max_loras", SLOTS)),
            reproducible=vllm_start.device() == "cpu",
        )
        self._running: Running | None = None
        self._streams = 0

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `EngineError` for an option that is refused, unknown, or of the wrong type."""
        vllm_options.check(options)

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        """Version, dtype, quantisation, KV-cache dtype and device; imports no vLLM.

        A `dtype` of "auto" is the one that a checkpoint is stored in, which its digest covers.
        """
        options = settings.options
        identity = {
            "engine": cls.name,
            "version": vllm_start.installed()[1].partition("+")[0],
            "dtype": str(options.get("dtype", "auto")),
            "quantization": str(options.get("quantization", "none")),
            "kv_cache_dtype": str(options.get("kv_cache_dtype", "auto")),
            "device": vllm_start.device(),
        }
        if "max_model_len" in options:
            identity["max_model_len"] = str(options["max_model_len"])
        return identity

    @classmethod
    def preload(cls) -> None:
        """Import vLLM, which takes longer than starting it."""
        vllm_start.prepare_environment()
        from vllm import LLM, SamplingParams  # noqa: F401

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        """Swap the checkpoint's weights in where that can be verified, else start afresh."""
        began = time.perf_counter()
        if checkpoint.adapter:
            outcome = self.load_adapters([checkpoint])[0]
            if isinstance(outcome, CheckpointError):
                raise outcome
            return outcome
        self._check_idle(checkpoint)
        files = preflight.inspect_files(checkpoint.directory)
        reason = self._why_cold(files)
        if not reason and self._running:
            swap.check_same_tensors(self._running.files, files)
        preflight.check_tensors(files)
        tokenizer = load_tokenizer(checkpoint.tokenizer_directory)
        if not reason:
            reason = self._swap(files)
        how = "cold" if reason or self._running is None else "swap"
        if how == "cold":
            self._start(files)
        running = self._require_running()
        running.served = {checkpoint.name: Served(tokenizer)}
        return LoadReport(
            checkpoint=checkpoint.name,
            how="cold" if how == "cold" else "swap",
            seconds=time.perf_counter() - began,
            verified=running.verified,
            reason="; ".join(part for part in (reason, running.unverified) if part),
        )

    def load_adapters(
        self, checkpoints: Sequence[Checkpoint]
    ) -> Sequence[LoadReport | CheckpointError]:
        """Serve LoRA adapters on one base side by side; see `Engine.load_adapters`.

        vLLM is started for them on the base's weights, whose own requests it does not take: on a
        CPU it would give a request without an adapter another one's. The first report holds the
        seconds of the start.
        """
        began = time.perf_counter()
        self._check_idle(checkpoints[0])
        directories = {checkpoint.directory for checkpoint in checkpoints}
        if len(directories) > 1:
            raise EngineError(f"adapters on {len(directories)} bases cannot be served at once")
        base = preflight.inspect_files(checkpoints[0].directory)
        found = [vllm_lora.inspect(checkpoint, base) for checkpoint in checkpoints]
        sound = [adapter for adapter in found if not isinstance(adapter, CheckpointError)]
        if sound:
            self._make_room(base, room_for(sound, self.settings.options))
        outcomes: list[LoadReport | CheckpointError] = []
        for checkpoint, adapter in zip(checkpoints, found, strict=True):
            if isinstance(adapter, CheckpointError):
                outcomes.append(adapter)
                continue
            try:
                reason = vllm_lora.add(self._require_running(), checkpoint, adapter)
            except CheckpointError as error:
                outcomes.append(error)
                continue
            seconds, began = time.perf_counter() - began, time.perf_counter()
            outcomes.append(LoadReport(checkpoint.name, "adapter", seconds, not reason, reason))
        return outcomes

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        """Yield the completions of each request as they finish.

        Raises `EngineError`, naming its index, for a request that does not fit.
        """
        running = self._require_running()

        def arguments(request: GenerateRequest) -> Asked:
            running.check_fits(request.index, request.prompt_token_ids)
            served = running.served_for(request)
            # Where there are stop strings, vLLM looks for them with the tokenizer that it finds
            # here when the request comes in.
            running.llm.llm_engine.output_processor.tokenizer = served.tokenizer
            parameters = sampling_parameters(request)
            return Asked(list(request.prompt_token_ids), parameters, served.adapter)

        with _Counted(self):
            for request, output in stream(
                running.llm.llm_engine, requests, self.capabilities.window, arguments
            ):
                yield to_generated(request, output, running.served_for(request).tokenizer)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the log-likelihood of each continuation; shared contexts are computed once.

        Raises `EngineError`, naming its index, for a request that does not fit.
        """
        running = self._require_running()
        answers = Answers()
        again: list[Ask] = []

        def arguments(ask: Ask) -> Asked:
            adapter = running.served_for(ask.requests[0]).adapter
            return Asked(list(ask.token_ids), scoring_parameters(ask), adapter)

        with _Counted(self):
            engine, window = running.llm.llm_engine, self.capabilities.window
            checked = map(running.checked, requests)
            # In one batch with others, vLLM answers a request for whole distributions as theirs.
            for _, alike in groupby(checked, key=lambda request: request.distributions):
                for ask, output in stream(engine, asks(alike, running.block), window, arguments):
                    if ask.is_whole(output.num_cached_tokens or 0):
                        yield from answers.add(ask, output)
                    else:
                        again.append(ask.without_cache())
            for ask, output in stream(engine, again, window, arguments):
                yield from answers.add(ask, output)

    def close(self) -> None:
        """Shut vLLM down and give its memory back."""
        running, self._running = self._running, None
        if running is None:
            return
        running.llm.llm_engine.engine_core.shutdown()
        del running
        gc.collect()
        _empty_device_cache()

    def _check_idle(self, checkpoint: Checkpoint) -> None:
        if self._streams:
            raise EngineError(
                f"{checkpoint.name}: cannot be loaded while requests are in flight; finish or "
                "close the running generate() first"
            )

    def _why_cold(self, files: preflight.Files) -> str:
        """Why these files need a fresh start, "" where they do not or nothing runs yet."""
        running = self._running
        if running is None:
            return ""
        if running.room:
            return "the running engine serves adapters"
        reason = swap.why_not(running.files, files)
        if reason or running.reason:
            return reason or running.reason
        dtype = vllm_start.resolve_dtype(files, self.settings)
        if dtype != running.dtype:
            return f"stored in {dtype} where the running engine computes in {running.dtype}"
        return ""

    def _swap(self, files: preflight.Files) -> str:
        """Put sound weights into the running engine; "" on success, else why a start is needed."""
        running = self._running
        if running is None:
            return ""
        if running.files.stamp == files.stamp:
            return ""
        try:
            _reload(running.llm, files)
            finding = _probe(running.llm, files)
        except Exception as error:
            # vLLM is spoilt by a reload that failed half-way: later good ones fail too.
            self.close()
            reason = " ".join(str(error).split())[:200]
            return f"the swap failed: {type(error).__name__}: {reason}"
        if not finding.covers_all:
            self.close()
            return f"the swap could not be verified: {finding}"
        running.files = files
        return ""

    def _make_room(self, base: preflight.Files, room: Room) -> None:
        """An engine on the base with room for adapters and none in it: the running one, or new."""
        running = self._running
        dtype = vllm_start.resolve_dtype(base, self.settings)
        same_base = running and running.files.stamp == base.stamp and running.dtype == dtype
        if running and same_base and running.room and running.room.holds(room):
            vllm_lora.remove_all(running)
            return
        preflight.check_tensors(base)
        self._start(base, room)

    def _start(self, files: preflight.Files, room: Room | None = None) -> None:
        """A fresh engine, probed; the old one is closed for good first."""
        preflight.check_complete(files)
        self.close()
        llm = vllm_start.start(files, self.settings, room)
        dtype = vllm_start.resolve_dtype(files, self.settings)
        self._running = running = Running(llm, files, dtype, verified=False, reason="", room=room)
        if files.quantised or self.settings.options.get("quantization"):
            running.reason = "quantised weights are neither swapped nor compared with the files"
            return
        if llm.get_world_size() > 1:
            running.reason = "weights spread over several devices are not compared with the files"
            return
        finding = _probe(llm, files)
        if finding.missing:
            self.close()
            raise CheckpointError(
                f"{files.directory}: tensor {finding.missing[0]!r} is missing; save the "
                "checkpoint again"
            )
        running.verified = finding.covers_all
        if not finding.covers_all:
            running.reason = f"vLLM lays this architecture out in its own way: {finding}"

    def _require_running(self) -> Running:
        if self._running is None:
            raise EngineError("no checkpoint is loaded; call load() first")
        return self._running


class _Counted:
    """Counts an engine's open streams, and closes the engine where vLLM failed in one."""

    def __init__(self, engine: VllmEngine) -> None:
        self.engine = engine

    def __enter__(self) -> None:
        self.engine._streams += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.engine._streams -= 1
        if kind is not None and issubclass(kind, StepError):
            self.engine.close()


def _reload(llm: Any, files: preflight.Files) -> None:
    """vLLM's reload, and what it leaves out: a tied head's packed copy, the prefix cache."""
    path = str(files.directory.resolve())
    llm.collective_rpc("reload_weights", kwargs={"weights_path": path})
    if files.tied:
        llm.apply_model(_repack_head)
    if not llm.reset_prefix_cache():
        raise EngineError("the prefix cache could not be reset: requests are still running")


def _repack_head(model: Any) -> None:
    """Pack the output head again from the weight that it shares with the embeddings."""
    head = getattr(model, "lm_head", None)
    if head is not None and hasattr(head, "quant_method"):
        head.quant_method.process_weights_after_loading(head)


def _probe(llm: Any, files: preflight.Files) -> Finding:
    finding: Finding = llm.apply_model(lambda model: probe(model, files))[0]
    return finding


def _empty_device_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
