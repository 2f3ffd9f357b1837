"""LoRA adapters in PEFT's format, written and merged by hand, for tests of engines."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.engines.tiny import edit_tensors

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def make_adapter(
    directory: Path,
    base: Path,
    *,
    seed: int,
    rank: int = 4,
    alpha: float = 8.0,
    targets: Sequence[str] = ALL_LINEAR,
    rank_pattern: Mapping[str, int] | None = None,
    scale: float = 0.2,
    dtype: str = "float32",
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a random adapter on `base`: both factors are random, so that it changes something."""
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in _shapes(base).items():
        module = name.removesuffix(".weight")
        if module.rsplit(".", 1)[-1] not in targets:
            continue
        its_rank = _pattern(rank_pattern or {}, module, rank)
        outputs, inputs = shape
        for factor, size in (("lora_A", (its_rank, inputs)), ("lora_B", (outputs, its_rank))):
            values = torch.randn(size, generator=generator) * scale
            tensors[f"base_model.model.{module}.{factor}.weight"] = values.to(getattr(torch, dtype))
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(targets),
        "rank_pattern": dict(rank_pattern or {}),
        "alpha_pattern": {},
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
        "inference_mode": True,
        **(config or {}),
    }
    (directory / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
    return directory


def merge(adapter: Path, base: Path, directory: Path) -> Path:
    """A copy of `base` with the adapter added to its weights in float32, as PEFT defines it."""
    from safetensors.torch import load_file

    factors = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    shutil.copytree(base, directory)

    def add(tensors: dict[str, Any]) -> None:
        for name, down in factors.items():
            if not name.endswith(".lora_A.weight"):
                continue
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            up = factors[name.replace(".lora_A.", ".lora_B.")]
            rank = _pattern(config["rank_pattern"], module, config["r"])
            alpha = _pattern(config["alpha_pattern"], module, config["lora_alpha"])
            scaling = alpha / (math.sqrt(rank) if config["use_rslora"] else rank)
            weight = tensors[f"{module}.weight"].float()
            tensors[f"{module}.weight"] = weight + scaling * (up.float() @ down.float())

    edit_tensors(directory, add)
    return directory


def edit_adapter(directory: Path, edit: Any = None, **settings: Any) -> Path:
    """Rewrite an adapter after `edit(tensors)` changed the dict in place; lay settings over."""
    from safetensors.torch import load_file, save_file

    if edit is not None:
        path = directory / "adapter_model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        edit(tensors)
        save_file(tensors, path, metadata={"format": "pt"})
    path = directory / "adapter_config.json"
    content = json.loads(path.read_text(encoding="utf-8")) | settings
    path.write_text(json.dumps(content), encoding="utf-8")
    return directory


def _pattern(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """PEFT's rule: the first key that is the end of the module's name, from a dot on."""
    for key, value in pattern.items():
        if re.fullmatch(rf"(.*\.)?({key})", module):
            return value
    return default


def _shapes(base: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    with safe_open(base / "model.safetensors", framework="pt") as handle:
        shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    return {name: shape for name, shape in shapes.items() if len(shape) == 2}
