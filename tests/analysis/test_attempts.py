"""pass@k, best-of-k and maj@k equal enumeration; crossings are found, or censored."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import prod

import numpy as np
import pytest

from ptharness.analysis.attempts import (
    SUBSETS,
    attempts_up_to,
    best_of_k,
    budgets,
    cover_at_tau,
    crossover,
    curve,
    majority_at_k,
    pass_at_k,
    wrong_curves,
)


def voted(answers: list[int], values: list[float]) -> float:
    """The correctness of the majority among a few attempts, by its definition."""
    votes = Counter(answer for answer in answers if answer != -1)
    if not votes:
        return 0.0
    elected = [answer for answer, count in votes.items() if count == max(votes.values())]
    right = dict(zip(answers, values, strict=True))
    return float(np.mean([right[answer] for answer in elected]))


# --- enumeration ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
def test_pass_at_k_equals_enumeration(k: int) -> None:
    n = 6
    for c in range(n + 1):
        outcomes = [1] * c + [0] * (n - c)
        drawn = np.mean([any(chosen) for chosen in combinations(outcomes, k)])
        assert pass_at_k(n, [c], k) == pytest.approx([drawn])


def test_pass_at_k_of_a_million_samples() -> None:
    n, c = 10**6, [0, 1, 500_000, 10**6]
    assert pass_at_k(n, c, 10**6).tolist() == [0.0, 1.0, 1.0, 1.0]
    assert pass_at_k(n, c, 1).tolist() == [0.0, 1e-6, 0.5, 1.0]
    assert pass_at_k(n, c, 1000)[1] == pytest.approx(1e-3, rel=1e-5)
    exact = 1 - prod((500_000 - i) / (10**6 - i) for i in range(8))
    assert pass_at_k(n, c, 8)[2] == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("k", [2, 4, 8, 16, 32])
def test_what_never_succeeds_is_exactly_0_whatever_n(k: int) -> None:
    n = np.arange(k, 3000)
    assert not pass_at_k(n, np.zeros_like(n), k).any()


def test_budgets_double_up_to_all_samples() -> None:
    assert [budgets(n) for n in (1, 2, 3, 4, 32, 33)] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4],
        [1, 2, 4, 8, 16, 32],
        [1, 2, 4, 8, 16, 32, 33],
    ]


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_best_of_k_equals_enumeration_with_ties(k: int) -> None:
    random = np.random.default_rng(3)
    scores, values = random.integers(0, 3, (20, 7)), random.random((20, 7))
    expected = []
    for score, value in zip(scores, values, strict=True):
        best = []
        for chosen in map(list, combinations(range(7), k)):
            top = [i for i in chosen if score[i] == score[chosen].max()]
            best.append(value[top].mean())
        expected.append(np.mean(best))
    # Averaging over ties within a subset is averaging over all samples of that score.
    np.testing.assert_allclose(best_of_k(scores, values, k), expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7])
def test_majority_at_k_equals_enumeration_with_ties(k: int) -> None:
    random = np.random.default_rng(4)
    answers = random.integers(-1, 4, (30, 7))
    answers[0], answers[1] = -1, 2
    values = ((answers == 2) | ((answers == 3) & (np.arange(30) % 2 == 0)[:, None])).astype(float)
    expected = [
        np.mean([voted(*zip(*chosen, strict=True)) for chosen in combinations(pairs, k)])  # type: ignore[arg-type]
        for pairs in (list(zip(a, v, strict=True)) for a, v in zip(answers, values, strict=True))
    ]
    np.testing.assert_allclose(majority_at_k(answers, values, k), expected, atol=1e-6)
    assert expected[0] == 0
    assert expected[1] == 1


def test_majority_at_k_of_many_subsets_is_near_the_exact_value() -> None:
    """Two answers, k odd: the better one wins with a hypergeometric chance."""
    from scipy.stats import hypergeom

    n, k, items = 40, 9, 200
    answers = np.tile(np.arange(n) < 22, (items, 1))
    shuffled = np.random.default_rng(1).permuted(answers, axis=1)
    found = majority_at_k(shuffled.astype(int), shuffled.astype(float), k)
    exact = float(hypergeom.sf(k // 2, n, 22, k))
    assert np.abs(found - exact).max() < 5 * 0.5 / np.sqrt(SUBSETS)
    assert found.mean() == pytest.approx(exact, abs=0.005)


def test_the_order_of_samples_does_not_matter() -> None:
    random = np.random.default_rng(5)
    scores, values = random.integers(0, 2, (9, 8)), random.random((9, 8))
    order = random.permutation(8)
    for k in (1, 3, 8):
        turned = best_of_k(scores[:, order], values[:, order], k)
        np.testing.assert_allclose(best_of_k(scores, values, k), turned)


def test_items_may_differ_in_their_number_of_samples() -> None:
    random = np.random.default_rng(6)
    sizes = [5, 2, 7]
    items = random.permutation(np.repeat([0, 1, 2], sizes))
    answers, scores = random.integers(0, 3, 14), random.integers(0, 3, 14)
    values = (answers == 1).astype(float)
    best, majority = best_of_k(scores, values, 3, items), majority_at_k(answers, values, 3, items)
    assert np.isnan([best[1], majority[1]]).all()
    for item in (0, 2):
        own = items == item
        assert best[item] == best_of_k(scores[own][None], values[own][None], 3)
        assert majority[item] == majority_at_k(answers[own][None], values[own][None], 3)


def test_best_of_k_under_a_perfect_scorer_is_pass_at_k() -> None:
    right = np.random.default_rng(7).random((50, 16)) < 0.2
    found = best_of_k(right, right, 5)
    np.testing.assert_allclose(found, pass_at_k(16, right.sum(axis=1), 5), atol=1e-12)


# --- curves -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.8), (0.02, 3.0)])
def test_intervals_of_pass_at_k_cover(a: float, b: float) -> None:
    random = np.random.default_rng(8)
    n, items, covered = 16, 400, np.zeros(2)
    everyone = random.beta(a, b, 200_000)
    truth = [(1 - (1 - everyone) ** k).mean() for k in (1, 8)]
    for _ in range(200):
        c = random.binomial(n, random.choice(everyone, items))
        for place, found in enumerate(curve(n, c, [1, 8], replicates=200)):
            assert found.ci_low is not None
            assert found.ci_high is not None
            covered[place] += found.ci_low <= truth[place] <= found.ci_high
    assert (covered / 200 >= 0.9).all(), covered / 200
    assert (covered / 200 <= 0.995).all(), covered / 200


def test_the_curve_stops_where_samples_end() -> None:
    found = curve([8, 4, 8], [0, 1, 8], [1, 4, 8])
    assert found[0].estimate == pytest.approx((0 + 0.25 + 1) / 3)
    assert found[1].estimate == pytest.approx(2 / 3)
    assert found[1].ci_high == 1.0
    assert found[2].reason == "needs 8 samples of each item, and there are 4"
    assert not found[2].is_defined


def test_cover_at_tau_counts_items_at_or_above_tau() -> None:
    found = cover_at_tau(10, [0, 3, 3, 5, 10], 0.3)
    assert found.estimate == pytest.approx(4 / 5)
    assert cover_at_tau(10, [0, 3, 3, 5, 10], 0.31).estimate == pytest.approx(2 / 5)


def test_wrong_curves_share_the_work_of_equal_counts() -> None:
    n, c = np.array([8, 9, 8]), np.array([2, 2, 2])
    found = wrong_curves(n, c, np.arange(1, 9))
    np.testing.assert_allclose(1 - found[:, 3], pass_at_k(n, c, 4))
    np.testing.assert_array_equal(found[0], found[2])


def test_steps_of_k() -> None:
    assert attempts_up_to(5).tolist() == [1, 2, 3, 4, 5]
    many = attempts_up_to(10_000)
    assert many[0] == 1
    assert many[-1] == 10_000
    assert (np.diff(many) > 0).all()
    assert len(many) < 500


# --- crossover --------------------------------------------------------------------------------


def sharpened(random: np.random.Generator, items: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """A parent that solves everything sometimes; its child half of the items, but reliably."""
    parent = random.uniform(0.05, 0.15, items)
    return parent, np.where(random.random(items) < 0.5, 0.9, 0.0)


def test_the_crossover_is_found_and_its_interval_covers() -> None:
    random = np.random.default_rng(9)
    parent, child = sharpened(random, 50_000)
    truth = next(
        k for k in range(1, 65) if (1 - (1 - parent) ** k).mean() >= (1 - (1 - child) ** k).mean()
    )
    found = []
    for _ in range(100):
        p0, p1 = sharpened(random, 200)
        drawn = random.binomial(64, p0), random.binomial(64, p1)
        found.append(crossover(64, drawn[0], 64, drawn[1], replicates=300))
    ends = [(f.ci_low, f.ci_high) for f in found if f.ci_low is not None and f.ci_high is not None]
    assert np.median([f.estimate for f in found if f.estimate]) == pytest.approx(truth, abs=1)
    assert len(ends) == 100
    assert 0.9 <= np.mean([low <= truth <= high for low, high in ends]) <= 1


def test_a_crossover_beyond_the_samples_is_censored() -> None:
    never = crossover(8, [0, 0, 0], 6, [3, 3, 2])
    assert never.estimate is None
    assert never.reason == "does not cross up to k = 6"
    equal = crossover(8, [1, 2], 8, [2, 1])
    assert equal.reason == "the curves start together, so neither can catch up"
    assert crossover(8, [1], 8, [2]).reason == "needs two clusters of items, and there is 1"


def test_an_interval_without_an_upper_end_says_so() -> None:
    # At k = 8 the parent solves the first five of the items, the child the last four.
    found = crossover(8, [1, 1, 1, 1, 1, 0, 0, 0, 0], 8, [0, 0, 0, 0, 0, 8, 8, 8, 8])
    assert found.estimate is not None
    assert found.ci_high is None
    assert found.reason == "the interval reaches beyond k = 8"


# --- wrong input ------------------------------------------------------------------------------


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        pass_at_k(4, [1], 0)
    with pytest.raises(ValueError, match=r"tau must lie above 0 and be at most 1, not 1\.5"):
        cover_at_tau(4, [1], 1.5)
    with pytest.raises(ValueError, match="one shape"):
        best_of_k([[1.0, 2.0]], [[1.0]], 1)
    with pytest.raises(ValueError, match="scores must be finite"):
        best_of_k([[np.nan, 2.0]], [[1.0, 0.0]], 1)
    with pytest.raises(ValueError, match="answers must be numbers from 0, or -1"):
        majority_at_k([[-2, 2]], [[1.0, 0.0]], 1)
    with pytest.raises(ValueError, match=r"shape \(items, n\)"):
        majority_at_k([1, 2], [1.0, 0.0], 1)
    with pytest.raises(ValueError, match="items must be numbers from 0"):
        majority_at_k([1, 2], [1.0, 0.0], 1, [-1, 0])
    with pytest.raises(ValueError, match="0 <= c <= n"):
        curve(4, [5], [1])
