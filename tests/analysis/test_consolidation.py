"""Planted truth: what a stage gained and what is left of it, passed on, amortised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from ptharness.analysis.attempts import pass_at_k
from ptharness.analysis.consolidation import (
    amortisation,
    break_even,
    novelty,
    recovered_gap,
    retention,
    retention_terms,
    scaffold_gap,
    support_transfer,
)
from ptharness.analysis.resampling import Estimate

ITEMS = 400
Floats = npt.NDArray[np.float64]
Drawn = tuple[int, npt.NDArray[np.int64]]


def gained(random: np.random.Generator, kept: float, items: int = ITEMS) -> list[Floats]:
    """p before, after and later: two fifths of the items gained, of which a share is kept."""
    before = random.beta(0.6, 1.2, items)
    room = np.where(random.random(items) < 0.4, random.uniform(0.2, 0.9, items), 0)
    after = before + (1 - before) * room
    return [before, after, before + kept * (after - before)]


def taught(random: np.random.Generator, items: int = ITEMS) -> list[Floats]:
    """p of a start, of a student and of a teacher: it reaches more, of which half is passed on."""
    start = np.where(random.random(items) < 0.5, 0, random.beta(1, 1, items))
    reached = (start == 0) & (random.random(items) < 0.6)
    teacher = np.where(reached, random.uniform(0.2, 0.8, items), start)
    return [start, np.where(random.random(items) < 0.5, teacher, start), teacher]


def draw(random: np.random.Generator, n: int, *probabilities: Floats) -> list[Drawn]:
    return [(n, random.binomial(n, p)) for p in probabilities]


def coverage(
    once: Callable[[np.random.Generator], Estimate], truth: float, repetitions: int = 150
) -> tuple[float, float]:
    """The mean of the estimates, and how often the interval holds the truth."""
    random = np.random.default_rng(1)
    found = [once(random) for _ in range(repetitions)]
    held = []
    for estimate in found:
        assert estimate.ci_low is not None
        assert estimate.ci_high is not None
        held.append(estimate.ci_low <= truth <= estimate.ci_high)
    return float(np.mean([f.estimate for f in found if f.estimate is not None])), np.mean(held)


@pytest.mark.parametrize("kept", [1.0, 0.5])
@pytest.mark.parametrize("n", [8, 16, 64])
def test_retention_finds_what_was_kept(kept: float, n: int) -> None:
    mean, held = coverage(lambda r: retention(*draw(r, n, *gained(r, kept))), kept)
    assert mean == pytest.approx(kept, abs=0.02)
    assert 0.9 <= held <= 0.99


def test_without_the_split_retention_would_be_biased() -> None:
    """The very same sums, with U chosen on the samples that are summed."""
    random = np.random.default_rng(2)
    sums = np.zeros((2, 2))
    for _ in range(50):
        (n, c0), (_, c1), (_, c2) = draw(random, 8, *gained(random, 1.0))
        chosen = c1 > c0
        sums[0] += (c2 - c0)[chosen].sum() / n, (c1 - c0)[chosen].sum() / n
        full = np.full(ITEMS, n)
        sums[1] += retention_terms(full, c0, full, c1, full, c2).sum(axis=0)
    naive, split = sums[:, 0] / sums[:, 1]
    assert naive < 0.9
    assert split == pytest.approx(1, abs=0.02)


def test_tasks_count_the_same_whatever_their_size() -> None:
    """All is kept on the large task, half on the small one, each in clusters of three."""
    tasks = np.repeat(["large", "small"], [300, 60])
    clusters = np.arange(360) // 3

    def once(random: np.random.Generator) -> Estimate:
        before, after, _ = gained(random, 1.0, 120)
        before, after = np.repeat(before, 3), np.repeat(after, 3)
        later = before + np.where(tasks == "large", 1, 0.5) * (after - before)
        drawn = draw(random, 16, before, after, later)
        return retention(*drawn, clusters, tasks=tasks)

    mean, held = coverage(once, 0.75)
    assert mean == pytest.approx(0.75, abs=0.02)
    assert 0.9 <= held <= 0.99


@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_the_recovered_gap_is_found(kept: float) -> None:
    def once(random: np.random.Generator) -> Estimate:
        start, teacher, student = gained(random, kept)
        return recovered_gap(*draw(random, 16, start, student, teacher))

    mean, held = coverage(once, kept)
    assert mean == pytest.approx(kept, abs=0.02)
    assert 0.9 <= held <= 0.99


def test_the_recovered_gap_is_not_clipped_and_pools() -> None:
    worse = recovered_gap((10, [5, 5, 4]), (10, [2, 3, 2]), (10, [9, 9, 9]))
    assert worse.estimate == pytest.approx(-7 / 13)
    pooled = recovered_gap(
        (10, [0, 0, 0, 0, 0]),
        (10, [2, 4, 9, 8, 7]),
        (10, [8, 10, 10, 9, 8]),
        tasks=["a", "a", "b", "b", "b"],
    )
    assert pooled.estimate == pytest.approx((3 + 8) / (9 + 9))


def test_support_transfer_and_novelty() -> None:
    k, n = 8, 32
    start, student, teacher = taught(np.random.default_rng(3), 400_000)
    u, v, w = (1 - (1 - p) ** k for p in (start, teacher, student))
    truth = float(((1 - u) * v * w).mean() / ((1 - u) * v).mean())
    mean, held = coverage(lambda r: support_transfer(*draw(r, n, *taught(r)), k), truth)
    assert mean == pytest.approx(truth, abs=0.01)
    assert 0.9 <= held <= 0.99

    def once(random: np.random.Generator) -> Estimate:
        _, pupil, master = draw(random, n, *taught(random))
        return novelty(pupil, master, k, replicates=200)

    truth = float((w * (1 - v)).mean())
    mean, held = coverage(once, truth)
    assert mean == pytest.approx(truth, abs=0.002)
    assert 0.9 <= held <= 1


def test_amortisation_is_found() -> None:
    k, n = 8, 32
    start, student, _ = taught(np.random.default_rng(4), 400_000)
    bought = (1 - (1 - start) ** k).mean() - start.mean()
    truth = float((student.mean() - start.mean()) / bought)

    def once(random: np.random.Generator) -> Estimate:
        master, pupil, _ = draw(random, n, *taught(random))
        return amortisation(pupil, master, pass_at_k(*master, k))

    mean, held = coverage(once, truth)
    assert mean == pytest.approx(truth, abs=0.02)
    assert 0.9 <= held <= 0.99


def test_break_even_is_found_or_censored() -> None:
    def sides(random: np.random.Generator, items: int) -> tuple[Floats, Floats]:
        return random.uniform(0.02, 0.1, items), random.uniform(0.2, 0.5, items)

    parent, child = sides(np.random.default_rng(5), 400_000)
    truth = next(k for k in range(1, 99) if (1 - (1 - parent) ** k).mean() >= child.mean())

    def once(random: np.random.Generator) -> Estimate:
        before, after = draw(random, 64, *sides(random, 200))
        return break_even(before, after, replicates=200)

    mean, held = coverage(once, truth, 60)
    assert mean == pytest.approx(truth, abs=0.5)
    assert held >= 0.9
    censored = break_even((8, [0, 0, 1]), (8, [8, 7, 8]))
    assert censored.estimate is None
    assert censored.reason == "the parent does not get there up to k = 8"
    assert break_even((8, [5, 5]), (8, [4, 5])).estimate == 1


def test_the_scaffold_gap_is_a_difference_of_differences() -> None:
    found = scaffold_gap((10, [2, 4]), (10, [6, 9]), (10, [5, 6]), (10, [6, 8]))
    assert found.parent.estimate == pytest.approx(0.45)
    assert found.child.estimate == pytest.approx(0.15)
    assert found.change.estimate == pytest.approx(-0.3)
    assert found.change.stderr is not None
    # Paired: the items' differences are what varies.
    assert found.change.stderr == pytest.approx(np.std([-0.3, -0.3], ddof=1) / np.sqrt(2))


# --- undefined --------------------------------------------------------------------------------


def test_no_gain_leaves_nothing_to_keep() -> None:
    random = np.random.default_rng(6)
    p = random.beta(0.6, 0.8, 100)
    found = retention(*draw(random, 16, p, p, p))
    assert found.estimate is None
    assert found.reason is not None
    assert found.reason.startswith("needs more items or samples: the gain that is to be kept is")
    gap = recovered_gap(*draw(random, 16, p, p, p))
    assert gap.reason is not None
    assert "the gap between start and teacher" in gap.reason
    assert gap.items == 100


def test_a_null_edge_seldom_has_a_retention() -> None:
    random = np.random.default_rng(7)
    defined = 0
    for _ in range(200):
        p = random.beta(0.6, 0.8, 100)
        defined += retention(*draw(random, 16, p, p, p)).is_defined
    assert defined / 200 <= 0.1


def test_what_is_undefined_says_what_it_would_take() -> None:
    one = retention((1, [0, 1]), (8, [4, 4]), (8, [4, 4]))
    assert one.reason == "needs 2 samples of each item before and after, and there is 1"
    few = support_transfer((8, [0, 1]), (4, [1, 1]), (8, [4, 4]), 6)
    assert few.reason == "needs 6 samples of each item, and there are 4"
    assert novelty((4, [1, 1]), (8, [4, 4]), 6).reason == few.reason
    alone = recovered_gap((8, [0, 1]), (8, [1, 1]), (8, [7, 7]), ["a", "b"], tasks=["x", "y"])
    assert alone.reason == "needs two clusters of items in each task, and there is 1"
    unknown = amortisation((8, [4, 4]), (8, [1, 1]), [0.5, np.nan])
    assert unknown.reason == "needs a value at k for each item: it is not known for 1"
    nothing = amortisation((8, [4, 4, 4]), (8, [1, 2, 3]), [1 / 8, 2 / 8, 3 / 8])
    assert nothing.reason is not None
    assert "what k attempts add" in nothing.reason
    assert retention((8, []), (8, []), (8, [])).reason == "there is no item"


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match="0 <= c <= n"):
        retention((8, [9, 1]), (8, [1, 1]), (8, [1, 1]))
    with pytest.raises(ValueError, match=r"teacher_at_k has shape \(1,\), but there are 2 items"):
        amortisation((8, [4, 4]), (8, [1, 1]), [0.5])
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        novelty((8, [4, 4]), (8, [1, 1]), 0)
    with pytest.raises(ValueError, match="1 clusters given for 2 items"):
        recovered_gap((8, [0, 1]), (8, [1, 1]), (8, [7, 7]), ["a"])
