"""Requests in batches: a window at a time, the longest first, smaller where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from ptharness.errors import EngineError

Item = TypeVar("Item")
Result = TypeVar("Result")


def windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last shorter, pulled when they are asked for."""
    remaining = iter(items)
    while window := list(islice(remaining, size)):
        yield window


class BatchSize:
    """Rows that are computed at once, halved for good when memory runs out.

    `detect` finds a size for rows of a length in tokens; None where the size is given.
    """

    def __init__(self, rows: int, detect: Callable[[int], int] | None = None) -> None:
        self.rows, self._detect = rows, detect
        self._detected_tokens = 0

    def fit(self, tokens: int) -> None:
        """Make it right for rows of `tokens`; shorter ones than before need no new look."""
        if self._detect and tokens > self._detected_tokens:
            self.rows, self._detected_tokens = max(1, self._detect(tokens)), tokens

    def run(
        self, rows: Sequence[Item], compute: Callable[[Sequence[Item]], Sequence[Result]]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each row with what `compute` makes of it, batch by batch.

        Raises `EngineError` where memory does not suffice for a single row.
        """
        done = 0
        while done < len(rows):
            batch = rows[done : done + self.rows]
            results = self._attempt(batch, compute)
            if results is None:
                self.rows = max(1, len(batch) // 2)
                continue
            done += len(batch)
            yield from zip(batch, results, strict=True)

    def _attempt(
        self, batch: Sequence[Item], compute: Callable[[Sequence[Item]], Sequence[Result]]
    ) -> Sequence[Result] | None:
        """What `compute` gives; None where memory ran out and a smaller batch may do."""
        try:
            return compute(batch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        free_memory()
        if len(batch) == 1:
            raise EngineError(
                f"memory does not suffice for a batch of one ({reason}); lower max_tokens, or set "
                "engine.dtype: bfloat16 or engine.parallelize: true"
            )
        return None


def out_of_memory(error: Exception) -> bool:
    """Whether an exception of torch says that memory ran out."""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or bool(should_reduce_batch_size(error))


def free_memory() -> None:
    """Collect garbage and give cached memory back to the device."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)
