"""Data sets of the Hugging Face Hub where there is no network: named, and without waiting.

Without one, the libraries try for half a minute before each data set, even one that is in the
cache; a group has dozens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ptharness.tasks.yaml_sources import FILE_BUILDERS

_PATIENCE_S = 10.0


@cache
def hub_answers() -> bool:
    """Whether the hub can be reached at all, asked once in a process."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE_S)
    except Exception:
        # No network, no such host, a proxy that refuses, offline mode.
        return False
    return True


@contextlib.contextmanager
def cached_if_unreachable(config: Mapping[str, Any]) -> Iterator[None]:
    """Read from the cache alone while the hub cannot be reached, if the task may need it."""
    path = config.get("dataset_path")
    if path in FILE_BUILDERS or Path(str(path)).is_dir() or hub_answers():
        yield
        return
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def data_set_of(config: Mapping[str, Any]) -> str:
    """A data set as a user would look for it: its id, and its configuration in brackets.

    `config` has its functions resolved: a task that is a class may name its data set there.
    """
    own = config.get("class")
    path = config.get("dataset_path") or getattr(own, "DATASET_PATH", None)
    name = config.get("dataset_name") or getattr(own, "DATASET_NAME", None)
    if path is None:
        return "which its own code chooses"
    return f"{str(path)!r}" + (f" (configuration {str(name)!r})" if name else "")
