"""What a folder calls its parent: paths and hub ids in adapter configs, cards and merge recipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Generic, TypeVar

from ptharness.leftovers import read_json, read_leftovers

Key = TypeVar("Key")

MOST_CHARACTERS = 1000
"""A longer reference is no path and no hub id."""


def references(directory: Path) -> tuple[tuple[str, str], ...]:
    """Who the folder's files name as its parent: pairs of (name or path, which file says so).

    An adapter config comes first: without its base an adapter is nothing.
    """
    left = read_leftovers(directory)
    of_adapter = left.adapter.get("base_model_name_or_path")
    found = [
        (name, "adapter_config.json" if name == of_adapter else "README.md")
        for name in left.base_models
    ]
    found += [(name, "mergekit_config.yml") for name in left.merged]
    origin = read_json(directory / "config.json").get("_name_or_path")
    if isinstance(origin, str) and origin.strip():
        found.append((origin.strip(), "config.json"))
    first: dict[str, str] = {}
    for name, file in found:
        if len(name) <= MOST_CHARACTERS:
            first.setdefault(name, file)
    return tuple(first.items())


class FolderIndex(Generic[Key]):
    """Folders under keys, found again by what another folder calls them."""

    def __init__(self, folders: Mapping[Key, Path]) -> None:
        self._by_path = {folder: key for key, folder in reversed(list(folders.items()))}
        self._by_last_word: dict[str, list[tuple[Path, Key]]] = {}
        for key, folder in folders.items():
            for word in {folder.name, *(p for p in folder.parts if p.startswith("models--"))}:
                self._by_last_word.setdefault(word, []).append((folder, key))

    def find(self, reference: str, directory: Path) -> tuple[Key, bool] | None:
        """Which folder a reference in `directory` means, and whether that is certain.

        As a path it is taken against the folder, those above it, and the working folder.
        Training may have run elsewhere: the ends of two paths may meet too, and so may a hub
        id and the folder that the hub's cache keeps it in. One word that meets is not certain.
        None if nothing fits, or several do.
        """
        name = reference.partition("@")[0].rstrip("/")
        words = [word for word in name.split("/") if word not in ("", ".", "..")]
        if not words:
            return None
        for base in (directory, *directory.parents, Path.cwd()):
            try:
                path = (base / reference).resolve()
            except (OSError, ValueError, RuntimeError):
                return None
            if path in self._by_path and path != directory:
                return self._by_path[path], True
        cached = self._fitting(f"models--{'--'.join(words)}", directory)
        if len(cached) == 1:
            return cached[0][1], True
        fitting = self._fitting(words[-1], directory)
        for length in range(len(words), 0, -1):
            ends = [key for folder, key in fitting if folder.parts[-length:] == (*words[-length:],)]
            if ends:
                return (ends[0], length > 1) if len(ends) == 1 else None
        return None

    def _fitting(self, word: str, directory: Path) -> list[tuple[Path, Key]]:
        return [pair for pair in self._by_last_word.get(word, []) if pair[0] != directory]
