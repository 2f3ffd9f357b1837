"""Lineages whose parents are known, as folders on disk: small random weights, real file formats."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, npt.NDArray[np.float32]]

SHAPES = {
    "model.embed_tokens.weight": (40, 32),
    "model.layers.0.mlp.weight": (32, 64),
    "model.layers.0.self_attn.weight": (32, 32),
    "model.layers.1.mlp.weight": (32, 64),
    "model.layers.1.self_attn.weight": (32, 32),
    "model.norm.weight": (32,),
}


def fresh(seed: int, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> Weights:
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=shape).astype(np.float32) * 0.05 for name, shape in shapes.items()
    }


def trained(parent: Weights, seed: int, size: float, towards: Weights | None = None) -> Weights:
    """The parent moved by `size` of its length: at random, or half-way the same as `towards`."""
    random = np.random.default_rng(seed)
    moved = {}
    for name, values in parent.items():
        step = random.normal(size=values.shape).astype(np.float32)
        if towards is not None:
            step = step + 0.5 * (towards[name] - values) / np.std(towards[name] - values)
        step *= size * np.linalg.norm(values) / np.linalg.norm(step)
        moved[name] = values + step
    return moved


def write_weights(path: Path, weights: Weights, dtype: str = "F32") -> None:
    header: dict[str, Any] = {}
    content = b""
    for name, values in weights.items():
        if dtype == "BF16":
            raw = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            raw = values.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[dtype]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [len(content), len(content) + len(raw)],
        }
        content += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def write_model(
    folder: Path,
    weights: Weights,
    *,
    tags: Iterable[str] = (),
    logged: Iterable[str] = (),
    learning_rate: float | None = None,
    steps: int = 100,
    dtype: str = "F32",
    **config: object,
) -> Path:
    """A checkpoint's folder: config, tokenizer, weights, and what a TRL run leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}}}))
    write_weights(folder / "model.safetensors", weights, dtype)
    if tags:
        (folder / "README.md").write_text(f"---\ntags: [trl, {', '.join(tags)}]\n---\n")
    if logged or learning_rate is not None:
        entry = dict.fromkeys(logged, 0.5)
        if learning_rate is not None:
            entry["learning_rate"] = learning_rate
        state = {"global_step": steps, "log_history": [entry] * 3}
        (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


def write_adapter(folder: Path, base: str, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    written = {"base_model_name_or_path": base, "peft_type": "LORA"} | config
    (folder / "adapter_config.json").write_text(json.dumps(written))
    write_weights(folder / "adapter_model.safetensors", fresh(1, {"lora_A": (4, 32)}))
    return folder
