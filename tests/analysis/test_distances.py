"""KL on categorical toys, whose divergence is a sum that can be written down."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from ptharness.analysis.distances import divergence, exact_divergence, text_bits

VOCABULARY, TOKENS, SAMPLES = 3, 4, 4


def logprobs(generator: np.random.Generator, *shape: int, spread: float = 1.0) -> np.ndarray:
    """Log-probabilities over the last axis."""
    logits = generator.normal(0, spread, shape)
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def chain(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two models whose next token depends on the one before: shape (before, next); the first
    token comes after token 0."""
    source = logprobs(generator, VOCABULARY, VOCABULARY)
    target = source + generator.normal(0, 0.4, source.shape)
    return source, np.asarray(target - np.log(np.exp(target).sum(-1, keepdims=True)))


def contexts(text: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], text[:-1]])


def picked(model: np.ndarray, text: np.ndarray) -> np.ndarray:
    return np.asarray(model[contexts(text), text])


def log_ratio(source: np.ndarray, target: np.ndarray, text: np.ndarray) -> float:
    return float(picked(source, text).sum() - picked(target, text).sum())


def analytic(source: np.ndarray, target: np.ndarray) -> float:
    """KL of whole sequences in nats, by adding up all of them."""
    every = map(np.array, product(range(VOCABULARY), repeat=TOKENS))
    return sum(
        float(np.exp(picked(source, text).sum())) * log_ratio(source, target, text)
        for text in every
    )


def drawn(generator: np.random.Generator, source: np.ndarray) -> np.ndarray:
    text: list[Any] = []
    for _ in range(TOKENS):
        text.append(generator.choice(VOCABULARY, p=np.exp(source[text[-1] if text else 0])))
    return np.array(text)


def test_the_analytic_value_is_found_within_three_standard_errors() -> None:
    generator = np.random.default_rng(1)
    outside = {"exact": 0, "sampled": 0}
    errors: dict[str, list[float]] = {"exact": [], "sampled": []}
    for _ in range(60):
        source, target = chain(generator)
        found: dict[str, list[float]] = {"exact": [], "sampled": []}
        for _ in range(100):
            texts = [drawn(generator, source) for _ in range(SAMPLES)]
            exact = [exact_divergence(source[c], target[c]) for c in map(contexts, texts)]
            found["exact"].append(float(np.mean([one.sum() for one in exact])))
            found["sampled"].append(np.mean([log_ratio(source, target, t) for t in texts]))
        truth = analytic(source, target)
        for method, nats in found.items():
            one = divergence(nats, [TOKENS] * 100, range(100), ["task"] * 100).per_sequence
            assert one.estimate is not None
            assert one.stderr is not None
            outside[method] += abs(one.estimate - truth) > 3 * one.stderr
            errors[method].append(one.stderr)
    # 0.3 % are outside by chance.
    assert max(outside.values()) <= 2
    assert np.mean(errors["exact"]) < 0.5 * np.mean(errors["sampled"]), "less noise"


def test_the_interval_covers() -> None:
    generator = np.random.default_rng(2)
    source, target = chain(generator)
    truth, covered = analytic(source, target), 0
    for _ in range(400):
        nats = [log_ratio(source, target, drawn(generator, source)) for _ in range(80)]
        found = divergence(nats, [TOKENS] * 80, range(80), ["task"] * 80).per_sequence
        assert found.ci_low is not None
        assert found.ci_high is not None
        covered += found.ci_low < truth < found.ci_high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_checkpoint_does_not_differ_from_itself() -> None:
    same = logprobs(np.random.default_rng(3), TOKENS, VOCABULARY)
    assert exact_divergence(same, same).tolist() == [0.0] * TOKENS
    for tasks in (["one"] * 20, ["one"] * 10 + ["other"] * 10):
        found = divergence([0.0] * 20, [5.0] * 20, range(20), tasks).per_token
        assert (found.estimate, found.ci_low, found.ci_high) == (0.0, None, None)
        assert found.reason == "the same on all items, so its interval is not known"


NATS = [1.0, 1.5, 0.5, 1.0, 6.0, 7.0, 5.0, 8.0]
LENGTHS = [2.0, 3.0, 2.0, 1.0, 40.0, 60.0, 50.0, 50.0]
SHORT_AND_LONG = ["short"] * 4 + ["long"] * 4


def test_the_mean_of_tasks_is_that_of_their_estimates() -> None:
    """Not the tokens of all tasks together, of which the longest has most."""
    found = divergence(NATS, LENGTHS, range(8), SHORT_AND_LONG)
    short = divergence(NATS[:4], LENGTHS[:4], range(4), ["short"] * 4)
    long = divergence(NATS[4:], LENGTHS[4:], range(4), ["long"] * 4)
    assert short.per_token.estimate == pytest.approx(4 / 8)
    assert long.per_token.estimate == pytest.approx(26 / 200)
    for name in ("per_token", "per_sequence"):
        whole, one, other = (getattr(d, name) for d in (found, short, long))
        assert whole.estimate == pytest.approx((one.estimate + other.estimate) / 2)
        assert whole.stderr == pytest.approx(np.hypot(one.stderr, other.stderr) / 2)
        assert whole.ci_low < whole.estimate < whole.ci_high
        for side in ("ci_low", "ci_high"):
            reaches = [abs(getattr(d, side) - d.estimate) for d in (whole, one, other)]
            assert reaches[0] == pytest.approx(np.hypot(*reaches[1:]) / 2)


def test_the_interval_of_several_tasks_covers() -> None:
    generator = np.random.default_rng(6)
    covered = 0
    for _ in range(400):
        nats, lengths, tasks = [], [], []
        for task, (rate, size) in enumerate([(0.5, 4), (0.1, 40)]):
            tokens = generator.poisson(size, 60) + 1.0
            nats += list(rate * tokens + generator.normal(0, 0.2 * size, 60))
            lengths += list(tokens)
            tasks += [task] * 60
        found = divergence(nats, lengths, range(120), tasks).per_token
        assert found.ci_low is not None
        assert found.ci_high is not None
        covered += found.ci_low < 0.3 < found.ci_high
    assert 0.92 <= covered / 400 <= 0.98


def test_bits_per_byte_are_of_all_bytes_of_a_task() -> None:
    found = text_bits([2, 4, 9], [3, 9, 9], [1, 5, 3], range(3), ["a", "a", "b"])
    assert found.source == pytest.approx((6 / 6 + 9 / 3) / 2)
    assert found.target == pytest.approx((12 / 6 + 9 / 3) / 2)
    assert found.excess.reason is not None, "one item of b"
    items = [2, 2, 4, 9, 8, 8], [3, 3, 9, 9, 9, 9], [4, 5, 6, 3, 3, 3]
    several = text_bits(*items, range(6), list("aaabbb"))
    assert several.excess.estimate == pytest.approx((7 / 15 + 2 / 9) / 2)
    empty = text_bits([2, 0, 0], [3, 0, 0], [1, 0, 0], range(3), ["a", "b", "b"])
    assert (empty.source, empty.excess.reason) == (None, "the texts are empty")


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
        source = logprobs(generator, TOKENS, VOCABULARY, spread=5.0)
        target = source + generator.normal(0, 1e-6, source.shape)
        assert (exact_divergence(source.astype(np.float32), target.astype(np.float32)) >= 0).all()


def test_no_item_is_an_error() -> None:
    with pytest.raises(ValueError, match="no item"):
        divergence([], [], [], [])
