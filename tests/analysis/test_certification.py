"""Names are right: of the items certified at most the stated share is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ptharness.analysis.certification import certify, needed_samples, support_threshold

K = 16


@pytest.mark.parametrize("dependent", [False, True])
def test_the_share_of_wrong_names_is_at_most_the_stated_one(dependent: bool) -> None:
    """Half of the items sit exactly on the threshold on a side, the worst case there is."""
    random = np.random.default_rng(1)
    eps, n, items = support_threshold(K), 192, 300
    false, found = [], []
    for _ in range(200):
        part = random.integers(0, 6, items)
        p0 = np.choose(part, [0.0, eps, 0.0, eps, 0.5, 0.01])
        p1 = np.choose(part, [0.4, 0.4, eps, eps, 0.5, 0.3])
        c0, c1 = random.binomial(n, p0), random.binomial(n, p1)
        named = certify(n, c0, n, c1, K, fdr=0.1, dependent=dependent).newly_reachable
        true = (p0 < eps) & (p1 > eps)
        false.append((named & ~true).sum() / max(named.sum(), 1))
        found.append((named & true).sum() / true.sum())
    assert 0 < np.mean(false) <= 0.1
    assert np.mean(found) > 0.6


def test_the_tests_are_the_binomial_ones() -> None:
    n0, c0, n1, c1 = [100, 80, 100], [0, 2, 0], [100, 60, 100], [40, 20, 3]
    found = certify(n0, c0, n1, c1, K)
    eps = support_threshold(K)
    out = stats.binom.cdf(c0, n0, eps)
    within = [float(stats.binom.sf(c - 1, n, eps)) for n, c in zip(n1, c1, strict=True)]
    np.testing.assert_allclose(found.newly_reachable_p, np.maximum(out, within))
    adjusted = stats.false_discovery_control(found.newly_reachable_p)
    np.testing.assert_allclose(found.newly_reachable_q, adjusted)
    assert found.newly_reachable.tolist() == [True, False, False]
    assert not found.no_longer_reachable.any()


def test_the_two_directions_mirror_each_other() -> None:
    random = np.random.default_rng(2)
    c0, c1 = random.binomial(128, 0.03, 50), random.binomial(128, 0.2, 50)
    there, back = certify(128, c0, 128, c1, K), certify(128, c1, 128, c0, K)
    np.testing.assert_array_equal(there.newly_reachable_q, back.no_longer_reachable_q)
    np.testing.assert_array_equal(there.parent, back.child)


def test_each_side_has_three_answers() -> None:
    found = certify(200, [0, 8, 100], 200, [200, 0, 9], K)
    assert found.parent.tolist() == ["out", "undetermined", "in"]
    assert found.child.tolist() == ["in", "out", "undetermined"]
    assert found.newly_reachable.tolist() == [True, False, False]


def test_too_few_samples_are_undetermined_and_not_none() -> None:
    found = certify(32, [0] * 10, 200, [150] * 10, K)
    assert found.needed_samples == 70
    assert set(found.parent) == {"undetermined"}
    assert found.reason is not None
    assert found.reason.startswith("undetermined: n too small, needs n >= 70 for items newly")
    assert "the parent has at most 32" in found.reason
    assert certify(200, [0], 200, [150], K).reason is None
    one_sided = certify(200, [0], 32, [30], K)
    assert one_sided.is_possible("newly_reachable")
    assert not one_sided.is_possible("no_longer_reachable")
    assert certify([], [], [], [], K).reason == "there is no item"


@pytest.mark.parametrize(("items", "certified"), [(1, 1), (10, 10), (10, 1)])
@pytest.mark.parametrize("dependent", [False, True])
def test_needed_samples_are_just_enough(items: int, certified: int, dependent: bool) -> None:
    needed = needed_samples(K, items, certified, dependent=dependent)
    for n, expected in ((needed, certified), (needed - 1, 0)):
        c0 = np.where(np.arange(items) < certified, 0, n)
        found = certify(n, c0, 500, 500, K, dependent=dependent)
        assert found.newly_reachable.sum() == expected
    assert needed_samples(1, fdr=0.25) == 2


def test_nothing_is_below_n_eps_of_three() -> None:
    for k in (4, 16, 64):
        assert needed_samples(k) * support_threshold(k) == pytest.approx(3, abs=0.3)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        certify(8, [1], 8, [1], 0)
    with pytest.raises(ValueError, match="fdr must lie between 0 and 1, not 0"):
        certify(8, [1], 8, [1], 4, fdr=0)
    with pytest.raises(ValueError, match="chance must lie between 0 and 1, not 1"):
        support_threshold(4, 1)
    with pytest.raises(ValueError, match=r"certified must lie between 0 and items \(3\), not 4"):
        needed_samples(4, 3, 4)
