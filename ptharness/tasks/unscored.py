"""A task whose responses are read as they are: nothing is right or wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ptharness.tasks.base import Aggregate, Document, LoadedTask, Score


class UnscoredTask(LoadedTask):
    """Makes prompts and nothing else."""

    def score(self, _: Sequence[Document], __: Callable[[int], None]) -> Iterator[Score]:
        """No scores."""
        return iter(())

    def aggregate(self, _: Sequence[Score]) -> list[Aggregate]:
        """No metrics."""
        return []
