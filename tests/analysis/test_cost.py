"""Tokens per solve: a ratio of sums whose interval covers, undefined at zero solves."""

from __future__ import annotations

import numpy as np
import pytest

from ptharness.analysis.cost import tokens_per_solve


def test_it_is_the_ratio_of_sums() -> None:
    found = tokens_per_solve([1000, 3000, 500], [1, 0, 2])
    assert found.estimate == pytest.approx(1500)
    assert found.ci_low is not None
    assert 0 < found.ci_low < 1500
    assert found.p is None


@pytest.mark.parametrize("success", [0.5, 0.03])
def test_intervals_cover(success: float) -> None:
    random = np.random.default_rng(1)
    n, items = 16, 300
    covered = []
    for _ in range(300):
        p = random.beta(success, 1 - success, items)
        # Long answers are those to hard items: the two sums are not independent.
        tokens = n * random.lognormal(5, 0.5, items) * (1.5 - p)
        found = tokens_per_solve(tokens, random.binomial(n, p))
        truth = np.exp(5 + 0.125) * (1.5 - success) / success
        assert found.ci_low is not None
        assert found.ci_high is not None
        covered.append(found.ci_low <= truth <= found.ci_high)
    assert 0.9 <= np.mean(covered) <= 0.985


def test_clusters_widen_the_interval() -> None:
    random = np.random.default_rng(2)
    p = np.repeat(random.random(30), 10)
    c = random.binomial(16, p)
    alone = tokens_per_solve(np.full(300, 100), c)
    together = tokens_per_solve(np.full(300, 100), c, np.repeat(np.arange(30), 10))
    assert alone.estimate == together.estimate
    assert alone.stderr is not None
    assert together.stderr is not None
    assert together.stderr > 2 * alone.stderr


def test_what_is_undefined_says_why() -> None:
    assert (
        tokens_per_solve([10, 20], [0, 0]).reason
        == "needs a solved item, and there is none among 2"
    )
    assert tokens_per_solve([], []).reason == "needs a solved item, and there is none among 0"
    assert tokens_per_solve([0, 0], [1, 1]).reason == "needs token counts, and all are 0"
    alone = tokens_per_solve([10, 20], [1, 0], ["a", "a"])
    assert alone.reason == "needs two clusters of items in each task, and there is 1"


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        tokens_per_solve([1], [-1])
    with pytest.raises(ValueError, match="1 clusters given for 2 items"):
        tokens_per_solve([1, 1], [1, 1], ["a"])
