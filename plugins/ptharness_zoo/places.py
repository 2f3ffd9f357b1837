"""What an output folder holds before training: what is kept or started from, what is in the way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ptharness.errors import PtharnessError
from ptharness_zoo.stages import STAGES, Stage

WEIGHTS = ("model.safetensors", "adapter_model.safetensors")


def place_of(name: str, out: Path) -> Path:
    """Where a stage's checkpoint lies, or is to lie."""
    return out / "checkpoints" / name


def is_trained(name: str, out: Path) -> bool:
    """Whether `out` holds this stage's checkpoint. Raises where something else is in its place."""
    place = place_of(name, out)
    if has_weights(place):
        return True
    if place.exists() or place.is_symlink():
        raise PtharnessError(
            f"{place} is no checkpoint (a folder with {' or '.join(WEIGHTS)}); "
            "move it away, or give another folder with --out"
        )
    return False


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a whole model or an adapter."""
    return any((folder / name).is_file() for name in WEIGHTS)


def check_places(stages: Iterable[Stage], out: Path) -> None:
    """Raise where what training reads is no checkpoint, or what it writes has no place."""
    for folder in (out / "checkpoints", out / "trajectories"):
        if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
            raise PtharnessError(
                f"{folder} is no folder; move it away, or give another folder with --out"
            )
    for stage in stages:
        for name in (*stage.needs, stage.name):
            is_trained(name, out)


def missing(out: Path) -> list[str]:
    """The stages that `out` lacks."""
    return [name for name in STAGES if not has_weights(place_of(name, out))]
