"""Measured provenance with planted truth: the parent's own text, other text, half of each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ptharness.analysis.provenance import LEAST_PROMPTS, Measured, Prompt, measure

REPETITIONS = 100
VOCABULARY, TOKENS = 12, 8


class Parent:
    """A model that draws each token from a categorical distribution of its prompt and place."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.logits = generator.normal(0.0, 1.5, (TOKENS, VOCABULARY))
        self.logprobs = self.logits - np.log(np.exp(self.logits).sum(-1, keepdims=True))

    def draw(self, count: int, heat: float = 1.0) -> np.ndarray:
        """Texts of shape (count, tokens); `heat` flattens what they are drawn from."""
        logits = self.logits[None] / heat
        noise = self.generator.gumbel(size=(count, TOKENS, VOCABULARY))
        return np.asarray((logits + noise).argmax(-1))

    def nll(self, texts: np.ndarray) -> np.ndarray:
        """Nats per token, shape (texts,)."""
        picked = np.take_along_axis(self.logprobs[None], texts[..., None], -1)[..., 0]
        return np.asarray(-picked.mean(-1))


def unjudged(count: int) -> np.ndarray:
    return np.full(count, np.nan)


def planted(
    generator: np.random.Generator, share_like: float, prompts: int = 200, given: int = 2
) -> list[Prompt]:
    """Prompts of whose trajectories a share is the parent's own and the rest uniform noise."""
    made = []
    for _ in range(prompts):
        parent = Parent(generator)
        own = parent.nll(parent.draw(6))
        like = generator.random(given) < share_like
        texts = np.where(like[:, None], parent.draw(given), parent.draw(given, heat=1e6))
        made.append(Prompt(parent.nll(texts), own, unjudged(given), unjudged(6)))
    return made


@pytest.mark.parametrize(
    ("share_like", "expected"),
    [(1.0, Measured.PARENT_LIKE), (0.0, Measured.PARENT_UNLIKE), (0.5, Measured.MIXED)],
)
def test_the_planted_class_is_found(share_like: float, expected: Measured) -> None:
    generator = np.random.default_rng(int(10 * share_like))
    found = [measure(planted(generator, share_like)).measured for _ in range(REPETITIONS)]
    assert found.count(expected) >= 0.95 * REPETITIONS


@pytest.mark.parametrize("given", [1, 8])
@pytest.mark.parametrize("prompts", [12, 40, 100])
def test_few_prompts_of_its_own_text_are_seldom_called_anything_else(
    prompts: int, given: int
) -> None:
    """Of text that varies little, so that its gap is soon known to be none."""
    generator = np.random.default_rng(prompts + given)
    found = []
    for _ in range(300):
        nlls = generator.gamma(2, 0.05, (prompts, given + 8))
        made = [Prompt(n[:given], n[given:], unjudged(given), unjudged(8)) for n in nlls]
        found.append(measure(made).measured)
    assert found.count(Measured.MIXED) + found.count(Measured.PARENT_UNLIKE) <= 9
    assert found.count(Measured.PARENT_LIKE) > 90


def with_auc(shares: list[float]) -> list[Prompt]:
    """Prompts without a gap that matters; of each, this share of ten own samples is likelier."""
    return [
        Prompt(np.zeros(1), np.where(np.arange(10) < 10 * share, -1e-6, 1e-6), *[unjudged(1)] * 2)
        for share in shares
    ]


@pytest.mark.parametrize(
    ("shares", "measured", "reason"),
    [
        ([0.8, 0.7] * 8, "mixed", "no gap, and yet more often the less likely beside an own"),
        ([0.3, 0.2] * 8, "mixed", "no gap, and yet more often the likelier beside an own"),
        ([1.0, 0.3] * 8, "undetermined", "no gap, but the AUC's interval holds 0.55; use more"),
        ([0.0, 0.7] * 8, "undetermined", "no gap, but the AUC's interval holds 0.45; use more"),
        ([0.6, 0.4] * 8, "parent_like", "as likely as the parent's own"),
    ],
)
def test_without_a_gap_the_auc_is_judged_by_its_interval(
    shares: list[float], measured: str, reason: str
) -> None:
    found = measure(with_auc(shares))
    assert found.measured == measured
    assert reason in found.reason


@pytest.mark.parametrize(
    ("gaps", "ends"), [([-0.3, 0.1], "-0.1"), ([0.3, -0.1], "0.1"), ([1.0, -1.0], "-0.1 and 0.1")]
)
def test_the_ends_that_an_interval_holds_are_told(gaps: list[float], ends: str) -> None:
    prompts = [Prompt(np.array([g]), np.zeros(2), unjudged(1), unjudged(2)) for g in gaps * 6]
    found = measure(prompts)
    assert found.measured is Measured.UNDETERMINED
    assert found.reason == f"the gap's interval holds {ends}; use more prompts"


def test_the_gap_is_unbiased_and_its_interval_covers() -> None:
    generator = np.random.default_rng(5)
    estimates = [measure(planted(generator, 1.0, prompts=60)) for _ in range(400)]
    gaps = np.array([e.gap.estimate for e in estimates])
    assert abs(gaps.mean()) < 3 * gaps.std() / np.sqrt(len(gaps))
    covered = [e.gap.ci_low < 0 < e.gap.ci_high for e in estimates]  # type: ignore[operator]
    assert 0.92 <= np.mean(covered) <= 0.98
    aucs = np.array([e.auc.estimate for e in estimates])
    assert abs(aucs.mean() - 0.5) < 3 * aucs.std() / np.sqrt(len(aucs))


def test_the_gap_is_what_was_planted() -> None:
    """Two parents that are known: the gap of uniform text is a sum over the vocabulary."""
    generator = np.random.default_rng(6)
    prompts, expected = [], []
    for _ in range(400):
        parent = Parent(generator)
        own = -(np.exp(parent.logprobs) * parent.logprobs).sum(-1).mean()
        expected.append(-parent.logprobs.mean() - own)
        nll = parent.nll(parent.draw(2, heat=1e6))
        prompts.append(Prompt(nll, parent.nll(parent.draw(6)), unjudged(2), unjudged(6)))
    gap = measure(prompts).gap
    assert gap.estimate is not None
    assert gap.stderr is not None
    assert abs(gap.estimate - np.mean(expected)) < 3 * gap.stderr


def test_a_temperature_shows_as_likelier_text() -> None:
    generator = np.random.default_rng(7)
    prompts = []
    for _ in range(200):
        parent = Parent(generator)
        cool = parent.nll(parent.draw(2, heat=0.5))
        prompts.append(Prompt(cool, parent.nll(parent.draw(6)), unjudged(2), unjudged(6)))
    found = measure(prompts)
    assert found.measured is Measured.MIXED
    assert "likelier than the parent's own" in found.reason


def filtered(generator: np.random.Generator, keep: bool) -> list[Prompt]:
    """A text is right if its first token is the likeliest; `keep` gives right ones alone."""
    prompts = []
    for _ in range(60):
        parent = Parent(generator)

        def right(texts: np.ndarray, parent: Parent = parent) -> np.ndarray:
            return (texts[:, 0] == parent.logits[0].argmax()).astype(float)

        own, drawn = parent.draw(6), parent.draw(40)
        given = drawn[right(drawn) == 1][:2] if keep else drawn[:2]
        if len(given):
            prompts.append(Prompt(parent.nll(given), parent.nll(own), right(given), right(own)))
    return prompts


def test_selection_by_correctness_is_seen_where_it_is_judged() -> None:
    generator = np.random.default_rng(8)
    selected = [measure(filtered(generator, keep=True)) for _ in range(20)]
    assert all(found.looks_filtered is True for found in selected)
    assert selected[0].reward.estimate == pytest.approx(0.6, abs=0.2)
    whole = [measure(filtered(generator, keep=False)).looks_filtered for _ in range(REPETITIONS)]
    # One side of a two-sided interval of 95 %.
    assert whole.count(True) <= 8
    assert whole.count(False) == REPETITIONS - whole.count(True)


def test_without_a_judgement_nothing_is_said_of_selection() -> None:
    found = measure(planted(np.random.default_rng(10), 1.0, prompts=20))
    assert found.looks_filtered is None
    assert found.reward.reason == "the rewards are not known of both sides"


def judged(pairs: list[tuple[float, float]]) -> list[Prompt]:
    """Prompts with a given text and two own ones, and their rewards."""
    return [
        Prompt(np.ones(1), np.ones(2), np.array([given]), np.array([own, own]))
        for given, own in pairs
    ]


def test_nothing_is_said_of_the_selection_of_few_prompts() -> None:
    few = measure(judged([(1.0, 0.0), (1.0, 0.25)] * 4))
    assert few.reward.estimate == pytest.approx(0.875)
    assert few.looks_filtered is None
    assert measure(judged([(1.0, 0.0), (1.0, 0.25)] * 5)).looks_filtered is True


def test_a_difference_of_rewards_that_does_not_vary_is_not_known_exactly() -> None:
    found = measure(judged([(1.0, 0.75)] * 10 + [(math.nan, 0.0)]))
    assert found.reward.estimate == 0.25
    assert found.reward.ci_method == "rule_of_three"
    # Of ten prompts a quarter that differ may all have been missed, by a whole reward each.
    assert found.reward.ci_low == pytest.approx(0.25 + math.log(0.05) / 10)
    assert found.looks_filtered is False
    assert measure(judged([(1.0, 0.75)] * 60 + [(0.75, 0.5)])).looks_filtered is True
    same = measure(judged([(1.0, 1.0)] * 20))
    assert (same.reward.estimate, same.reward.ci_low, same.looks_filtered) == (0.0, None, None)


def test_text_that_is_always_the_same_is_parent_like() -> None:
    """A parent that knows one answer: all ties, which count half."""
    prompts = [
        Prompt(np.zeros(2), np.zeros(4), unjudged(2), unjudged(4)) for _ in range(LEAST_PROMPTS)
    ]
    found = measure(prompts)
    assert (found.gap.estimate, found.auc.estimate, found.like_share) == (0.0, 0.5, 1.0)
    assert found.measured is Measured.PARENT_LIKE


def test_few_prompts_have_no_class() -> None:
    few = planted(np.random.default_rng(9), 0.0, prompts=LEAST_PROMPTS - 1)
    assert measure(few).measured is Measured.UNDETERMINED
    assert measure(few[:1]).reason == "1 prompt; a class needs 10"
    nothing = measure([])
    assert nothing.measured is Measured.UNDETERMINED
    assert nothing.gap.estimate is None
