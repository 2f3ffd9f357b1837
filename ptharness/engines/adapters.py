"""Are a LoRA adapter's files sound, of a kind that an engine can serve, and made for this base?

Everything here reads files only, in the format of Hugging Face's PEFT: adapter_config.json says
rank and scaling, adapter_model.safetensors holds two factors per adapted linear layer, and the
layer's weight becomes `W + scaling * lora_B @ lora_A`. An engine may leave out what it does not
know, or cut what does not fit, without a word; so this comes before it.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ptharness.engines.preflight import DTYPES, Files, inspect_files
from ptharness.errors import CheckpointError
from ptharness.fingerprint import PICKLE_SUFFIXES
from ptharness.regular_files import is_regular, read_object
from ptharness.safetensors_header import safetensors_header

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MERGE = "merge it into its base (PEFT's merge_and_unload) and give the merged folder as its path"
MOST_RANK = 512
"""The largest rank that vLLM serves."""

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight", re.DOTALL)
_EMBEDDINGS = ("embed_tokens", "wte", "lm_head", "embed_out")
_PLAIN_PATTERN = re.compile(r"\^?(\.\*)?[A-Za-z0-9_.\\-]*\$?")
_INITS_THAT_KEEP_THE_BASE = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
_FEATURES = {
    "use_dora": "DoRA, which scales each output by a norm of its own",
    "lora_bias": "a bias beside the factors",
    "modules_to_save": "whole modules that were trained beside the factors",
    "trainable_token_indices": "embeddings of single tokens",
    "target_parameters": "factors of parameters that are no linear layer's weight",
    "layer_replication": "layers that are repeated",
    "alora_invocation_tokens": "activation from a token on (aLoRA)",
    "use_bdlora": "block-diagonal factors",
    "use_qalora": "quantised factors (QALoRA)",
    "megatron_config": "Megatron's parallel layers",
}
"""Key of adapter_config.json -> what it switches on that is no plain LoRA."""


class Factors(NamedTuple):
    """The two factors of one linear layer: their tensors' names, sizes and scaling."""

    down: str
    up: str
    inputs: int
    outputs: int
    rank: int
    scaling: float


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's files: `factors` by the name that transformers gives the linear layer."""

    directory: Path
    config: Mapping[str, Any]
    factors: Mapping[str, Factors]

    @property
    def weights(self) -> Path:
        """The file that holds the factors."""
        return self.directory / WEIGHTS

    @property
    def rank(self) -> int:
        """The largest rank in its config, which is that of its factors or more."""
        patterns = self.config.get("rank_pattern") or {}
        return max(int(rank) for rank in (self.config["r"], *patterns.values()))

    @property
    def targets(self) -> frozenset[str]:
        """The last words of its linear layers' names, such as q_proj."""
        return frozenset(module.rsplit(".", 1)[-1] for module in self.factors)


def inspect_adapter(directory: Path) -> Adapter:
    """Read config and header. Raises `CheckpointError` for what is broken or not plain LoRA."""
    config = read_object(directory / CONFIG)
    _check_kind(directory / CONFIG, config)
    weights = directory / WEIGHTS
    if not is_regular(weights):
        pickles = sorted(p.name for p in directory.glob("*") if p.suffix in PICKLE_SUFFIXES)
        held = f"; it holds {pickles[0]}, a pickle, which can run code" if pickles else ""
        raise CheckpointError(f"{directory}: has no {WEIGHTS}{held}: save the adapter again")
    sizes: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for name, entry in safetensors_header(weights).items():
        module, side = _module_of(weights, name)
        if entry.dtype not in DTYPES:
            raise CheckpointError(
                f"{weights}: tensor {_short(name)} is stored as {_short(entry.dtype)}; only "
                f"{', '.join(DTYPES)} are served: {MERGE}"
            )
        sizes.setdefault(module, {})[side] = (name, entry.shape)
    if not sizes:
        raise CheckpointError(f"{weights}: holds no tensor")
    _check_ranks(directory / CONFIG, config)
    factors = {module: _factors(weights, config, module, sides) for module, sides in sizes.items()}
    return Adapter(directory, config, factors)


def inspect_on_base(directory: Path, base: Path) -> Adapter:
    """All that configs and headers tell, in a few milliseconds. Raises `CheckpointError`."""
    adapter = inspect_adapter(directory)
    check_on_base(adapter, inspect_files(base))
    return adapter


def check_on_base(adapter: Adapter, base: Files) -> None:
    """The adapter's layers are the base's, of its sizes, and none that it names is left out.

    Says nothing where the base stores its layers under other names than the adapter's, or
    quantised; what the engine made of the adapter is compared after the load. Raises
    `CheckpointError` naming the tensor.
    """
    shapes = {
        name.removesuffix(".weight"): shape
        for name, shape in base.shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }
    if base.quantised or not shapes.keys() & adapter.factors.keys():
        return
    turned = bool(adapter.config.get("fan_in_fan_out"))
    for module, factors in adapter.factors.items():
        if module not in shapes:
            raise CheckpointError(
                f"{adapter.weights}: tensor {_short(factors.down)} is for a layer that "
                f"{base.directory} does not have: was the adapter trained on another base?"
            )
        outputs, inputs = reversed(shapes[module]) if turned else shapes[module]
        for name, found, expected in (
            (factors.down, (factors.rank, factors.inputs), (factors.rank, inputs)),
            (factors.up, (factors.outputs, factors.rank), (outputs, factors.rank)),
        ):
            if found != expected:
                raise CheckpointError(
                    f"{adapter.weights}: tensor {_short(name)} has shape {list(found)} where "
                    f"{base.directory} needs {list(expected)}: was the adapter trained on "
                    "another base?"
                )
    for module in _expected(adapter.config, shapes):
        if module not in adapter.factors:
            raise CheckpointError(
                f"{adapter.weights}: tensor {_short(f'{_PREFIX}{module}.lora_A.weight')} is "
                f"missing: {CONFIG} names {module.rsplit('.', 1)[-1]!r} among its target_modules; "
                "save the adapter again"
            )


def check_finite(adapter: Adapter) -> None:
    """Read every tensor. Raises `CheckpointError` naming one that is not finite."""
    import torch

    for name, tensor in read_factors(adapter):
        bad = int(tensor.numel() - torch.isfinite(tensor).sum())
        if bad:
            raise CheckpointError(
                f"{adapter.weights}: tensor {_short(name)} holds {bad} values that are not finite "
                "(NaN or infinite); the training run that wrote it diverged"
            )


def read_factors(adapter: Adapter) -> Iterator[tuple[str, Any]]:
    """Yield (name, tensor), from a memory map."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(adapter.weights, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118
                yield name, handle.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{adapter.weights}: cannot be read as safetensors: {error}"
        ) from error


def _check_kind(path: Path, config: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` for what is no plain LoRA."""
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{path}: peft_type {_short(kind)}; only LORA is served: {MERGE}")
    if config.get("bias", "none") != "none":
        raise CheckpointError(
            f"{path}: bias {_short(config['bias'])}; only none is served: {MERGE}"
        )
    if not isinstance(config.get("target_modules"), list | str):
        raise CheckpointError(f"{path}: target_modules is {_short(config.get('target_modules'))}")
    for key, what in _FEATURES.items():
        if config.get(key):
            raise CheckpointError(
                f"{path}: {key}: {_short(config[key])}: {what}; only plain LoRA is served: {MERGE}"
            )
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _INITS_THAT_KEEP_THE_BASE:
        raise CheckpointError(
            f"{path}: init_lora_weights {_short(init)} changes the base's weights when PEFT "
            f"loads it; save it with path_initial_model_for_weight_conversion, or {MERGE}"
        )


def _module_of(weights: Path, name: str) -> tuple[str, str]:
    """The linear layer and side (A or B) of a tensor."""
    found = _FACTOR.fullmatch(name.removeprefix(_PREFIX))
    if found is None or not name.startswith(_PREFIX):
        raise CheckpointError(
            f"{weights}: tensor {_short(name)} is no LoRA factor of a linear layer "
            f"('{_PREFIX}LAYER.lora_A.weight' or lora_B); only those are served: {MERGE}"
        )
    module = found["module"]
    if module.rsplit(".", 1)[-1] in _EMBEDDINGS:
        raise CheckpointError(
            f"{weights}: tensor {_short(name)} adapts the embeddings or the output head; only "
            f"the linear layers between them are served: {MERGE}"
        )
    return module, found["side"]


def _factors(
    weights: Path,
    config: Mapping[str, Any],
    module: str,
    sides: Mapping[str, tuple[str, tuple[int, ...]]],
) -> Factors:
    for side in "AB":
        if side not in sides:
            raise CheckpointError(
                f"{weights}: tensor {_short(f'{_PREFIX}{module}.lora_{side}.weight')} is missing; "
                "save the adapter again"
            )
    (down, down_shape), (up, up_shape) = sides["A"], sides["B"]
    rank, scaling = _rank_and_scaling(weights.with_name(CONFIG), config, module)
    for name, shape, position in ((down, down_shape, 0), (up, up_shape, 1)):
        if len(shape) != 2 or shape[position] != rank:
            raise CheckpointError(
                f"{weights}: tensor {_short(name)} has shape {list(shape)}, but {CONFIG} gives "
                f"this layer rank {rank}; one of the two is of another adapter"
            )
    return Factors(down, up, down_shape[1], up_shape[0], rank, scaling)


def _check_ranks(path: Path, config: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` for patterns that are no objects, and ranks that are none."""
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            raise CheckpointError(f"{path}: {key} is {_short(config[key])}, not an object")
    for rank in (config.get("r"), *(config.get("rank_pattern") or {}).values()):
        if type(rank) is not int or not 0 < rank <= MOST_RANK:
            raise CheckpointError(
                f"{path}: rank {_short(rank)}; a rank that is served is a whole number from 1 to "
                f"{MOST_RANK}; a larger one: {MERGE}"
            )


def _rank_and_scaling(path: Path, config: Mapping[str, Any], module: str) -> tuple[int, float]:
    """What the config gives a layer, by PEFT's rule: its patterns before its defaults."""
    rank = int(_by_pattern(path, config, "rank_pattern", "r", module))
    alpha = _by_pattern(path, config, "alpha_pattern", "lora_alpha", module)
    # As a bound, so that a whole number beyond all floats is none either.
    if type(alpha) not in (int, float) or not abs(alpha) <= sys.float_info.max:
        raise CheckpointError(f"{path}: lora_alpha {_short(alpha)} is not a finite number")
    return rank, float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(path: Path, config: Mapping[str, Any], patterns: str, key: str, module: str) -> Any:
    for pattern, value in (config.get(patterns) or {}).items():
        # Whoever wrote the adapter wrote the pattern: one that could take for ever is not tried.
        if not _PLAIN_PATTERN.fullmatch(pattern):
            raise CheckpointError(
                f"{path}: {patterns} has the pattern {_short(pattern)}; only names of layers, or "
                f"of the ends of such names, are served: {MERGE}"
            )
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise CheckpointError(
                f"{path}: {patterns}: {_short(pattern)} is no pattern: {error}"
            ) from error
    return config.get(key)


def _expected(config: Mapping[str, Any], modules: Mapping[str, Any]) -> list[str]:
    """The base's layers that the config names one by one; none where it names them otherwise."""
    targets = config.get("target_modules")
    if not isinstance(targets, list) or any(
        config.get(key) for key in ("layers_to_transform", "layers_pattern", "exclude_modules")
    ):
        return []
    words = {str(target) for target in targets}
    return [
        module
        for module in modules
        if module.rsplit(".", 1)[-1] not in _EMBEDDINGS
        and any(module == word or module.endswith(f".{word}") for word in words)
    ]


def _short(value: Any) -> str:
    """A value from a file, for a message of one line."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
