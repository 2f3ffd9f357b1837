"""A choice of trajectories is made once: reading a training set of gigabytes takes a while."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptharness.errors import StoreError
from ptharness.fingerprint import cache_directory, digest, write_atomically
from ptharness.trajectories.choose import choose
from ptharness.trajectories.files import content_digest
from ptharness.trajectories.rows import Message, Trajectory

VERSION = 2
"""Counts up where the same file gives other trajectories."""


def remembered_choice(
    path: Path, prompts: int, per_prompt: int, on_rows: Callable[[int], None]
) -> list[Trajectory]:
    """What `choose` gives; the file is read only if its content or what is asked for is new."""
    content = content_digest(path)
    key = digest(VERSION, str(path), content, prompts, per_prompt)
    remembered = cache_directory() / "trajectories" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return [_trajectory(fields) for fields in json.loads(remembered.read_bytes())]
    chosen = choose(path, prompts, per_prompt, on_rows)
    # Of a file that was written to meanwhile, this is not the content that the name is of.
    if content_digest(path) == content:
        # A cache that cannot be written, or not as JSON (a time in a column), only costs time.
        with contextlib.suppress(StoreError, TypeError, ValueError):
            write_atomically(remembered, json.dumps([asdict(t) for t in chosen]).encode())
    return chosen


def _trajectory(fields: dict[str, Any]) -> Trajectory:
    prompt = fields.pop("prompt")
    if not isinstance(prompt, str):
        prompt = tuple(Message(**message) for message in prompt)
    return Trajectory(prompt, **fields)
