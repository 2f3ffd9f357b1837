"""The probability of the right choice, from log-likelihoods that are given."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from ptharness_tasks import TASKS

from ptharness.plugins import load_plugins
from ptharness.tasks.base import Document, TaskSettings
from ptharness.tasks.choice_probability import CHOICE_PROBABILITY, choice_probability


def task(gold: Any, choices: list[str], multiple_input: int = 0) -> Any:
    return SimpleNamespace(
        OUTPUT_TYPE="multiple_choice",
        config=SimpleNamespace(doc_to_choice="choices"),
        doc_to_choice=lambda _: choices,
        doc_to_target=lambda _: gold,
        doc_to_text=lambda _: gold,
        multiple_input=multiple_input,
    )


LOGS = [math.log(0.2), math.log(0.1), math.log(0.1)]


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        (0, 0.5),
        (1, 0.25),
        ("b", 0.25),
        ([0, 2], 0.75),
        (["a", "a"], 0.5),
        (-100, None),
        ("z", None),
    ],
)
def test_softmax_over_the_choices(gold: Any, expected: float | None) -> None:
    found = choice_probability(task(gold, ["a", "b", "c"]), {}, LOGS)
    assert found == (None if expected is None else pytest.approx(expected))


def test_mutual_information_asks_twice_and_the_first_half_counts() -> None:
    twice = [*LOGS, -9.0, -1.0, -1.0]
    assert choice_probability(task(0, ["a", "b", "c"]), {}, twice) == pytest.approx(0.5)


def test_likelihoods_of_long_texts_do_not_underflow() -> None:
    found = choice_probability(task(1, ["a", "b"]), {}, [-5000.0, -5000.0 + math.log(3)])
    assert found == pytest.approx(0.75)


def test_impossible_choices_have_no_probability() -> None:
    assert choice_probability(task(0, ["a", "b"]), {}, [-math.inf, -math.inf]) is None


def test_a_task_reports_it_beside_its_own_metrics() -> None:
    yaml = TASKS / "arith" / "arith_srt_choice.yaml"
    (found,) = load_plugins().registry().tasks.find(str(yaml), TASKS)
    loaded = found.load(TaskSettings())
    documents = [Document(i, [[(-float(place), False)] for place in range(4)]) for i in range(3)]
    scores = list(loaded.score(documents, lambda _: None))
    weights = [math.exp(-place) for place in range(4)]
    labels = [document["label"] for document in loaded.documents[:3]]  # type: ignore[attr-defined]
    for score, label in zip(scores, labels, strict=True):
        value = score.values[CHOICE_PROBABILITY, "none"]
        assert value == pytest.approx(weights[label] / sum(weights))
    metrics = {one.metric: one for one in loaded.aggregate(scores)}
    mean = sum(score.values[CHOICE_PROBABILITY, "none"] for score in scores) / 3
    assert metrics[CHOICE_PROBABILITY].value == pytest.approx(mean)
    assert list(metrics) == ["acc", "acc_norm", CHOICE_PROBABILITY]
