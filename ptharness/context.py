"""What fits a checkpoint's context: nothing is cut to fit, what does not is told.

lm-eval's `hf` model drops the beginning of a prompt that is too long; here such a document is
not asked at all and says so. Only rolling log-likelihoods are cut, into windows, as lm-eval
cuts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptharness.prompts import Kind

TOO_LONG = "too_long"
"""`finish_reason` of a sample whose prompt does not fit."""

DEFAULT_WINDOW = 2048
"""Tokens that one rolling window scores where the model names no limit, as in lm-eval's `hf`."""

VISIBLE_SHARE = 0.01
"""From this share of completions that were cut off, or not asked for, on it is told beside an
accuracy."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Fit:
    """Documents of a task for one checkpoint: all, too long to ask, and with less room.

    `shortened` ones have room for some completion, but not for `max_tokens` of it.
    """

    documents: int
    too_long: int
    shortened: int


def request_tokens(rows: pa.Table) -> Array:
    """Tokens of each request, prompt and continuation together. Shape (rows,)."""
    parts = [
        pc.fill_null(pc.list_value_length(rows[name]), 0).to_numpy()
        for name in ("prompt_token_ids", "continuation_token_ids")
    ]
    return np.asarray(parts[0] + parts[1])


def too_long(rows: pa.Table, kind: Kind, limit: int | None) -> Array:
    """Which requests are not asked: all of a document of which one does not fit `limit` tokens.

    A prompt to complete needs room for one token at least. Shape (rows,), bool.
    """
    if limit is None or kind == "loglikelihood_rolling":
        return np.zeros(rows.num_rows, bool)
    alone = request_tokens(rows) + (kind == "generate") > limit
    if not alone.any():
        return alone
    document = rows["document"].to_numpy()
    return np.isin(document, document[alone])


def binds(rows: pa.Table, limit: int | None, max_tokens: int) -> bool:
    """Whether `limit` changes anything about these requests."""
    return limit is not None and bool((request_tokens(rows) + max_tokens > limit).any())


def fit(rows: pa.Table, kind: Kind, limit: int | None, max_tokens: int) -> Fit:
    """How many documents fit `limit` tokens; `max_tokens` is 0 where nothing is generated."""
    document = rows["document"].to_numpy()
    gone = too_long(rows, kind, limit)
    short = np.zeros(len(gone), bool)
    if limit is not None and kind == "generate":
        short = ~gone & (request_tokens(rows) + max_tokens > limit)
    return Fit(*(len(np.unique(document[mask])) for mask in (gone | True, gone, short)))


def rolling_windows(
    prefix: Sequence[int], tokens: Sequence[int], limit: int | None
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of context and continuation that score each of `tokens` once.

    The first window has `prefix` before it, each later one the token before it; the last one
    is filled up with what comes before. A pair has at most `limit` tokens, which are at least
    two; without a limit there is one pair. Source:
    `get_rolling_token_windows` with `context_len=1` and `make_disjoint_window` of
    lm_eval/utils.py, 0.4.13.
    """
    size = len(tokens) if limit is None else max(limit - 1, 1)
    for start in range(0, len(tokens), max(size, 1)):
        end = min(start + size, len(tokens))
        context = tokens[end - size - 1 : start] if start else prefix
        yield tuple(context), tuple(tokens[start:end])
