"""Where a manifest's paths and hub ids lie on this machine."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from ptharness.errors import ManifestError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")

_HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md")
"""What is fetched of a hub repository: no pickle and no code."""


def find_folder(source: str, base: Path) -> Path:
    """The absolute folder of a checkpoint or adapter.

    `source` is a path, taken against `base`, or a hub id `org/name@revision`, which is looked
    up in the local hub cache first and downloaded otherwise. A local path wins over a hub id.
    Raises `ManifestError` without file and key, which the caller knows.
    """
    path = _absolute(source, base)
    if path.is_dir():
        return path
    if path.exists():
        raise ManifestError(f"{source!r} is a file ({path}); name the folder it lies in")
    # Where the first folder exists, a path was meant, and asking the network would only
    # delay the error.
    could_be_hub = _HUB_ID.fullmatch(source) and not (base / source.split("/")[0]).exists()
    if not could_be_hub:
        raise ManifestError(
            f"no such folder: {path}; give a folder relative to the manifest, or a hub id "
            "`org/name@revision`"
        )
    return _hub_folder(source, path)


def find_file(source: str, base: Path) -> Path:
    """The absolute path of an existing file, taken against `base`."""
    path = _absolute(source, base)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise ManifestError(f"{path} {what}; give a file relative to the manifest")
    return path


def find_data(source: str, base: Path) -> Path:
    """The absolute path of an existing file or folder of data, taken against `base`."""
    path = _absolute(source, base)
    if not path.exists():
        raise ManifestError(
            f"{path} does not exist; give a file, or a folder that `datasets` saved, relative to "
            "the manifest"
        )
    return path


def _absolute(source: str, base: Path) -> Path:
    try:
        path = Path(base.absolute(), Path(source).expanduser())
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ManifestError(f"{source[:60]!r} is no path: {error.args[-1]}") from None
    return path


def _hub_folder(source: str, path: Path) -> Path:
    repository, _, revision = source.partition("@")
    missing = f"no folder {path}, and hub id {source!r} cannot be had:"
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ManifestError(
            f"{missing} huggingface_hub is not installed; pip install 'ptharness[tasks]'"
        ) from None
    download = partial(
        snapshot_download,
        repository,
        revision=revision or None,
        allow_patterns=list(_HUB_FILES),
    )
    try:
        cached = Path(str(download(local_files_only=True)))
        # Other programs leave snapshots that hold a config and nothing else.
        if any(cached.glob("*.safetensors")):
            return cached
    except Exception:
        pass  # not in the local cache: the download below says what is wrong
    try:
        fetched = Path(str(download()))
    except Exception as error:
        cause = str(error).strip().splitlines()
        raise ManifestError(
            f"{missing} {type(error).__name__}: {cause[0] if cause else ''}; correct the path or "
            "id, log in to the hub, or download it beforehand"
        ) from error
    if not any(fetched.glob("*.safetensors")):
        raise ManifestError(
            f"hub id {source!r} gave no *.safetensors file ({fetched}); pickled weights are not "
            "fetched: convert them, or go online if the local copy is incomplete"
        )
    return fetched
