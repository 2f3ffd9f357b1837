"""Which options of lm-eval's model classes a manifest may set, and why others are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ptharness.engines.lm_eval_names import APIS
from ptharness.errors import EngineError, near_misses

DTYPES = ("auto", "float32", "bfloat16", "float16")
DEVICE = re.compile(r"cpu|mps(:0)?|cuda(:\d+)?|(npu|xpu|hpu)(:\d+)?")
BATCH_SIZE = re.compile(r"auto(:\d+)?")

Kind = type | tuple[str, ...]

HF_ALLOWED: Mapping[str, Kind] = {
    # What is computed: part of a unit's key.
    "dtype": DTYPES,
    "mixed_precision_dtype": DTYPES[1:],
    "softmax_dtype": DTYPES[1:],
    "device": str,
    # How it is computed: memory, speed, layout over devices.
    "attn_implementation": ("eager", "sdpa", "flash_attention_2", "flash_attention_3"),
    "batch_size": int,
    "max_batch_size": int,
    "max_cpu_memory": str,
    "max_length": int,
    "max_memory_per_gpu": str,
    "parallelize": bool,
    # Ours: requests in flight.
    "window": int,
}
"""Option of `hf` -> its type, or its legal values. `batch_size` may also be auto."""

API_ALLOWED: Mapping[str, Kind] = {
    "base_url": str,
    "model": str,
    "ca_cert_path": str,
    "eos_string": str,
    "max_length": int,
    "max_retries": int,
    "num_concurrent": int,
    "timeout": int,
    "verify_certificate": bool,
    "window": int,
}
"""Option of a model of a server -> its type."""

TEXT_ALLOWED: Mapping[str, Kind] = {
    "batch_size": int,
    "data_parallel_size": int,
    "device": str,
    "dp_size": int,
    "dtype": DTYPES,
    "gpu_memory_utilization": float,
    "max_batch_size": int,
    "max_length": int,
    "max_model_len": int,
    "mem_fraction_static": float,
    "tensor_parallel_size": int,
    "tp_size": int,
    "window": int,
}
"""Option of a model in this process -> its type, or its legal values."""

OURS = ("window",)
"""Options that lm-eval does not see."""

WITHOUT_EFFECT = (
    *("batch_size", "ca_cert_path", "data_parallel_size", "dp_size", "gpu_memory_utilization"),
    *("max_batch_size", "max_retries", "mem_fraction_static", "num_concurrent"),
    *("tensor_parallel_size", "timeout", "tp_size", "verify_certificate", "window"),
)
"""Options of other classes than `hf` that are no part of a unit's key."""

CODE = "it loads or runs code that is not lm-eval's"
ELSEWHERE = "the manifest's checkpoints say what is loaded"
PROTOCOL = "sampling is the task's protocol; set it under evaluate:"
PROMPTS = "prompts are made, tokenised and checked for length by ptharness"
ANSWERS = "it changes what the model said; leave that to the task's filters"
SECRET = "options are published with the results; use the environment variable that lm-eval reads"
QUANTISED = "weights are computed with as they are stored; quantise the checkpoint instead"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "autogptq",
            "code_revision",
            "custom_generate",
            "gguf_file",
            "gptqmodel",
            "hf_overrides",
            "load_format",
            "model_impl",
            "tp_plan",
            "trust_remote_code",
            "use_safetensors",
            "weights_only",
        ),
        CODE,
    ),
    **dict.fromkeys(
        (
            "backend",
            "cache_dir",
            "config",
            "delta",
            "lora_local_path",
            "offload_folder",
            "path",
            "peft",
            "pretrained",
            "revision",
            "state_dict",
            "steer_path",
            "subfolder",
            "tokenizer",
            "tokenizer_backend",
            "tokenizer_revision",
            "use_fast_tokenizer",
        ),
        ELSEWHERE,
    ),
    **dict.fromkeys(
        ("do_sample", "max_gen_toks", "seed", "temperature", "top_k", "top_p", "until"), PROTOCOL
    ),
    **dict.fromkeys(
        (
            "add_bos_token",
            "custom_prefix_token_id",
            "logits_cache",
            "prefix_token_id",
            "tokenized_requests",
            "truncate",
            "truncation",
        ),
        PROMPTS,
    ),
    **dict.fromkeys(("chat_template_args", "enable_thinking", "think_end_token"), ANSWERS),
    **dict.fromkeys(("auth_token", "header", "api_key"), SECRET),
    **dict.fromkeys(
        ("load_in_4bit", "load_in_8bit", "quantization", "quantization_config"), QUANTISED
    ),
}
"""Option -> why a manifest may not set it, for every model class."""


def allowed(name: str) -> Mapping[str, Kind]:
    """The options of a model class other than `hf`."""
    return API_ALLOWED if name in APIS else TEXT_ALLOWED


def check(engine: str, options: Mapping[str, Any], allowed: Mapping[str, Kind]) -> None:
    """Raise `EngineError` for an option that is refused, unknown, or of the wrong type."""
    for name, value in options.items():
        if name in allowed:
            _check_value(name, value, allowed[name])
        elif name in REFUSED:
            raise EngineError(f"engine.{name}: refused: {REFUSED[name]}")
        else:
            raise EngineError(
                f"engine.{name}: not an option of the {engine} engine{near_misses(name, allowed)}"
            )


def _check_value(name: str, value: Any, kind: Kind) -> None:
    if name == "batch_size" and isinstance(value, str) and BATCH_SIZE.fullmatch(value):
        return
    if name == "device" and isinstance(value, str) and not DEVICE.fullmatch(value):
        raise EngineError(f"engine.device: {value!r} (legal: cpu, cuda, cuda:0, ..., mps)")
    if isinstance(kind, tuple):
        if value not in kind:
            raise EngineError(f"engine.{name}: {value!r} (legal: {', '.join(kind)})")
        return
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        auto = ", and not auto" if name == "batch_size" else ""
        raise EngineError(f"engine.{name}: {value!r} is not a value of type {kind.__name__}{auto}")
    if kind is int and isinstance(value, int) and value < 1:
        raise EngineError(f"engine.{name}: {value!r}; the least is 1")
    if kind is float and isinstance(value, int | float) and value < 0:
        raise EngineError(f"engine.{name}: {value!r} is negative")
