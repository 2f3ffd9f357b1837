"""Movement and forgetting: nothing moves, nothing shows; what is planted is found."""

from __future__ import annotations

import numpy as np
import pytest

from ptharness.analysis.forgetting import choice_transitions, squared_movement

ITEMS = 400


@pytest.mark.parametrize("moved", [0.0, 0.2])
@pytest.mark.parametrize("n", [2, 16])
def test_squared_movement_is_unbiased(moved: float, n: int) -> None:
    random = np.random.default_rng(1)
    p0 = random.beta(0.6, 0.8, ITEMS)
    p1 = np.clip(p0 + moved * random.choice([-1, 0, 1], ITEMS), 0, 1)
    found = [
        squared_movement(n, random.binomial(n, p0), n, random.binomial(n, p1), replicates=2)
        for _ in range(300)
    ]
    values = np.array([f.estimate for f in found], dtype=float)
    assert abs(values.mean() - ((p1 - p0) ** 2).mean()) < 3 * values.std() / np.sqrt(300)
    if not moved:
        assert (values < 0).mean() > 0.3


@pytest.mark.parametrize("moved", [0.0, 0.2])
def test_intervals_of_squared_movement_cover(moved: float) -> None:
    random = np.random.default_rng(2)
    p0 = random.beta(0.6, 0.8, 200_000)
    p1 = np.clip(p0 + moved * random.choice([-1, 0, 1], len(p0)), 0, 1)
    truth, covered, claimed = ((p1 - p0) ** 2).mean(), [], []
    for _ in range(200):
        chosen = random.integers(0, len(p0), ITEMS)
        counts = random.binomial(16, p0[chosen]), random.binomial(16, p1[chosen])
        found = squared_movement(16, counts[0], 16, counts[1], replicates=200)
        assert found.ci_low is not None
        assert found.ci_high is not None
        assert found.p is not None
        covered.append(found.ci_low <= truth <= found.ci_high)
        claimed.append(found.p < 0.05)
    assert 0.9 <= np.mean(covered) <= 0.995
    assert np.mean(claimed) > 0.95 if moved else np.mean(claimed) < 0.06


def test_movement_needs_two_samples() -> None:
    found = squared_movement([2, 1], [1, 1], 4, [2, 2])
    assert found.reason == "needs 2 samples of each item, and there is 1"
    with pytest.raises(ValueError, match="0 <= c <= n"):
        squared_movement(2, [3], 2, [1])


def answered(random: np.random.Generator, known: np.ndarray, choices: int) -> np.ndarray:  # type: ignore[type-arg]
    """Right where it is known, else by a lucky guess."""
    return known | (random.random(len(known)) < 1 / choices)


@pytest.mark.parametrize("choices", [2, 4])
def test_guessing_alone_is_no_forgetting(choices: int) -> None:
    """Nothing is known before or after: every change is luck."""
    random = np.random.default_rng(3)
    nothing = np.zeros(ITEMS, dtype=bool)
    found, plain, covered = [], [], []
    for _ in range(300):
        before, after = (answered(random, nothing, choices) for _ in range(2))
        estimate = choice_transitions(before, after, choices).forgetting
        assert estimate.estimate is not None
        assert estimate.ci_low is not None
        assert estimate.ci_high is not None
        found.append(estimate.estimate)
        plain.append((before & ~after).mean())
        covered.append(estimate.ci_low <= 0 <= estimate.ci_high)
    assert np.mean(plain) > 0.15
    assert abs(np.mean(found)) < 3.5 * np.std(found) / np.sqrt(300) + 1 / ITEMS
    assert 0.9 <= np.mean(covered) <= 0.985


def test_what_is_forgotten_is_found() -> None:
    """A third of the items known before only, a third after only; nobody guesses both times."""
    random = np.random.default_rng(4)
    part = np.arange(30_000) % 3
    before, after = answered(random, part == 0, 4), answered(random, part == 1, 4)
    found = choice_transitions(before, after, 4)
    chance = (2 / 3 * 3 / 4) ** 2 / 3
    # Right before: known, or unknown and lucky; wrong after: unknown and not lucky.
    seen = 1 / 3 * 3 / 4 + 1 / 3 * (1 / 4) * (3 / 4)
    assert found.forgetting.estimate == pytest.approx(seen - chance, abs=0.01)
    assert found.backward_transfer.estimate == pytest.approx(seen - chance, abs=0.01)


def test_the_formula_and_its_difference() -> None:
    before, after = [1, 1, 0, 0, 0], [1, 0, 1, 1, 0]
    found = choice_transitions(before, after, 4)
    assert found.forgetting.estimate == pytest.approx(1 / 5 - (3 / 5) * (2 / 5) / 3)
    assert found.backward_transfer.estimate == pytest.approx(2 / 5 - (3 / 5) * (2 / 5) / 3)
    mixed = choice_transitions(before, after, [2, 3, 5, 5, 5])
    odds = (1 + 1 / 2 + 3 / 4) / 5
    assert mixed.forgetting.estimate == pytest.approx(1 / 5 - (3 / 5) * (2 / 5) * odds)


def test_choices_that_are_none_are_named() -> None:
    with pytest.raises(ValueError, match="at least 2 choices, and one has 1"):
        choice_transitions([1, 0], [0, 1], [4, 1])
    with pytest.raises(ValueError, match=r"0 \(wrong\) or 1 \(right\)"):
        choice_transitions([0.5, 0], [0, 1], 4)
    assert choice_transitions([], [], 4).forgetting.reason == "there is no item"
