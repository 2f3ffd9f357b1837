"""How far apart two checkpoints are: relative L2 distance over a sample of their weights.

Reads some rows of some tensors straight from the safetensors files, with numpy alone: a lineage
of large models is compared within seconds, and nothing in a file can run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ptharness.errors import CheckpointError
from ptharness.fingerprint import digest, weight_files
from ptharness.safetensors_header import TensorEntry, safetensors_header

MOST_TENSORS = 48
MOST_WEIGHTS = 1 << 21
"""Weights read of one checkpoint: 8 MiB as float32. A smaller model is read whole."""

MOST_WEIGHTS_IN_ALL = 1 << 28
"""Weights read of all checkpoints together: 1 GiB."""

ROUNDING = 0.004
"""Relative distance that storing in bfloat16 alone may add (8 bits of mantissa)."""

_AS_INTEGER = {"BF16": np.dtype("<u2")}
_DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    **_AS_INTEGER,
}

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """Some weights of one checkpoint: name of a tensor -> its first values, as float32.

    `shape` is equal for checkpoints whose tensors have the same names and shapes, which then
    have the same tensors sampled.
    """

    shape: str
    tensors: Mapping[str, Vector]

    @property
    def vector(self) -> Vector:
        """All values in one row."""
        rows = [self.tensors[name] for name in sorted(self.tensors)]
        return np.concatenate(rows) if rows else np.zeros(0, np.float32)


def sample_weights(directory: Path, most: int = MOST_WEIGHTS) -> Sample:
    """Read the sample of a checkpoint, of about `most` weights at most.

    Raises `CheckpointError` where a file cannot be read.
    """
    entries: dict[str, tuple[Path, TensorEntry]] = {}
    for file in weight_files(directory):
        for name, entry in safetensors_header(file).items():
            if name in entries:
                raise CheckpointError(f"{file}: {name} is in another file of the folder too")
            entries[name] = (file, entry)
    shapes = {name: entry.shape for name, (_, entry) in entries.items()}
    names = sorted(shapes)
    if sum(math.prod(shape) for shape in shapes.values()) > most:
        picked = np.unique(np.linspace(0, len(names) - 1, MOST_TENSORS).astype(int))
        names = [names[index] for index in picked]
    each = max(1, most // max(1, len(names)))
    tensors = {}
    for name in names:
        values = _first_values(*entries[name], name, each)
        if values is not None:
            tensors[name] = values
    # Tensors that cannot be read as numbers are left out, and set a checkpoint apart.
    shape = digest(sorted((name, list(shape)) for name, shape in shapes.items()), sorted(tensors))
    return Sample(shape, tensors)


def distances(samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    """Pairwise relative distances of samples of one shape: (n, n), zero on the diagonal.

    |a - b| / sqrt(|a| |b|) over the sampled weights, accumulated in float64.
    """
    rows = np.stack([sample.vector for sample in samples])
    gram = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], 1 << 18):
        block = rows[:, start : start + (1 << 18)].astype(np.float64)
        gram += block @ block.T
    squares = np.diag(gram)
    squared = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0)
    scale = np.sqrt(np.sqrt(squares[:, None] * squares[None, :]))
    relative: npt.NDArray[np.float64] = np.sqrt(squared) / np.where(scale > 0, scale, 1)
    np.fill_diagonal(relative, 0)
    return relative


def shared_distance(one: Sample, other: Sample) -> float | None:
    """Lower quartile of the distances of the tensors that two shapes share; None if too few.

    A student cut out of its teacher's layers keeps names and sizes, but a name may stand for
    another layer now: the tensors that stayed are among the nearer ones.
    """
    names = [
        name
        for name in one.tensors
        if name in other.tensors and one.tensors[name].size == other.tensors[name].size
    ]
    if len(names) < 4:
        return None
    each = [
        distances([Sample("", {name: sample.tensors[name]}) for sample in (one, other)])[0, 1]
        for name in names
    ]
    return float(np.quantile(each, 0.25))


def reach(sample: Sample, learning_rate_sum: float | None) -> float:
    """How far, relatively, a stage can have moved the weights; infinite where no log tells.

    An Adam step moves a weight by about the learning rate at most, so the steps' learning rates
    add up to a bound on each weight's way; half as much again is allowed for momentum and weight
    decay, and the rounding of bfloat16 is added.
    """
    if learning_rate_sum is None:
        return math.inf
    vector = sample.vector
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if not norm:
        return math.inf
    return 1.5 * learning_rate_sum * math.sqrt(vector.size) / norm + ROUNDING


def _first_values(file: Path, entry: TensorEntry, name: str, most: int) -> Vector | None:
    """The first values of a tensor; None for a dtype that is no plain number (quantised)."""
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        return None
    try:
        with file.open("rb") as stream:
            stream.seek(entry.start)
            length = min(entry.end - entry.start, most * dtype.itemsize)
            raw = np.frombuffer(stream.read(length), dtype)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: {name} cannot be read: {error}") from error
    if entry.dtype in _AS_INTEGER:
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        values: Vector = raw.astype(np.float32)
    if not np.isfinite(values).all():
        raise CheckpointError(f"{file}: {name} holds NaN or infinite weights")
    return values
