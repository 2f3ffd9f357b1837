"""Which of many trajectories are scored: those of some prompts, the same ones every time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from pathlib import Path

from ptharness.errors import TrajectoryError
from ptharness.fingerprint import digest
from ptharness.trajectories.files import read_rows
from ptharness.trajectories.rows import Trajectory, trajectories_of

TELL_EVERY = 5000
"""Rows between two words on how far reading is."""


def choose(
    path: Path, prompts: int, per_prompt: int, on_rows: Callable[[int], None] = lambda _: None
) -> list[Trajectory]:
    """The trajectories of `prompts` prompts of a training set, at most `per_prompt` of each.

    Prompts are taken by the order of their digests: spread over the whole file, and the same
    whatever order it is in. Only what is chosen stays in memory. `on_rows` is told now and then
    how many rows are read. Raises `TrajectoryError` for a file without a row.
    """
    chosen = _of_smallest_digests(_all(path, on_rows), prompts, per_prompt)
    if not chosen:
        raise TrajectoryError(f"{path}: is empty")
    return chosen


def _prompt_digest(trajectory: Trajectory) -> str:
    """What orders prompts."""
    prompt = trajectory.prompt
    # Left to itself, a digest copies messages in depth: half of the time that reading takes.
    plain = prompt if isinstance(prompt, str) else [message.__dict__ for message in prompt]
    return digest(plain)


def _all(path: Path, on_rows: Callable[[int], None]) -> Iterable[Trajectory]:
    for number, (row, where) in enumerate(read_rows(path)):
        if number % TELL_EVERY == 0:
            on_rows(number)
        yield from trajectories_of(row, where)


def _of_smallest_digests(
    trajectories: Iterable[Trajectory], prompts: int, per_prompt: int
) -> list[Trajectory]:
    kept: dict[str, list[Trajectory]] = {}
    largest: list[tuple[int, str]] = []  # a heap whose first is the largest digest kept
    for trajectory in trajectories:
        name = _prompt_digest(trajectory)
        if name not in kept:
            place = -int(name, 16)
            if len(kept) >= prompts:
                if place < largest[0][0]:
                    continue
                _, dropped = heapq.heappop(largest)
                del kept[dropped]
            heapq.heappush(largest, (place, name))
            kept[name] = []
        if len(kept[name]) < per_prompt:
            kept[name].append(trajectory)
    return [trajectory for name in sorted(kept) for trajectory in kept[name]]
