"""What a safetensors file says of its tensors, and whether the file is as it says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from ptharness.errors import CheckpointError
from ptharness.regular_files import open_regular, short

MOST_HEADER_BYTES = 20_000_000
MOST_DIMENSIONS = 64


_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


class TensorEntry(NamedTuple):
    """Where one tensor lies in its safetensors file: bytes `start` to `end` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def tensor_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file's tensors, from its header alone.

    Raises `CheckpointError` where the header is broken or the file is shorter than it says.
    """
    return {name: entry.shape for name, entry in safetensors_header(path).items()}


def safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file, remembered until the file changes.

    Holds what the format promises: the tensors lie one after another, without holes, up to the
    file's end, each as long as its dtype and shape say (unless the dtype is unknown here).
    Raises `CheckpointError` where that is not so.
    """
    try:
        status = path.stat()
        return dict(_header(path, status.st_mtime_ns, status.st_size))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file: {error}") from error


@lru_cache(maxsize=32)
def _header(path: Path, _modified: int, actual: int) -> dict[str, TensorEntry]:
    with open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= MOST_HEADER_BYTES:
            raise ValueError(f"no safetensors header of at most {MOST_HEADER_BYTES:,} bytes")
        header = json.loads(file.read(size).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    first = 8 + size
    tensors = {k: _entry(k, v, first) for k, v in header.items() if k != "__metadata__"}
    expected = max((entry.end for entry in tensors.values()), default=first)
    if actual != expected:
        raise ValueError(f"holds {actual} bytes where its header says {expected}")
    end = first
    for name, entry in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if entry.start != end:
            raise ValueError(f"{short(name)}: overlaps another tensor or leaves a hole")
        end = entry.end
    return tensors


def _entry(name: str, value: Any, first: int) -> TensorEntry:
    """One tensor of a header whose data begin at byte `first`. Raises `ValueError`."""
    if not isinstance(value, dict):
        raise ValueError(f"{short(name)}: its entry is not a JSON object")
    dtype, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str):
        raise ValueError(f"{short(name)}: dtype is {short(dtype)}, not text")
    if not _sizes(shape) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(
            f"{short(name)}: shape is {short(shape)}, not a list of at most "
            f"{MOST_DIMENSIONS} whole numbers from 0"
        )
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(
            f"{short(name)}: data_offsets are {short(offsets)}, not [begin, end] from 0"
        )
    length = offsets[1] - offsets[0]
    if dtype in _BITS and length * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"{short(name)}: {length} bytes do not hold {dtype} of {short(shape)}")
    return TensorEntry(dtype, tuple(shape), first + offsets[0], first + offsets[1])


def _sizes(value: Any) -> TypeGuard[list[int]]:
    """Whether a value is a list of whole numbers from 0 that fit 63 bits."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)
