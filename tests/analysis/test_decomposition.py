"""Planted truth: what was put in comes out, without bias and with intervals that hold."""

from __future__ import annotations

import csv
from itertools import combinations, product
from math import comb
from pathlib import Path

import numpy as np
import pytest

from ptharness.analysis import decompose, decomposition, gained_lost, turnover
from ptharness.analysis.binomials import all_wrong, right_then_all_wrong
from ptharness.analysis.movement import cross_fitted
from tests.analysis.planted import ITEMS, SCENARIOS, cells, population, probabilities

SIZES = [(16, 8), (32, 16), (64, 32), (256, 64)]
CELLS = ("exp", "rsh", "att", "res")


def counts(scenario: str, n: int, seed: int) -> tuple[np.ndarray, ...]:  # type: ignore[type-arg]
    random = np.random.default_rng(seed)
    p0, p1 = probabilities(scenario, random)
    full = np.full(ITEMS, n)
    return full, random.binomial(n, p0), full, random.binomial(n, p1)


# --- the polynomials --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 6])
def test_the_polynomials_equal_enumeration(n: int) -> None:
    for c, k in product(range(n + 1), range(1, n)):
        outcomes = [True] * c + [False] * (n - c)
        drawn = [not any(chosen) for chosen in combinations(outcomes, k)]
        assert all_wrong(np.array(n), np.array(c), k) == pytest.approx(np.mean(drawn))
        # One draw is right, k of the others are wrong.
        ordered = [
            outcomes[first] and not any(outcomes[i] for i in rest)
            for first in range(n)
            for rest in combinations([i for i in range(n) if i != first], k)
        ]
        found = right_then_all_wrong(np.array(n), np.array(c), k)
        assert found == pytest.approx(np.mean(ordered))


def test_a_million_samples_do_not_overflow() -> None:
    n, c, k = 10**6, 3 * 10**5, 1000
    exact = comb(n - c, k) / comb(n, k)
    assert all_wrong(np.array(n), np.array(c), k) == pytest.approx(exact, rel=1e-5)
    assert all_wrong(np.array(n), np.array(0), 10**6) == 1
    assert all_wrong(np.array(n), np.array(1), 10**6) == 0


def test_too_few_samples_are_not_a_number() -> None:
    assert np.isnan(all_wrong(np.array(4), np.array(1), 5))
    assert np.isnan(right_then_all_wrong(np.array(4), np.array(1), 4))
    assert not np.isnan(right_then_all_wrong(np.array(5), np.array(1), 4))


# --- the cells --------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("n", "k"), SIZES)
def test_the_cells_are_unbiased(scenario: str, n: int, k: int) -> None:
    """300 repetitions on the same 400 items: absolute bias below 3 sd / sqrt(300).

    A cell that a handful of the repetitions hit at all has no sd to speak of: 1e-6, which is
    0.0001 percentage points, is let pass.
    """
    random = np.random.default_rng(7)
    p0, p1 = probabilities(scenario, random)
    truth = cells(p0, p1, k)
    full = np.full(ITEMS, n)
    found, turned = [], []
    for _ in range(300):
        drawn = (full, random.binomial(n, p0), full, random.binomial(n, p1))
        found.append(decomposition.item_terms(*drawn, k).mean(axis=0))
        baseline = gained_lost.baseline_terms(*drawn[:2], k)
        turned.append([*gained_lost.item_terms(*drawn, k).mean(axis=0), baseline.mean()])
    for names, repetitions in (
        (decomposition.QUANTITIES, np.array(found)),
        ((*gained_lost.QUANTITIES, gained_lost.BASELINE), np.array(turned)),
    ):
        bias = np.abs(repetitions.mean(axis=0) - [truth[name] for name in names])
        assert (bias <= 3 * repetitions.std(axis=0) / np.sqrt(300) + 1e-6).all(), names


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_cells_add_up_on_every_item(scenario: str) -> None:
    n0, c0, _, _ = counts(scenario, 64, 1)
    c1 = counts(scenario, 256, 1)[3]
    terms = decomposition.item_terms(n0, c0, np.full(ITEMS, 256), c1, 32)
    np.testing.assert_allclose(terms[:, 1:].sum(axis=1), terms[:, 0], atol=1e-12)
    found = decompose(n0, c0, 256, c1, 32, replicates=50)
    total = sum(getattr(found, name).estimate for name in CELLS)
    assert total == pytest.approx(found.delta.estimate, abs=1e-12)
    assert found.rsh_up.estimate is not None
    assert found.rsh_down.estimate is not None
    moved = found.rsh_up.estimate + found.rsh_down.estimate
    assert moved == pytest.approx(found.rsh.estimate, abs=1e-12)


def test_new_less_lost_is_the_change_of_pass_at_k() -> None:
    n0, c0, n1, c1 = counts("mixed", 32, 3)
    terms = gained_lost.item_terms(n0, c0, n1, c1, 16)
    change = all_wrong(n0, c0, 16) - all_wrong(n1, c1, 16)
    np.testing.assert_allclose(terms[:, 0] - terms[:, 1], change, atol=1e-12)


def test_turnover_of_anybodys_counts() -> None:
    drawn = counts("mixed", 32, 3)
    found = turnover(*drawn, 16, replicates=200)
    parts = [found.new, found.lost, found.kept, found.neither]
    assert sum(part.estimate or 0 for part in parts) == pytest.approx(1)
    assert found.new.ci_low is not None
    assert found.new.ci_low > (found.same_model_new.estimate or 1)
    few = turnover(*drawn, 20, replicates=50)
    assert few.new.is_defined
    assert few.same_model_new.reason == "needs 40 samples of each item: two runs of k = 20"
    assert turnover(*drawn, 33).new.reason == "needs 33 samples of each item, and there are 32"
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        turnover(*drawn, 0)


@pytest.mark.parametrize(
    ("scenario", "n", "k"), [("null", 64, 32), ("expand", 32, 16), ("mixed", 16, 8)]
)
def test_intervals_cover_the_truth(scenario: str, n: int, k: int) -> None:
    """250 populations of 400 items: .92 to .98, and at least .90 where hardly any item is hit."""
    truth = population(scenario, k)
    covered = dict.fromkeys(decomposition.QUANTITIES, 0)
    resampling = decomposition.Resampling.of(np.arange(ITEMS), 400)
    for seed in range(250):
        drawn = counts(scenario, n, seed)
        terms = decomposition.item_terms(*drawn, k)
        means = decomposition.cell_means(terms, drawn, resampling)
        found = decomposition.cell_estimates(means, 0.95)
        for name, estimate in found.items():
            assert estimate.ci_low is not None
            assert estimate.ci_high is not None
            covered[name] += estimate.ci_low <= truth[name] <= estimate.ci_high
    for name, count in covered.items():
        small = abs(truth[name]) < 0.005
        lowest, highest = (0.90, 1.0) if small else (0.92, 0.985)
        assert lowest <= count / 250 <= highest, (name, count / 250)


def test_pooled_tasks_count_the_same_and_their_intervals_cover() -> None:
    """A large task where something happens, a small one where nothing does: the mean of both."""
    k, n, covered = 8, 32, 0
    truth = (population("expand", k)["exp"] + population("null", k)["exp"]) / 2
    for seed in range(200):
        parts = []
        for scenario, items in (("expand", ITEMS), ("null", ITEMS // 4)):
            drawn = tuple(column[:items] for column in counts(scenario, n, seed))
            draws = decomposition.Resampling.of(np.arange(items), 200, seed)
            terms = decomposition.item_terms(*drawn, k)
            parts.append(decomposition.cell_means(terms, drawn, draws))
        pooled = decomposition.cell_estimates(decomposition.Means.pooled(parts), 0.95)["exp"]
        assert pooled.estimate == pytest.approx(np.mean([part.values[1] for part in parts]))
        assert pooled.ci_low is not None
        assert pooled.ci_high is not None
        covered += pooled.ci_low <= truth <= pooled.ci_high
    assert 0.9 <= covered / 200 <= 0.99


@pytest.mark.parametrize(("n", "k"), [(32, 16), (64, 32)])
def test_two_runs_of_one_model_show_nothing(n: int, k: int) -> None:
    """Expansion, attrition, reshaping up and down are claimed at most 3 points above nominal."""
    claimed = dict.fromkeys(("exp", "att", "rsh_up", "rsh_down"), 0)
    repetitions = 120
    for seed in range(repetitions):
        found = decompose(*counts("null", n, seed), k, replicates=100, seed=seed)
        for name in claimed:
            estimate = getattr(found, name)
            claimed[name] += estimate.p < 0.05
    assert max(claimed.values()) / repetitions <= 0.08, claimed


def test_reshaping_is_split_into_up_and_down() -> None:
    """Half of the items up by .2, half down by .2: a net of nothing, and much reshaping."""
    random = np.random.default_rng(5)
    up = np.arange(ITEMS) % 2 == 0
    p0 = random.uniform(0.3, 0.7, ITEMS)
    p1 = p0 + np.where(up, 0.2, -0.2)
    full = np.full(ITEMS, 64)
    found = decompose(full, random.binomial(64, p0), full, random.binomial(64, p1), 16)
    truth = cells(p0, p1, 16)
    for name in ("rsh_up", "rsh_down"):
        estimate = getattr(found, name)
        assert estimate.estimate == pytest.approx(truth[name], abs=0.01)
        assert estimate.ci_low <= truth[name] <= estimate.ci_high
        assert estimate.p < 1e-6
    assert found.rsh.p is not None
    assert found.rsh.p > 0.01


@pytest.mark.parametrize("n", [16, 64])
def test_up_and_down_on_a_null_edge_are_small(n: int) -> None:
    k = n // 2 if n == 16 else 16
    ups = [decompose(*counts("null", n, s), k, replicates=20).rsh_up.estimate for s in range(12)]
    assert 0 <= np.mean(ups) < 0.007  # type: ignore[arg-type]


def test_cross_fitted_terms_have_no_bias_without_change() -> None:
    means = [
        cross_fitted(*counts("null", 32, seed), 16, seed=seed).mean(axis=0) for seed in range(300)
    ]
    error = np.std(means, axis=0) / np.sqrt(300)
    assert (np.abs(np.mean(means, axis=0)) < 3 * error).all()


# --- published numbers ------------------------------------------------------------------------

EVALPERF = Path(__file__).parent / "data" / "evalperf_counts.csv"


def evalperf(model: str) -> dict[str, tuple[int, int]]:
    with EVALPERF.open() as file:
        rows = [row for row in csv.DictReader(file) if model in row["model"]]
    assert len({row["model"] for row in rows}) == 1
    return {row["item"]: (int(row["n"]), int(row["c"])) for row in rows}


@pytest.mark.parametrize(
    ("parent", "child", "expected"),
    [
        (
            "meta-llama--Llama-3.1-70B-Instruct_",
            "Llama-3.1-Nemotron-70B",
            {"delta": -15.43, "rsh": -14.88, "att": -0.51},
        ),
        ("Qwen2.5-32B-Instruct_", "QwQ-32B", {"delta": -3.85}),
    ],
)
def test_counts_of_real_models(parent: str, child: str, expected: dict[str, float]) -> None:
    before, after = evalperf(parent), evalperf(child)
    items = sorted(before.keys() & after.keys())
    assert len(items) == 118
    n0, c0 = np.array([before[item] for item in items]).T
    n1, c1 = np.array([after[item] for item in items]).T
    found = decompose(n0, c0, n1, c1, 25)
    for name, points in expected.items():
        assert 100 * getattr(found, name).estimate == pytest.approx(points, abs=0.006)


# --- use --------------------------------------------------------------------------------------


def test_clusters_widen_the_intervals() -> None:
    n, c0, _, c1 = counts("reshape", 32, 1)
    order = np.argsort(c1 - c0)
    alone = decompose(n[order], c0[order], n, c1[order], 16, replicates=200)
    together = decompose(
        n[order], c0[order], n, c1[order], 16, [str(i // 20) for i in range(ITEMS)], replicates=200
    )
    assert alone.delta.estimate == together.delta.estimate
    assert alone.delta.stderr is not None
    assert together.delta.stderr is not None
    assert together.delta.stderr > 2 * alone.delta.stderr


def test_a_cell_that_is_empty_on_every_item_gets_a_bound_and_no_zero() -> None:
    found = decompose(32, [32] * 50, 32, [32] * 50, 16, replicates=50)
    assert found.exp.estimate == 0
    assert found.exp.ci_method == "rule_of_three"
    assert found.exp.ci_high == pytest.approx(3 / 50, rel=0.01)
    assert found.exp.p == 1


def test_what_is_undefined_says_what_it_would_take() -> None:
    found = decompose(16, [0, 1, 2], 16, [1, 2, 3], 16)
    assert found.delta.is_defined
    assert not found.exp.is_defined
    assert found.rsh_up.reason == "needs 17 samples of each item for k = 16, and there are 16"
    alone = decompose(32, [1], 32, [2], 16)
    assert alone.delta.reason == "needs two clusters of items, and there is 1"
    assert not alone.rsh_up.is_defined


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((8, [9, 1], 8, [1, 1], 2), "0 <= c <= n"),
        ((8, [-1, 1], 8, [1, 1], 2), "0 <= c <= n"),
        ((0, [0, 0], 8, [1, 1], 2), "n >= 1"),
        ((8, [1.5, 1], 8, [1, 1], 2), "whole numbers"),
        ((8, [float("nan"), 1], 8, [1, 1], 2), "whole numbers"),
        ((2 * 10**9, [1, 1], 8, [1, 1], 2), "n is at most 999999999, not 2000000000"),
        ((8, [1, 1], 8, [1, 1], 0), "k must be at least 1, not 0"),
        ((8, [[1, 1]], 8, [1, 1], 2), "one dimension"),
        ((8, [1, 1, 1], 8, [1, 1], 2), "broadcast"),
        ((8, [1, 1], 8, [1, 1], 2, ["a"]), "1 clusters given for 2 items"),
    ],
)
def test_wrong_input_is_named(arguments: tuple[object, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decompose(*arguments)  # type: ignore[arg-type]
