"""Does an adapter name another base than the parent that a manifest gives it?

Only what can be compared counts against it: a folder that exists, the name of another checkpoint
of the manifest, two hub ids. A name that nothing here fits was the base's on another machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ptharness.discovery.references import MOST_CHARACTERS, FolderIndex
from ptharness.errors import CheckpointError, ManifestError
from ptharness.fingerprint import weights_digest
from ptharness.leftovers import ADAPTER, MOST_ADAPTER_BYTES, read_json
from ptharness.lineage import Checkpoint
from ptharness.regular_files import is_regular

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NO_NAME = re.compile(
    r"(checkpoint|step|epoch)[-_]?\d+|model|merged|final|output|last|best|hf", re.I
)
"""The last word of a path that says nothing of which model lay there."""


def check_base(adapter: Path, parent: Checkpoint, others: Sequence[Checkpoint]) -> None:
    """Raise `ManifestError` where the adapter's config names another base than `parent`.

    `others` are the manifest's checkpoints with weights of their own.
    """
    named = read_json(adapter / ADAPTER, MOST_ADAPTER_BYTES).get("base_model_name_or_path")
    if not isinstance(named, str) or not named.strip() or len(named) > MOST_CHARACTERS:
        return
    named = named.strip()
    folders = {other.directory: other.name for other in reversed(others)}
    other = _other_base(named, adapter, parent, folders)
    if other is not None:
        name = folders.get(other, "") if isinstance(other, Path) else ""
        which = f", which is checkpoint {name!r}" if name else f", which is {other}"
        remedy = f"set parent: {name}" if name else "name the right parent"
        raise ManifestError(
            f"{adapter / ADAPTER} names the base {named!r}{which}, and not {parent.name!r} "
            f"({parent.directory}): {remedy}, or, if that is where the same weights lay, correct "
            "base_model_name_or_path in that file"
        )


def _other_base(
    named: str, adapter: Path, parent: Checkpoint, folders: Mapping[Path, str]
) -> Path | str | None:
    """The folder (or hub id) that the name means if it is not the parent's, else None."""
    hub_id, source = named.partition("@")[0], parent.source.partition("@")[0]
    if hub_id == source:
        return None
    there = list(_folders_there(named, adapter))
    if parent.directory.resolve() in there:
        return None
    if there:
        found = there[0]
        known = next((folder for folder in folders if folder.resolve() == found), found)
        return None if _same_weights(known, parent.directory) else known
    fitting = FolderIndex({folder: folder for folder in folders}).find(named, adapter)
    if fitting is not None and (fitting[1] or not _NO_NAME.fullmatch(fitting[0].name)):
        found = fitting[0]
        is_parent = found == parent.directory or _same_weights(found, parent.directory)
        return None if is_parent else found
    if _HUB_ID.fullmatch(hub_id) and _is_hub(parent):
        same_model = hub_id.rsplit("/", 1)[-1].lower() == source.rsplit("/", 1)[-1].lower()
        return None if same_model else f"another model than {source!r}"
    return None


def _folders_there(named: str, adapter: Path) -> Iterator[Path]:
    """Checkpoints' folders that the name means as a path, from the adapter's folder upwards."""
    for base in (adapter, *adapter.parents, Path.cwd()):
        try:
            path = (base / named).resolve()
        except (OSError, ValueError, RuntimeError):
            return
        if path != adapter.resolve() and is_regular(path / "config.json"):
            yield path


def _is_hub(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint came from the hub's cache under its id."""
    return bool(_HUB_ID.fullmatch(checkpoint.source.partition("@")[0])) and any(
        part.startswith("models--") for part in checkpoint.directory.parts
    )


def _same_weights(one: Path, other: Path) -> bool:
    try:
        return weights_digest(one) == weights_digest(other)
    except (CheckpointError, OSError):
        # A folder without weights, or one that is not there, proves nothing.
        return False
