"""The bundled lineage: each checkpoint after a swap equals its own cold start, and transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ptharness_zoo
import pytest

from ptharness.engines.base import EngineSettings, ScoreRequest
from ptharness.engines.vllm import VllmEngine
from tests.engines.asking import (
    GREEDY,
    PROMPTS,
    WARM,
    ask,
    ask_scores,
    assert_equals_transformers,
    at,
)

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")

CHECKPOINTS = Path(ptharness_zoo.__file__).parent / "checkpoints"
SHARED = ("base", "sft", "nudge", "narrow", "base")
"""`nudge` is nearly `sft`: a swap between them that does nothing must be noticed all the same."""
SETTINGS = EngineSettings("vllm", {"dtype": "float32"}, needed_tokens=128)


@pytest.fixture
def engine() -> Iterator[VllmEngine]:
    engine = VllmEngine(SETTINGS)
    yield engine
    engine.close()


def answers(engine: VllmEngine) -> list[object]:
    """Greedy and drawn completions with their log-probabilities, and scores."""
    scores = [ScoreRequest(i, PROMPTS[i], (9, 8, 7)) for i in range(len(PROMPTS))]
    return [
        ask(engine, GREEDY, stops=(4,)),
        ask(engine, WARM, samples=8, stops=(4,)),
        ask_scores(engine, scores),
    ]


def test_one_start_serves_the_lineage(engine: VllmEngine) -> None:
    swapped = {}
    for position, name in enumerate(SHARED):
        report = engine.load(at(CHECKPOINTS / name))
        assert (report.how, report.verified) == ("swap" if position else "cold", True)
        assert_equals_transformers(engine, CHECKPOINTS / name, stops=(4,))
        swapped[name] = answers(engine)
    report = engine.load(at(CHECKPOINTS / "student_skd"))
    assert (report.how, report.verified) == ("cold", True)
    assert "another architecture" in report.reason
    assert_equals_transformers(engine, CHECKPOINTS / "student_skd", stops=(4,))
    report = engine.load(at(CHECKPOINTS / "student"))
    assert (report.how, report.verified) == ("swap", True)
    assert_equals_transformers(engine, CHECKPOINTS / "student", stops=(4,))
    for name, expected in swapped.items():
        engine.close()
        assert engine.load(at(CHECKPOINTS / name)).how == "cold"
        assert answers(engine) == expected, f"{name}: a swap differs from a cold start"
