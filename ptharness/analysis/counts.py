"""The items table as arrays: one task, all its checkpoints, all its items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ptharness.analysis.binomials import Counts, Floats, PairCounts
from ptharness.analysis.resampling import Codes, Resampling

COLUMNS = ["checkpoint", "task", "item", "cluster", "n", "c", "mean_score", "completion_tokens"]
"""What is read of the items table."""


@dataclass(frozen=True)
class TaskCounts:
    """Counts of one task: `n` samples and `c` correct, of shape (checkpoints, items).

    An item that a checkpoint was not asked, or no sample of which could be judged, has n = 0.
    `scores` are the means of a metric that is no yes/no (NaN where there are none), `tokens` the
    completions' tokens (0 for choices), both of that shape too.
    """

    task: str
    checkpoints: tuple[str, ...]
    items: tuple[str, ...]
    clusters: Codes
    n: Counts
    c: Counts
    scores: Floats
    tokens: Counts

    def row(self, checkpoint: str) -> int:
        """The place of a checkpoint."""
        return self.checkpoints.index(checkpoint)

    @cached_property
    def is_binary(self) -> bool:
        """Whether samples are right or wrong; else only `scores` can be compared."""
        return bool((self.n > 0).any())

    @cached_property
    def has_attempts(self) -> bool:
        """Whether there are completions, of which several can be drawn: not so for choices."""
        return self.is_binary and bool((self.tokens > 0).any())

    @property
    def is_choice(self) -> bool:
        """Whether samples are right or wrong and yet nothing was attempted: multiple choice."""
        return self.is_binary and not self.has_attempts

    def pair(self, source: str, target: str) -> tuple[PairCounts, npt.NDArray[np.bool_]]:
        """n and c of two checkpoints on the items that both have, and which ones these are."""
        first, second = self.row(source), self.row(target)
        shared = (self.n[first] > 0) & (self.n[second] > 0)
        counts = (self.n[first], self.c[first], self.n[second], self.c[second])
        return tuple(column[shared] for column in counts), shared

    def draws(self, replicates: int, seed: int) -> Resampling:
        """Draws of clusters, the same for all checkpoints of the task."""
        return Resampling.of(self.clusters, replicates, seed)


def counts_of(items: pa.Table) -> dict[str, TaskCounts]:
    """Each task's counts, in the order in which tasks appear in the items table.

    A checkpoint x task with several rows of one item (as of two files) is not expected: the last
    one counts.
    """
    table = items.select(COLUMNS)
    task = _encoded(table["task"])
    return {
        name: _of_task(name, table.filter(pc.equal(task.indices, code)))
        for code, name in enumerate(task.dictionary.to_pylist())
    }


def _of_task(name: str, rows: pa.Table) -> TaskCounts:
    checkpoint, item = _encoded(rows["checkpoint"]), _encoded(rows["item"])
    shape = len(checkpoint.dictionary), len(item.dictionary)
    place = checkpoint.indices.to_numpy(), item.indices.to_numpy()

    def dense(values: pa.ChunkedArray, fill: float, kind: type) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.full(shape, fill, dtype=kind)
        array[place] = pc.fill_null(values.cast(pa.float64()), fill).to_numpy()
        return array

    # An item's cluster is that of its first row.
    clusters = rows["cluster"].take(pa.array(np.unique(place[1], return_index=True)[1]))
    return TaskCounts(
        name,
        tuple(checkpoint.dictionary.to_pylist()),
        tuple(item.dictionary.to_pylist()),
        _encoded(clusters).indices.to_numpy().astype(np.int64),
        dense(rows["n"], 0, np.int64),
        dense(rows["c"], 0, np.int64),
        dense(rows["mean_score"], np.nan, np.float64),
        dense(rows["completion_tokens"], 0, np.int64),
    )


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """A column as codes in order of appearance, and the texts that they stand for."""
    text = pc.cast(column, pa.string()).combine_chunks()
    return text.dictionary_encode()
