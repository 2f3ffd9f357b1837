"""What fits a context: windows as lm-eval cuts them, documents that are told and not cut."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from ptharness.context import binds, fit, rolling_windows, too_long
from ptharness.schema import PROMPTS


def rows(*requests: tuple[int, int, int]) -> pa.Table:
    """Requests given as (document, tokens of the prompt, tokens of the continuation)."""
    made: list[dict[str, Any]] = [
        {
            "document": document,
            "prompt_token_ids": [1] * prompt,
            "continuation_token_ids": [2] * rest if rest else None,
        }
        for document, prompt, rest in requests
    ]
    return pa.Table.from_pylist(made, schema=PROMPTS)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 6, 7, 8, 14, 15, 63, 64, 65, 200])
def test_windows_are_those_of_lm_eval(size: int, length: int) -> None:
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    generator = random.Random(length)
    tokens = [generator.randrange(1000) for _ in range(length)]
    expected = [
        make_disjoint_window(pair)
        for pair in get_rolling_token_windows(tokens, -1, max_seq_len=size, context_len=1)
    ]
    found = list(rolling_windows([-1], tokens, size + 1))
    assert [(list(context), list(rest)) for context, rest in found] == expected
    assert [token for _, rest in found for token in rest] == tokens


def test_without_a_limit_a_text_is_one_window() -> None:
    assert list(rolling_windows([0], list(range(5000)), None)) == [((0,), tuple(range(5000)))]


def test_a_prompt_to_complete_needs_room_for_one_token() -> None:
    three = rows((0, 9, 0), (1, 10, 0), (2, 11, 0))
    assert too_long(three, "generate", 10).tolist() == [False, True, True]
    assert too_long(three, "generate", None).tolist() == [False] * 3


def test_a_document_goes_with_its_longest_choice() -> None:
    choices = rows((0, 5, 2), (0, 5, 9), (1, 5, 5), (1, 5, 1))
    assert too_long(choices, "loglikelihood", 10).tolist() == [True, True, False, False]


def test_a_text_of_any_length_is_asked() -> None:
    assert not too_long(rows((0, 1, 5000)), "loglikelihood_rolling", 10).any()


def test_the_fit_counts_documents() -> None:
    found = fit(rows((0, 5, 0), (1, 20, 0), (2, 8, 0), (3, 9, 0)), "generate", 10, max_tokens=4)
    assert (found.documents, found.too_long, found.shortened) == (4, 1, 2)


def test_a_limit_binds_only_where_it_changes_something() -> None:
    assert not binds(rows((0, 6, 0)), 10, max_tokens=4)
    assert binds(rows((0, 7, 0)), 10, max_tokens=4)
    assert not binds(rows((0, 1, 9)), 10, max_tokens=0)
    assert binds(rows((0, 1, 10)), 10, max_tokens=0)
    assert not binds(rows((0, 99, 9)), None, max_tokens=99)
