"""Aggregates over several samples, and the quick statistics against scikit-learn's."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from ptharness.errors import TaskError
from ptharness.tasks.base import Score
from ptharness.tasks.lm_eval_aggregation import aggregate, bootstrap, quick
from ptharness.tasks.lm_eval_scoring import pack, unpack

ACC, PERPLEXITY = ("acc", "none"), ("perplexity", "none")


class OfMetrics:
    """A task that aggregates as lm-eval does by default."""

    def aggregation(self) -> dict[str, Any]:
        from lm_eval.api.metrics import f1_score, mean, perplexity

        return {"acc": mean, "perplexity": perplexity, "f1": f1_score, "own": max}

    def higher_is_better(self) -> dict[str, bool]:
        return {"acc": True, "perplexity": False}


def of_values(pair: tuple[str, str], rows: list[list[float]]) -> list[Score]:
    return [
        Score(document, sample, {pair: value})
        for document, row in enumerate(rows)
        for sample, value in enumerate(row)
    ]


def test_a_mean_over_samples_has_the_error_of_document_means() -> None:
    rows = [[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    (result,) = aggregate("t", OfMetrics(), of_values(ACC, rows))
    means = [0.75, 0.25, 1.0]
    center = sum(means) / 3
    deviation = math.sqrt(sum((m - center) ** 2 for m in means) / 2)
    assert result.value == pytest.approx(8 / 12)
    assert result.stderr == pytest.approx(deviation / math.sqrt(3))
    assert result.samples == 4


def test_other_aggregates_are_averaged_over_samples_and_bootstrapped_over_documents() -> None:
    rows = [[-1.0, -2.0], [-3.0, -1.0], [-2.0, -2.0], [-0.5, -4.0]]
    (result,) = aggregate("t", OfMetrics(), of_values(PERPLEXITY, rows))
    means = [sum(row[j] for row in rows) / 4 for j in range(2)]
    assert result.value == pytest.approx(sum(math.exp(-m) for m in means) / 2)
    assert result.stderr is not None
    assert 0.5 < result.stderr < 4


def test_an_undefined_error_is_none() -> None:
    (single,) = aggregate("t", OfMetrics(), of_values(ACC, [[1.0, 0.0]]))
    assert (single.value, single.stderr) == (0.5, None)
    (own,) = aggregate("t", OfMetrics(), of_values(("own", "none"), [[1.0], [3.0]]))
    assert (own.value, own.stderr) == (3.0, None)
    assert aggregate("t", OfMetrics(), []) == []


def test_failed_samples_count_as_wrong_in_a_mean_and_not_in_other_metrics() -> None:
    scores = of_values(ACC, [[1.0, 1.0], [0.0, 0.0]])
    scores[1] = Score(0, 1, {}, error="time limit")
    (result,) = aggregate("t", OfMetrics(), scores)
    assert result.value == pytest.approx((0.5 + 0.0) / 2)
    assert result.stderr == pytest.approx(0.25)
    scores = of_values(PERPLEXITY, [[-1.0, -1.0], [-3.0, -3.0]])
    scores[1] = Score(0, 1, {}, error="time limit")
    (result,) = aggregate("t", OfMetrics(), scores)
    assert result.value == pytest.approx((math.exp(2) + math.exp(3)) / 2)


def test_a_vote_that_failed_counts_as_wrong_once() -> None:
    scores = [Score(0, None, {ACC: 1.0}), *(Score(1, j, {}, error="time limit") for j in range(4))]
    (result,) = aggregate("t", OfMetrics(), scores)
    assert (result.value, result.samples) == (0.5, 1)


def test_where_everything_failed_the_metrics_are_0() -> None:
    scores = [Score(i, 0, {}, error="time limit") for i in range(3)]
    (result,) = aggregate("t", OfMetrics(), scores, [ACC, PERPLEXITY])
    assert (result.metric, result.value, result.stderr) == ("acc", 0.0, 0.0)


def test_an_aggregation_that_fails_is_named() -> None:
    scores = [
        Score(i, 0, {}, raw={("own", "none"): pack(value)}) for i, value in enumerate([1, "a"])
    ]
    with pytest.raises(TaskError, match="task 't': metric 'own' cannot be aggregated: TypeError"):
        aggregate("t", OfMetrics(), scores)


def test_packed_values_come_back_as_they_were() -> None:
    import numpy as np

    value = (
        "gold",
        [1, 2.5, None],
        {"a": (True, "b"), 3: "c"},
        np.array([[0.25, 0.75]]),
        np.int64(4),
    )
    back = unpack(pack(value))
    assert back[:3] == value[:3]
    assert isinstance(back[3], np.ndarray)
    assert (back[3] == value[3]).all()
    assert back[4] == 4
    with pytest.raises(TypeError):
        pack({1, 2})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["f1_score", "matthews_corrcoef"])
def test_quick_statistics_equal_scikit_learns(name: str) -> None:
    from lm_eval.api import metrics

    slow = getattr(metrics, name)
    generator = random.Random(3)
    for size in (1, 2, 5, 40):
        for _ in range(10):
            items = [(generator.randint(0, 1), generator.randint(0, 1)) for _ in range(size)]
            assert quick(slow)(items) == pytest.approx(float(slow(items)), abs=1e-12), items
    assert quick(metrics.median) is metrics.median


def test_bootstrap_draws_equal_lm_evals(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.metrics import bootstrap_stderr, median, sample_stddev

    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    items = [float(i * i % 17) for i in range(30)]
    assert sample_stddev(bootstrap(median, items, 3000)) == bootstrap_stderr(median, items, 3000)
