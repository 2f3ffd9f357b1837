"""Which of vLLM's engine options a manifest may set, and why the others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptharness.errors import EngineError, near_misses

DTYPES = ("auto", "float32", "bfloat16", "float16")

ALLOWED: Mapping[str, type | tuple[str, ...]] = {
    # What is computed: part of a unit's key.
    "dtype": DTYPES,
    "quantization": str,
    "kv_cache_dtype": str,
    "max_model_len": int,
    # How it is computed: memory, speed, layout over devices.
    "async_scheduling": bool,
    "attention_backend": str,
    "block_size": int,
    "cpu_offload_gb": float,
    "disable_cascade_attn": bool,
    "disable_custom_all_reduce": bool,
    "distributed_executor_backend": ("mp", "ray", "uni"),
    "enable_chunked_prefill": bool,
    "enable_expert_parallel": bool,
    "enable_prefix_caching": bool,
    "enforce_eager": bool,
    "gpu_memory_utilization": float,
    "kv_cache_memory_bytes": int,
    "max_num_batched_tokens": int,
    "max_num_seqs": int,
    "num_gpu_blocks_override": int,
    "pipeline_parallel_size": int,
    "safetensors_load_strategy": ("lazy", "eager", "prefetch"),
    "tensor_parallel_size": int,
    # Adapters in one batch: memory and speed.
    "max_loras": int,
    # Ours: requests in flight.
    "window": int,
}
"""Option -> its type, or its legal values."""

_CODE = "it loads or runs code that is not vLLM's"
_ELSEWHERE = "the manifest's checkpoints say what is loaded"
_PROTOCOL = "sampling is the task's protocol; set it under evaluate:"
_RECORDED = "ptharness sets it, because its tables depend on it"
_OTHER_MODEL = "it changes which tokens are drawn, by another model or rule than the checkpoint's"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "additional_config",
            "code_revision",
            "collect_detailed_traces",
            "compilation_config",
            "config_format",
            "ec_transfer_config",
            "engram_config",
            "hf_overrides",
            "io_processor_plugin",
            "kernel_config",
            "kv_connector",
            "kv_events_config",
            "kv_hints",
            "kv_offloading_backend",
            "kv_transfer_config",
            "load_format",
            "log_config_file",
            "logging_config",
            "logits_processors",
            "model_class_overrides",
            "model_impl",
            "model_loader_extra_config",
            "plugins",
            "profiler_config",
            "reasoning_parser",
            "reasoning_parser_plugin",
            "scheduler_cls",
            "structured_outputs_config",
            "tokenizer_mode",
            "tool_parser_plugin",
            "trust_remote_code",
            "weight_transfer_config",
            "worker_cls",
            "worker_extension_cls",
        ),
        _CODE,
    ),
    **dict.fromkeys(
        (
            "download_dir",
            "hf_config_path",
            "hf_token",
            "ignore_patterns",
            "model",
            "model_weights",
            "pt_load_map_location",
            "revision",
            "runner",
            "served_model_name",
            "skip_tokenizer_init",
            "tokenizer",
            "tokenizer_revision",
        ),
        _ELSEWHERE,
    ),
    **dict.fromkeys(("generation_config", "override_generation_config", "seed"), _PROTOCOL),
    **dict.fromkeys(
        ("disable_log_stats", "logprobs_mode", "max_logprobs", "stream_interval"), _RECORDED
    ),
    **dict.fromkeys(
        (
            "diffusion_config",
            "spec_method",
            "spec_model",
            "spec_tokens",
            "speculative_config",
            "watermark_config",
        ),
        _OTHER_MODEL,
    ),
    **dict.fromkeys(
        ("enable_lora", "lora_target_modules", "max_cpu_loras", "max_lora_rank"),
        "it is read from the manifest's adapters",
    ),
    "lora_dtype": "adapters are computed in the engine's dtype",
}
"""Option -> why a manifest may not set it."""


def check(options: Mapping[str, Any]) -> None:
    """Raise `EngineError` for an option that is refused, unknown, or of the wrong type."""
    for name, value in options.items():
        if name in REFUSED:
            raise EngineError(f"engine.{name}: refused: {REFUSED[name]}")
        if name not in ALLOWED:
            raise EngineError(
                f"engine.{name}: not an option of the vllm engine{near_misses(name, ALLOWED)}"
            )
        _check_value(name, value, ALLOWED[name])


def _check_value(name: str, value: Any, kind: type | tuple[str, ...]) -> None:
    if isinstance(kind, tuple):
        if value not in kind:
            raise EngineError(f"engine.{name}: {value!r} (legal: {', '.join(kind)})")
        return
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise EngineError(f"engine.{name}: {value!r} is not a value of type {kind.__name__}")
    if kind is int and isinstance(value, int) and value < 1:
        raise EngineError(f"engine.{name}: {value!r}; the least is 1")
    if kind is float and isinstance(value, int | float) and value < 0:
        raise EngineError(f"engine.{name}: {value!r} is negative")
