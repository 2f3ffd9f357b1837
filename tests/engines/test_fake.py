"""The fake engine: deterministic, order-free, and fails where it is told to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ptharness.engines.base import EngineSettings, GenerateRequest, ScoreRequest
from ptharness.engines.fake import FakeEngine
from ptharness.errors import CheckpointError, EngineError
from ptharness.lineage import Checkpoint
from ptharness.protocol import Sampling

WARM = Sampling(temperature=1.0, max_tokens=20)


def engine_on(directory: Path, content: object = None, **options: object) -> FakeEngine:
    directory.mkdir(exist_ok=True)
    (directory / "fake.json").write_text(json.dumps(content or {}))
    engine = FakeEngine(EngineSettings("fake", options))
    engine.load(Checkpoint(directory.name, directory, str(directory)))
    return engine


def requests(count: int, *, samples: int = 4, seed: int = 0) -> list[GenerateRequest]:
    return [GenerateRequest(i, (1, i), samples, seed + i, WARM, (0,)) for i in range(count)]


def test_a_request_is_answered_the_same_in_any_order(tmp_path: Path) -> None:
    engine = engine_on(tmp_path)
    forwards = {result.index: result for result in engine.generate(requests(5))}
    backwards = {result.index: result for result in engine.generate(reversed(requests(5)))}
    assert forwards == backwards
    assert len({c.text for result in forwards.values() for c in result.completions}) > 10


def test_other_weights_or_seeds_answer_otherwise(tmp_path: Path) -> None:
    first = list(engine_on(tmp_path / "a", {"success": 0.0}).generate(requests(3)))
    other = list(engine_on(tmp_path / "b", {"success": 0.1}).generate(requests(3)))
    assert first != other
    assert first != list(engine_on(tmp_path / "a").generate(requests(3, seed=50)))


def test_success_is_planted(tmp_path: Path) -> None:
    engine = engine_on(tmp_path, answer="42", success=0.7)
    texts = [c.text for r in engine.generate(requests(50, samples=20)) for c in r.completions]
    assert 0.6 < texts.count("42") / len(texts) < 0.8


def test_completions_keep_to_their_length(tmp_path: Path) -> None:
    short = Sampling(temperature=1.0, max_tokens=3)
    request = GenerateRequest(0, (1,), 50, 0, short, (0,))
    for completion in next(engine_on(tmp_path).generate([request])).completions:
        assert len(completion.token_ids) == len(completion.token_logprobs_nats) <= 3
        assert (completion.finish_reason == "stop") == (completion.token_ids[-1] == 0)


def test_scores_have_one_value_per_token(tmp_path: Path) -> None:
    (scored,) = engine_on(tmp_path).score([ScoreRequest(7, (1, 2), (3, 4, 5))])
    assert scored.index == 7
    assert len(scored.token_logprobs_nats) == 3


def test_distributions_agree_with_its_log_probabilities(tmp_path: Path) -> None:
    engine = engine_on(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 50}))
    plain, whole = engine.score(
        [ScoreRequest(i, (1, 2), (3, 4, 5), distributions=bool(i)) for i in range(2)]
    )
    assert plain.distributions_nats is None
    assert plain.token_logprobs_nats == whole.token_logprobs_nats
    assert whole.distributions_nats is not None
    assert whole.distributions_nats.shape == (3, 50)
    assert np.exp(whole.distributions_nats.astype(float)).sum(1) == pytest.approx(1.0)
    assert whole.distributions_nats[range(3), (3, 4, 5)] == pytest.approx(plain.token_logprobs_nats)


def test_failures_are_planted(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="planted"):
        engine_on(tmp_path / "bad", fail_on="bad")
    engine = engine_on(tmp_path, raise_after=2)
    results = engine.generate(requests(5))
    assert [next(results).index, next(results).index] == [0, 1]
    with pytest.raises(EngineError, match="planted"):
        next(results)


@pytest.mark.parametrize("options", [{"sucess": 1.0}, {"delay_s": "long"}])
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(EngineError, match=next(iter(options))):
        FakeEngine.check_options(options)
