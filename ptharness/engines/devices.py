"""What a machine computes on, found without importing torch."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path


def gpu_names() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that this process may use, without repeats; empty on a CPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return ()
    return tuple(sorted(set(_from_driver() or _from_tool())))


def _from_driver() -> list[str]:
    names = []
    for path in Path("/proc/driver/nvidia/gpus").glob("*/information"):
        try:
            found = re.search(r"^Model:\s*(.+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        if found:
            names.append(found[1].strip())
    return names


def _from_tool() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]
