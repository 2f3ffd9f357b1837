"""Which folders are checkpoints: a bounded walk that follows no link."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptharness.errors import CheckpointError, ManifestError
from ptharness.fingerprint import PICKLE_SUFFIXES, weight_files
from ptharness.leftovers import read_json, step_of
from ptharness.safetensors_header import tensor_shapes

MOST_ENTRIES = 2_000_000
MOST_DEPTH = 12

ADAPTER_WEIGHTS = "adapter_model.safetensors"

VAGUE_NAMES = frozenset(
    {"checkpoint", "checkpoints", "final", "final_model", "hf", "last", "latest", "merged"}
    | {"model", "out", "output", "snapshots", "weights"}
)
"""Names of folders that say nothing of what lies in them: the folder above is named too."""

NO_LANGUAGE_MODEL = ("ForSequenceClassification", "ForTokenClassification", "RewardModel")


@dataclass(frozen=True)
class Folder:
    """A checkpoint's folder: `name` in the manifest, whether it is a LoRA adapter, its step.

    `stage` is the folder whose stage an intermediate `checkpoint-N` belongs to: the folder
    around it, which may or may not hold the final weights.
    """

    name: str
    directory: Path
    is_adapter: bool = False
    step: int | None = None
    stage: Path | None = None


@dataclass(frozen=True)
class PassedOver:
    """A folder that looks like a checkpoint and is not taken, with the reason."""

    directory: Path
    reason: str


def find_folders(directories: Sequence[Path]) -> tuple[list[Folder], list[PassedOver]]:
    """The checkpoints in and below these folders, in the order of their paths.

    Raises `ManifestError` where a directory is missing, or too large to be walked.
    """
    found: dict[Path, bool] = {}
    passed_over: dict[Path, str] = {}
    for directory in directories:
        try:
            is_folder, exists = directory.is_dir(), directory.exists()
        except OSError as error:
            raise ManifestError(f"{str(directory)[:100]}: {error.strerror}; name folders") from None
        if not is_folder:
            what = "is a file" if exists else "does not exist"
            raise ManifestError(f"{directory} {what}; name folders that hold checkpoints")
        for folder, files in _walk(directory.resolve()):
            try:
                str(folder).encode()
            except UnicodeEncodeError:
                if "config.json" in files:
                    passed_over[folder] = "its name is not UTF-8; rename it"
                continue
            try:
                is_adapter = _is_adapter(folder, files)
            except CheckpointError as error:
                passed_over[folder] = str(error).removeprefix(f"{folder}: ")
                continue
            if is_adapter is not None:
                found[folder] = is_adapter
    named = _named(sorted(found))
    folders = [
        Folder(
            named[folder],
            folder,
            found[folder],
            step_of(folder.name),
            folder.parent if step_of(folder.name) is not None else None,
        )
        for folder in sorted(found)
    ]
    return folders, [PassedOver(folder, reason) for folder, reason in sorted(passed_over.items())]


def _walk(top: Path) -> Iterator[tuple[Path, set[str]]]:
    """Folders with the names of their files, hidden folders and links to folders left out."""
    seen = 0
    waiting = [(top, 0)]
    while waiting:
        folder, depth = waiting.pop()
        files: set[str] = set()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MOST_ENTRIES:
                        raise ManifestError(
                            f"{top} holds more than {MOST_ENTRIES:,} files; name the folders "
                            "that hold checkpoints"
                        )
                    if entry.is_dir(follow_symlinks=False):
                        if depth < MOST_DEPTH and not entry.name.startswith("."):
                            waiting.append((Path(entry.path), depth + 1))
                    elif _is_file(entry):
                        files.add(entry.name)
        except OSError:
            continue  # not ours to read
        yield folder, files


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()  # the hub's cache links to files
    except OSError:
        return False  # a link to itself


def _is_adapter(folder: Path, files: set[str]) -> bool | None:
    """Whether a checkpoint's folder holds an adapter; None where it is no checkpoint.

    Raises `CheckpointError` with the reason where it looks like one and cannot be used.
    """
    if {"adapter_config.json", ADAPTER_WEIGHTS} <= files:
        if not read_json(folder / "adapter_config.json"):
            raise CheckpointError(f"{folder}: adapter_config.json cannot be read")
        tensor_shapes(folder / ADAPTER_WEIGHTS)
        return True
    if "config.json" not in files:
        return None
    if not any(name.endswith(".safetensors") for name in files):
        pickles = sorted(name for name in files if name.endswith(PICKLE_SUFFIXES))
        weights = [name for name in pickles if not name.startswith(("training_args", "optimizer"))]
        if weights:
            raise CheckpointError(f"{folder}: only pickled weights ({weights[0]}); convert them")
        return None
    config = read_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"{folder}: config.json names no model_type, or cannot be read")
    architectures = config.get("architectures")
    for architecture in architectures if isinstance(architectures, list) else ():
        if str(architecture).endswith(NO_LANGUAGE_MODEL):
            raise CheckpointError(f"{folder}: {architecture} writes no text")
    for file in weight_files(folder):
        tensor_shapes(file)
    return False


def _named(folders: Sequence[Path]) -> dict[Path, str]:
    """A legal name for each folder: its own, with as much of the path above as sets it apart."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    parts = {folder: _parts(folder) for folder in folders}
    tails = Counter(tuple(words[-n:]) for words in parts.values() for n in range(1, 5))
    for folder, words in parts.items():
        length = next((n for n in range(1, 4) if tails[tuple(words[-n:])] == 1), 4)
        name = "-".join(words[-length:])[-80:].lstrip("-._") or "checkpoint"
        number, free = 2, name
        while free in taken:
            free, number = f"{name}-{number}", number + 1
        names[folder] = free
        taken.add(free)
    return names


def _parts(folder: Path) -> list[str]:
    """The path as legal words; a vague last one is joined with the one above it."""
    words = [word for part in folder.parts if (word := _legal(part))]
    step = step_of(words[-1]) if words else None
    if step is not None:
        words = [*words[:-2], "-".join([*words[-2:-1], str(step)])]
    hub = re.search(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/", f"{folder}/")
    if hub:
        words = [*words[:-1], _legal(hub["name"])]
    elif len(words) > 1 and words[-1].lower() in VAGUE_NAMES:
        words = [*words[:-2], f"{words[-2]}-{words[-1]}"]
    return words


def _legal(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
