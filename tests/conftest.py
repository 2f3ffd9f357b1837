"""Fixtures that many tests share: small folders that look like checkpoints, and a manifest."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ptharness.testing import leave_adapter_config, write_checkpoint, write_safetensors

__all__ = ["LORA_FACTORS", "MANIFEST", "write_checkpoint", "write_lora", "write_safetensors"]

MANIFEST = """\
lineage: demo
checkpoints:
  base: {path: checkpoints/base}
  sft: {path: checkpoints/sft, parent: base, method: sft}
  grpo: {path: checkpoints/grpo, parent: sft, method: grpo}
evaluate:
  tasks: [arith_add, arith_rot]
  samples: 32
  temperature: 1.0
engine: {name: fake}
"""

LORA_FACTORS = {
    "base_model.model.layer.lora_A.weight": (2, 8),
    "base_model.model.layer.lora_B.weight": (8, 2),
}


def write_lora(
    folder: Path,
    base: str = "org/sft",
    value: float = 0.0,
    factors: Mapping[str, Sequence[int]] = LORA_FACTORS,
    **config: object,
) -> Path:
    """A sound LoRA adapter of one layer, for engines that do not look at the layer."""
    sound = {"r": 2, "lora_alpha": 4, "target_modules": ["layer"]}
    leave_adapter_config(folder, base, **(sound | config))
    header, end = {}, 0
    for name, shape in factors.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + struct.pack("<f", value) * (end // 4)
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


@pytest.fixture
def lineage_folder(tmp_path: Path) -> Path:
    """A folder with `lineage.yaml` (MANIFEST) and the checkpoints that it names."""
    for name in ("base", "sft", "grpo"):
        write_checkpoint(tmp_path / "checkpoints" / name)
    (tmp_path / "lineage.yaml").write_text(MANIFEST)
    return tmp_path


@pytest.fixture
def edited(lineage_folder: Path) -> Callable[..., Path]:
    """`edited(old, new, ...)`: the manifest with pieces of its text replaced, as a file."""

    def edit(*replacements: str) -> Path:
        text = MANIFEST
        for old, new in zip(replacements[::2], replacements[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        path = lineage_folder / "lineage.yaml"
        path.write_text(text)
        return path

    return edit


@pytest.fixture(autouse=True)
def forgotten_plugin_files() -> Iterator[None]:
    """Plugin files are modules of the process; a test's own must not reach the next test."""
    before = set(sys.modules)
    yield
    for module in set(sys.modules) - before:
        if module.startswith("ptharness_plugin_"):
            del sys.modules[module]
