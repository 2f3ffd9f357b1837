"""Entropy and number of answers: unbiased at a common number of samples, whatever n is."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ptharness.analysis.answers import distinct, diversity, entropy, tokens_per_completion

SHARES = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])


def truths(samples: int) -> tuple[float, float]:
    """Expected distinct answers, and the entropy's series up to so many samples."""
    terms = [(SHARES * (1 - SHARES) ** j).sum() / j for j in range(1, samples)]
    return float((1 - (1 - SHARES) ** samples).sum()), float(np.sum(terms))


def test_distinct_equals_enumeration() -> None:
    answers = np.array([[0, 0, 1, 2, 2, -1]])
    for m in range(1, 7):
        drawn = np.mean([len(set(chosen)) for chosen in combinations(answers[0].tolist(), m)])
        assert distinct(answers, m) == pytest.approx([drawn])


@pytest.mark.parametrize("n", [8, 20, 64])
def test_both_are_unbiased_at_a_common_number(n: int) -> None:
    random = np.random.default_rng(n)
    answers = random.choice(len(SHARES), (20_000, n), p=SHARES)
    for found, truth in zip((distinct(answers, 8), entropy(answers, 8)), truths(8), strict=True):
        assert abs(found.mean() - truth) < 3.5 * found.std() / np.sqrt(20_000)


def test_entropy_approaches_its_truth_from_below() -> None:
    random = np.random.default_rng(2)
    full = float(-(SHARES * np.log(SHARES)).sum())
    answers = random.choice(len(SHARES), (5_000, 128), p=SHARES)
    found = [entropy(answers, m).mean() for m in (4, 16, 128)]
    assert found[0] < found[1] < found[2]
    assert found[2] == pytest.approx(full, abs=0.005)
    # Of all samples it is Zahl's closed form.
    from scipy.special import digamma

    counts = np.array([5, 2, 1])
    closed = (counts / 8 * (digamma(8) - digamma(counts))).sum()
    assert entropy(np.repeat([0, 1, 2], counts)[None], 8) == pytest.approx([closed])


def test_items_may_differ_in_their_number_of_samples() -> None:
    items, answers = np.array([0, 1, 1, 0, 0]), np.array([5, 0, 1, 5, 6])
    found = distinct(answers, 3, items)
    assert found[0] == pytest.approx(2)
    assert np.isnan(found[1])
    short = diversity(answers, 3, items)
    assert short.entropy.reason == "needs 3 samples of each item, and there are 2"
    assert diversity(answers, 2, items).distinct.estimate == pytest.approx((5 / 3 + 2) / 2)


def test_intervals_of_diversity_cover() -> None:
    random = np.random.default_rng(3)
    covered = np.zeros(2)
    for _ in range(200):
        answers = random.choice(len(SHARES), (60, 12), p=SHARES)
        found = diversity(answers, 12)
        for place, (estimate, truth) in enumerate(
            zip((found.distinct, found.entropy), truths(12), strict=True)
        ):
            assert estimate.ci_low is not None
            assert estimate.ci_high is not None
            covered[place] += estimate.ci_low <= truth <= estimate.ci_high
    assert ((covered / 200 >= 0.9) & (covered / 200 <= 0.99)).all(), covered / 200


def test_tokens_per_completion_is_a_ratio_of_sums() -> None:
    found = tokens_per_completion([100, 900], [10, 30])
    assert found.estimate == pytest.approx(25)
    assert tokens_per_completion([100, 900, 10], 5).estimate == pytest.approx(1010 / 15)
    assert tokens_per_completion([0, 0], [0, 0]).reason == "there is no completion"
    assert tokens_per_completion([0, 0], [1, 1]).reason == "needs token counts, and all are 0"
    assert not tokens_per_completion([5], [1]).is_defined


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="samples must be at least 1, not 0"):
        distinct([[1, 2]], 0)
    with pytest.raises(ValueError, match="answers must be numbers"):
        distinct([[1.5, 2.0]], 1)
    with pytest.raises(ValueError, match="must not be negative"):
        tokens_per_completion([-1], [1])


def test_one_sample_shows_no_variety() -> None:
    found = diversity(np.zeros((5, 1), np.int64), 1)
    assert found.entropy.reason == "needs 2 samples of each item, and there are 1"
    assert not found.distinct.is_defined
    alike = diversity(np.zeros((5, 4), np.int64), 4)
    assert (alike.entropy.estimate, alike.entropy.ci_low) == (0, None)
    assert (alike.distinct.estimate, alike.distinct.ci_low) == (1, None)
