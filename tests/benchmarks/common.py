"""What the benchmarks share: a lineage of six checkpoints, and the machine they ran on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from ptharness_zoo import CHECKPOINTS

MIXES = (0.25, 0.75)


def six_checkpoints(folder: Path) -> dict[str, Path]:
    """Four of the zoo and two blends of base and sft: one architecture, different weights."""
    from safetensors.torch import load_file, save_file

    paths = {name: CHECKPOINTS / name for name in ("base", "sft", "grpo", "narrow")}
    tensors = [load_file(CHECKPOINTS / name / "model.safetensors") for name in ("base", "sft")]
    for share in MIXES:
        name = f"blend{int(100 * share)}"
        shutil.copytree(CHECKPOINTS / "sft", folder / name)
        blended = {
            key: ((1 - share) * tensors[0][key].float() + share * tensors[1][key].float()).to(
                tensors[0][key].dtype
            )
            for key in tensors[0]
        }
        save_file(blended, folder / name / "model.safetensors", metadata={"format": "pt"})
        paths[name] = folder / name
    return paths


def write_manifest(
    path: Path, checkpoints: dict[str, Path], evaluate: dict[str, Any], engine: str = "vllm"
) -> Path:
    """A manifest in which every checkpoint but the first is an sft of the first."""
    root, *others = checkpoints
    entries: dict[str, Any] = {root: {"path": str(checkpoints[root])}}
    for name in others:
        entries[name] = {"path": str(checkpoints[name]), "parent": root, "method": "sft"}
    manifest = {
        "lineage": path.stem,
        "checkpoints": entries,
        "evaluate": evaluate,
        "engine": {"name": engine, "dtype": "float32"},
    }
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    return path


def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is shown if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def machine() -> str:
    """One line about where the figures come from."""
    names = ("torch", "transformers", "lm-eval")
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {python}, {libraries}"
