"""KL on categorical toys, whose divergence is a sum that can be written down."""

from __future__ import annotations

import numpy as np
import pytest

from ptharness.analysis.distances import divergence, exact_divergence, log_ratios

VOCABULARY, TOKENS, SAMPLES = 8, 5, 4


def logprobs(generator: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    """Log-probabilities of shape (tokens, vocabulary): tokens do not depend on each other."""
    logits = generator.normal(0, spread, (TOKENS, VOCABULARY))
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def analytic(source: np.ndarray, target: np.ndarray) -> float:
    """KL of whole sequences, in nats."""
    return float((np.exp(source) * (source - target)).sum())


def drawn(generator: np.random.Generator, source: np.ndarray, count: int) -> np.ndarray:
    noise = generator.gumbel(size=(count, *source.shape))
    return np.asarray((source[None] + noise).argmax(-1))


def picked(logs: np.ndarray, text: np.ndarray) -> np.ndarray:
    return np.asarray(logs[np.arange(TOKENS), text])


@pytest.mark.parametrize("exact", [False, True])
def test_the_analytic_value_is_found_within_three_standard_errors(exact: bool) -> None:
    generator = np.random.default_rng(1)
    outside = 0
    for _ in range(60):
        nats, truth = [], []
        for _ in range(100):
            source = logprobs(generator)
            target = source + generator.normal(0, 0.4, source.shape)
            target -= np.log(np.exp(target).sum(-1, keepdims=True))
            truth.append(analytic(source, target))
            texts = drawn(generator, source, SAMPLES)
            nats.append(
                exact_divergence(source, target).sum()
                if exact
                else np.mean([log_ratios(picked(source, t), picked(target, t)) for t in texts])
            )
        found = divergence(nats, [TOKENS] * 100, range(100), ["task"] * 100).per_sequence
        assert found.estimate is not None
        if exact:
            assert found.estimate == pytest.approx(np.mean(truth), abs=1e-12)
        else:
            assert found.stderr is not None
            outside += abs(found.estimate - np.mean(truth)) > 3 * found.stderr
    # 0.3 % are outside by chance.
    assert outside <= 2


def test_the_interval_covers() -> None:
    generator = np.random.default_rng(2)
    source, target = logprobs(generator), logprobs(generator)
    covered = 0
    for _ in range(400):
        texts = drawn(generator, source, 80)
        nats = [log_ratios(picked(source, t), picked(target, t)) for t in texts]
        found = divergence(nats, [TOKENS] * 80, range(80), ["task"] * 80).per_sequence
        assert found.ci_low is not None
        assert found.ci_high is not None
        covered += found.ci_low < analytic(source, target) < found.ci_high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_checkpoint_does_not_differ_from_itself() -> None:
    found = divergence([0.0] * 20, [5.0] * 20, range(20), ["task"] * 20)
    assert found.per_token.estimate == 0.0
    same = logprobs(np.random.default_rng(3))
    assert exact_divergence(same, same).tolist() == [0.0] * TOKENS


def test_per_token_is_nats_over_tokens_and_tasks_count_the_same() -> None:
    nats = [1.0, 1.0, 1.0, 1.0, 6.0, 6.0]
    tokens = [2.0, 2.0, 2.0, 2.0, 4.0, 4.0]
    tasks = ["short"] * 4 + ["long"] * 2
    found = divergence(nats, tokens, range(6), tasks)
    assert found.per_sequence.estimate == pytest.approx((1 + 6) / 2)
    assert found.per_token.estimate == pytest.approx(3.5 / 3)


def test_impossible_tokens_of_the_source_add_nothing() -> None:
    source = np.log(np.array([[0.5, 0.5, 0.0]]) + 1e-300)
    source[0, 2] = -np.inf
    target = np.log(np.array([[0.25, 0.25, 0.5]]))
    assert exact_divergence(source, target) == pytest.approx(np.log(2))


def test_what_the_target_rules_out_is_infinite() -> None:
    source = np.log(np.array([[0.5, 0.5]]))
    with np.errstate(divide="ignore"):
        assert exact_divergence(source, np.log(np.array([[1.0, 0.0]]))).tolist() == [np.inf]


def test_rounded_log_probabilities_give_nothing_below_zero() -> None:
    generator = np.random.default_rng(4)
    for _ in range(50):
        source = logprobs(generator, spread=5.0)
        target = source + generator.normal(0, 1e-6, source.shape)
        assert (exact_divergence(source.astype(np.float32), target.astype(np.float32)) >= 0).all()


def test_no_item_is_an_error() -> None:
    with pytest.raises(ValueError, match="no item"):
        divergence([], [], [], [])
