"""What is said to be enough is enough, and one sample less is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ptharness.analysis.power import (
    expected_stderr,
    minimum_detectable_effect,
    required_for_budget,
    required_items,
    required_samples,
)


def test_the_minimum_detectable_effect_is_the_textbook_one() -> None:
    assert minimum_detectable_effect(1.0) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert minimum_detectable_effect(0.5, 0.9, 0.5) == pytest.approx(0.5 * 1.644854, abs=1e-5)


@pytest.mark.parametrize(("effect", "items"), [(0.02, 400), (0.05, 100), (0.01, 3000)])
def test_required_samples_are_just_enough(effect: float, items: int) -> None:
    n = required_samples(effect, items)
    assert minimum_detectable_effect(expected_stderr(n, items)) <= effect
    assert minimum_detectable_effect(expected_stderr(n - 1, items)) > effect
    enough = required_items(effect, n)
    assert enough <= items
    assert minimum_detectable_effect(expected_stderr(n, enough)) <= effect
    assert minimum_detectable_effect(expected_stderr(n, enough - 1)) > effect


def test_the_power_is_the_stated_one() -> None:
    """Items with the stated mean, spread and spread of changes: four of five are significant."""
    random = np.random.default_rng(1)
    effect, items = 0.04, 150
    spread = {"success": 0.5, "spread": 0.2, "change_spread": 0.1}
    n = required_samples(effect, items, **spread)  # type: ignore[arg-type]
    seen = []
    for _ in range(1000):
        # The two sides have the mean of the stated success, and the same spread.
        middle = 0.5 + np.clip(random.normal(0, 0.19365, items), -0.42, 0.42)
        change = random.normal(effect, 0.1, items)
        p0, p1 = np.clip(middle - change / 2, 0, 1), np.clip(middle + change / 2, 0, 1)
        difference = (random.binomial(n, p1) - random.binomial(n, p0)) / n
        seen.append(stats.ttest_1samp(difference, 0).pvalue < 0.05)
    assert 0.75 <= np.mean(seen) <= 0.85


def test_the_budget_counts() -> None:
    assert required_samples(0.1, 1000) == 1
    assert required_samples(0.1, 1000, 16) == 17
    needs = required_for_budget(16, 400)
    assert (needs.decomposition, needs.recommended, needs.same_model_baseline) == (17, 32, 32)
    assert needs.certification == 70
    assert needs.certification_alone == 208
    assert required_for_budget(16, 400, dependent=True).certification > 70


def test_what_is_impossible_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"the items alone are too few .* at least 785 items"):
        required_samples(0.01, 100)
    assert required_samples(0.01, 785) > 1000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((0.0, 100), "effect must lie above 0 and be at most 1, not 0"),
        ((0.1, 0), "items must be at least 1, not 0"),
        ((0.1, 100, 0), "k must be at least 1, not 0"),
    ],
)
def test_wrong_input_is_named(arguments: tuple[float, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        required_samples(*arguments)  # type: ignore[arg-type]


def test_wrong_spreads_are_named() -> None:
    with pytest.raises(ValueError, match=r"spread is at most 0\.3 for a success of 0\.1, not 0\.4"):
        required_samples(0.1, 100, success=0.1, spread=0.4)
    with pytest.raises(ValueError, match="spreads must not be negative"):
        expected_stderr(4, 100, spread=-0.1)
    with pytest.raises(ValueError, match="success must lie between 0 and 1, not 2"):
        expected_stderr(4, 100, success=2)
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        expected_stderr(0, 100)
    with pytest.raises(ValueError, match="power must lie between 0 and 1, not 1"):
        minimum_detectable_effect(0.1, power=1)
    with pytest.raises(ValueError, match="stderr must not be negative"):
        minimum_detectable_effect(-0.1)
