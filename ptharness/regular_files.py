"""Reading files that somebody else made: regular ones, of bounded size, text and JSON."""

from __future__ import annotations

import json
import os
import reprlib
import stat
from pathlib import Path
from typing import Any, BinaryIO

from ptharness.errors import CheckpointError

MOST_CONFIG_BYTES = 10_000_000
MOST_NESTING = 100
"""Deeper JSON is refused, so that nobody who walks through it runs out of stack."""


def is_regular(path: Path) -> bool:
    """Whether a path is a file that can be read to an end: no folder, pipe or device."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_file(path: Path, most_bytes: int = MOST_CONFIG_BYTES) -> str:
    """A regular file's UTF-8 text. Raises `CheckpointError`, also where it is too large."""
    try:
        with open_regular(path) as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise ValueError(f"is larger than {most_bytes:,} bytes")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing; is this a checkpoint folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as text: {error}") from error


def read_object(path: Path, most_bytes: int = MOST_CONFIG_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises `CheckpointError` where there is none."""
    text = read_file(path, most_bytes)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: is not a JSON object")
    level: list[Any] = [content]
    for _ in range(MOST_NESTING):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, dict | list)
        ]
        if not level:
            return content
    raise CheckpointError(f"{path}: is nested more than {MOST_NESTING} deep")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file. Raises `OSError` for any other kind, without waiting on it."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError("not a regular file")


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)


def short(value: Any) -> str:
    """A value from a file, for a message of one line."""
    text = reprlib.repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
