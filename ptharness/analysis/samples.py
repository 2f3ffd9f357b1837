"""Samples as flat arrays: one entry a sample, beside it the item that it belongs to.

Estimators that need more than counts (answers, scores) take either arrays of shape (items, n),
or flat ones with `items`, each sample's item as a number from 0; items may then have different n.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ptharness.analysis.binomials import Counts, Floats

NO_ANSWER = -1
"""The code of a sample from which no answer could be extracted."""


@dataclass(frozen=True)
class Samples:
    """Each sample's item, shape (samples,); `n` says how many each item has, shape (items,)."""

    items: Counts
    n: Counts

    @classmethod
    def of(
        cls, items: npt.ArrayLike | None, *values: npt.ArrayLike
    ) -> tuple[Samples, list[npt.NDArray[Any]]]:
        """The samples and their values, flat. Raises `ValueError` where shapes do not fit."""
        arrays = [np.asarray(value) for value in values]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise ValueError(f"samples must have one shape, not {sorted(shapes)}")
        shape = arrays[0].shape
        if items is None:
            if len(shape) != 2:
                raise ValueError(f"without items, samples have shape (items, n), not {shape}")
            codes = np.repeat(np.arange(shape[0]), shape[1])
        else:
            codes = np.asarray(items)
            if len(shape) != 1 or codes.shape != shape:
                raise ValueError(f"items of shape {codes.shape} given for samples of {shape}")
            if codes.size and (codes.dtype.kind not in "iu" or codes.min() < 0):
                raise ValueError("items must be numbers from 0")
        codes = codes.astype(np.int64)
        count = shape[0] if items is None else int(codes.max(initial=-1)) + 1
        n = np.bincount(codes, minlength=count)
        return cls(codes, n), [array.reshape(-1) for array in arrays]

    @cached_property
    def starts(self) -> Counts:
        """Where each item begins once samples are sorted by item; shape (items,)."""
        return np.asarray(np.cumsum(self.n) - self.n)

    def totals(self, values: Floats) -> Floats:
        """Values of samples summed over each item; shape (items,)."""
        return np.bincount(self.items, weights=values, minlength=len(self.n)).astype(np.float64)

    def tallies(self, answers: Counts) -> Tallies:
        """How often each item gave each of its answers."""
        if answers.dtype.kind not in "iu" or (answers < NO_ANSWER).any():
            raise ValueError(f"answers must be numbers from 0, or {NO_ANSWER} where there is none")
        codes, which = np.unique(answers, return_inverse=True)
        # One number for item and answer: sorting numbers is ten times as fast as sorting pairs.
        keys = self.items * len(codes) + which.reshape(-1)
        distinct, index, counts = np.unique(keys, return_inverse=True, return_counts=True)
        item, answer = distinct // max(len(codes), 1), codes[distinct % max(len(codes), 1)]
        sizes = np.bincount(item, minlength=len(self.n))
        place = np.arange(len(item)) - (np.cumsum(sizes) - sizes)[item]
        return Tallies(item, answer, counts, place, index.reshape(-1).astype(np.int64))


@dataclass(frozen=True)
class Tallies:
    """The distinct answers of every item, one after the other; all of shape (answers,).

    `place` numbers the answers of each item from 0. `of_sample` says which entry a sample gave,
    shape (samples,).
    """

    item: Counts
    answer: Counts
    count: Counts
    place: Counts
    of_sample: Counts
