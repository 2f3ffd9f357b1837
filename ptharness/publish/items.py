"""A samples table of one checkpoint x task -> its rows of the items table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptharness.context import TOO_LONG
from ptharness.publish.columns import make_table
from ptharness.schema import ITEMS

COLUMNS = [
    "item",
    "cluster",
    "sample",
    "score",
    "correct",
    "error",
    "scores",
    "finish_reason",
    "completion_tokens",
]
"""What is read of a samples table to make items and metrics."""

Array = np.ndarray[Any, np.dtype[Any]]


def item_codes(samples: pa.Table) -> tuple[Array, pa.Array]:
    """Each row's item as a number, and the items in order of appearance."""
    encoded = samples["item"].combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary


def is_together(samples: pa.Table) -> bool:
    """Whether the primary metric is one of all samples together (a majority vote)."""
    together = samples.filter(pc.is_null(samples["sample"]))
    return bool(pc.any(pc.is_valid(together["score"])).as_py())


def items_table(samples: pa.Table, constants: Mapping[str, Any]) -> pa.Table:
    """Rows of `schema.ITEMS`, in order of appearance.

    A majority vote counts as one sample of its item, and so does an item whose scorer gave up
    where the primary metric is such a vote.
    """
    codes, items = item_codes(samples)
    size = len(items)
    sample = pc.fill_null(samples["sample"], -1).to_numpy()
    counted = np.ones(len(codes), bool)
    if is_together(samples):
        failed = pc.is_valid(samples["error"]).to_numpy()
        counted = (sample < 0) | (failed & (sample == 0))
    # Numbered in order of appearance, so an item's first row holds a new greatest number.
    first = np.flatnonzero(np.diff(np.maximum.accumulate(codes), prepend=-1))
    correct, n = _sums(samples["correct"].cast(pa.float64()), codes, size, counted)
    scores, scored = _sums(samples["score"], codes, size, counted)
    tokens, completions = _sums(
        samples["completion_tokens"].cast(pa.float64()), codes, size, sample >= 0
    )
    cut, _ = _sums(is_cut_off(samples), codes, size, sample >= 0)
    means = np.divide(scores, scored, out=np.zeros(size), where=scored > 0)
    no_completions = completions == 0
    columns = {
        "item": items,
        "cluster": samples["cluster"].take(pa.array(first)),
        "n": n,
        "c": correct.astype(np.int64),
        "mean_score": pa.array(means, mask=scored == 0),
        "completion_tokens": pa.array(tokens.astype(np.int64), mask=no_completions),
        "truncated": pa.array(cut.astype(np.int64), mask=no_completions),
    }
    return make_table(ITEMS, size, columns, constants)


def is_cut_off(samples: pa.Table) -> pa.ChunkedArray:
    """1.0 where `max_tokens` ended a completion, null where there is none."""
    reasons = samples["finish_reason"].cast(pa.string())
    drawn = pc.if_else(pc.equal(reasons, TOO_LONG), pa.scalar(None, pa.string()), reasons)
    return pc.equal(drawn, "length").cast(pa.float64())


def _sums(values: pa.ChunkedArray, codes: Array, size: int, counted: Array) -> tuple[Array, Array]:
    """Sum and number of the non-null values of each item, both of shape (items,)."""
    used = pc.is_valid(values).to_numpy() & counted
    numbers = pc.fill_null(values, 0.0).to_numpy()[used]
    sums = np.bincount(codes[used], weights=numbers, minlength=size)
    return sums, np.bincount(codes[used], minlength=size)
