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
MOST_COUNTED = 10_000
"""Different rows of one prompt whose copies are counted, so that memory has a bound."""

Rows = dict[str, list[Trajectory]]
"""Trajectories by the digest of their prompt: one each, or both of a preference pair."""


def choose(
    path: Path, prompts: int, per_prompt: int, on_rows: Callable[[int], None] = lambda _: None
) -> list[Trajectory]:
    """The trajectories of `prompts` prompts of a training set, those of `per_prompt` rows of each.

    Prompts are taken by the order of their digests, and so are the rows of a prompt: spread over
    the whole file, and the same whatever order it is in. A preference pair is one row and stays
    whole. Only what is chosen stays in memory. `on_rows` is told now and then how many rows are
    read. Raises `TrajectoryError` for a file without a row.
    """
    kept: dict[str, _Prompt] = {}
    largest: list[tuple[int, str]] = []  # a heap whose first is the largest digest kept
    for row in _all(path, on_rows):
        for name, trajectories in row.items():
            if name not in kept:
                place = -int(name, 16)
                if len(kept) >= prompts:
                    if place < largest[0][0]:
                        continue
                    _, dropped = heapq.heappop(largest)
                    del kept[dropped]
                heapq.heappush(largest, (place, name))
                kept[name] = _Prompt(name, per_prompt)
            kept[name].take(trajectories)
    if not kept:
        raise TrajectoryError(f"{path}: is empty")
    return [trajectory for name in sorted(kept) for trajectory in kept[name].chosen]


class _Prompt:
    """The rows of one prompt: `most` of them are drawn, without regard to their order.

    Each row has a place that is a digest of what it holds and of how many equal ones came before.
    So copies are drawn as if they were different rows, and count as often as they occur. The prompt
    takes part, so that a text which many prompts share has another place in each.
    """

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self.most = most
        self.copies: dict[str, int] = {}
        self.others = 0
        self.drawn: list[tuple[int, list[Trajectory]]] = []  # a heap, the largest digest first

    def take(self, row: list[Trajectory]) -> None:
        content = digest([(t.completion, t.side, t.reward, t.columns) for t in row])
        place = -int(digest(self.name, content, self._number(content)), 16)
        if len(self.drawn) < self.most:
            heapq.heappush(self.drawn, (place, row))
        elif place > self.drawn[0][0]:
            heapq.heapreplace(self.drawn, (place, row))

    def _number(self, content: str) -> int:
        """Which of equal rows this is; of rows beyond those counted, a number of its own."""
        if content not in self.copies and len(self.copies) >= MOST_COUNTED:
            self.others -= 1
            return self.others
        self.copies[content] = self.copies.get(content, 0) + 1
        return self.copies[content]

    @property
    def chosen(self) -> list[Trajectory]:
        return [t for _, row in sorted(self.drawn, key=lambda one: -one[0]) for t in row]


def _all(path: Path, on_rows: Callable[[int], None]) -> Iterable[Rows]:
    for number, (row, where) in enumerate(read_rows(path)):
        if number % TELL_EVERY == 0:
            on_rows(number)
        found: Rows = {}
        for trajectory in trajectories_of(row, where):
            found.setdefault(_prompt_digest(trajectory), []).append(trajectory)
        yield found


def _prompt_digest(trajectory: Trajectory) -> str:
    """What orders prompts."""
    prompt = trajectory.prompt
    # Left to itself, a digest copies messages in depth: half of the time that reading takes.
    plain = prompt if isinstance(prompt, str) else [message.__dict__ for message in prompt]
    return digest(plain)
