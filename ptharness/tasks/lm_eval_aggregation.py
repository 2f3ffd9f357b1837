"""A task's metrics over all its documents, with lm-eval's own aggregation and errors.

At one sample, value and standard error are lm-eval's. At n samples the value is the mean over
samples of the aggregate; the standard error is over documents: of each document's mean where
the metric is a mean, else by bootstrap.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ptharness.errors import TaskError
from ptharness.tasks.base import Aggregate, Score
from ptharness.tasks.lm_eval_build import one_line, quiet
from ptharness.tasks.lm_eval_scoring import unpack

BOOTSTRAP_ITERATIONS = 100_000
"""`bootstrap_iters` of `lm_eval.simple_evaluate`."""
_MOST_DRAWN = 50_000_000
"""Items drawn in one bootstrap: beyond 500 documents there are fewer iterations (lm-eval would
take hours)."""
_FEW_ITERATIONS = 100
"""What lm-eval takes for metrics that are slow to compute."""
_SLOW_METRICS = ("bleu", "chrf", "chrf++", "ter")

Pair = tuple[str, str]
Items = Sequence[Any]
Statistic = Callable[[Items], float]
Columns = dict[int | None, dict[int, Any]]
"""Values by sample (None for all samples together), then by document."""


def aggregate(
    name: str, task: Any, scores: Sequence[Score], metrics: Sequence[Pair] = ()
) -> list[Aggregate]:
    """One `Aggregate` per metric and filter that was scored, of `metrics` if nothing was.

    A sample whose scoring failed counts 0 in a metric that is a mean and better if higher,
    and is left out of the others. Raises `TaskError` where a metric cannot be aggregated.
    """
    collected: dict[Pair, Columns] = {}
    for score in sorted(scores, key=lambda score: score.document):
        values = {**score.values, **{pair: unpack(text) for pair, text in score.raw.items()}}
        for pair, value in values.items():
            collected.setdefault(pair, {}).setdefault(score.sample, {})[score.document] = value
    failed = [score for score in scores if score.error]
    for pair in dict.fromkeys([*collected, *(() if collected else metrics)]):
        if _counts_failures(task, pair[0]):
            _count_failures(collected.setdefault(pair, {}), failed)
    return [_aggregate_one(name, task, pair, columns) for pair, columns in collected.items()]


def _counts_failures(task: Any, metric: str) -> bool:
    from lm_eval.api.metrics import mean

    better_if_higher = task.higher_is_better().get(metric, True) is not False
    return task.aggregation().get(metric, mean) is mean and better_if_higher


def _count_failures(columns: Columns, failed: Sequence[Score]) -> None:
    """Give failed samples a 0; a failed document of a vote over all samples too."""
    for score in failed:
        sample = None if None in columns else score.sample
        columns.setdefault(sample, {}).setdefault(score.document, 0.0)


def _aggregate_one(name: str, task: Any, pair: Pair, columns: Columns) -> Aggregate:
    from lm_eval.api.metrics import mean

    metric, filter_name = pair
    statistic = task.aggregation().get(metric, mean)
    samples = [list(column.values()) for column in columns.values()]
    try:
        with quiet():
            value = math.fsum(float(statistic(items)) for items in samples) / len(samples)
            error = _standard_error(metric, statistic, columns)
    except Exception as problem:
        raise TaskError(
            f"task {name!r}: metric {metric!r} cannot be aggregated: {one_line(problem)}"
        ) from problem
    return Aggregate(metric, filter_name, value, error, len(samples))


def _standard_error(metric: str, statistic: Statistic, columns: Columns) -> float | None:
    from lm_eval.api.metrics import mean, mean_stderr, stderr_for_metric

    documents = sorted({document for column in columns.values() for document in column})
    if len(documents) < 2 or stderr_for_metric(statistic, 1) is None:
        return None
    if len(columns) == 1:
        (column,) = columns.values()
        error = _as_lm_eval(metric, statistic, list(column.values()))
    elif statistic is mean:
        error = mean_stderr(_document_means(documents, columns))
    else:
        error = _bootstrap_documents(statistic, documents, columns)
    return error if math.isfinite(error) else None


def _as_lm_eval(metric: str, statistic: Statistic, items: list[Any]) -> float:
    from lm_eval.api.metrics import acc_all, mean, sample_stddev, stderr_for_metric

    if statistic in (mean, acc_all):
        return float(stderr_for_metric(statistic, 1)(items))
    iterations = BOOTSTRAP_ITERATIONS
    if metric in _SLOW_METRICS:
        iterations = _FEW_ITERATIONS
    elif iterations * len(items) > _MOST_DRAWN:
        iterations = max(_MOST_DRAWN // len(items) // 1000, 1) * 1000
    return float(sample_stddev(bootstrap(quick(statistic), items, iterations)))


def bootstrap(statistic: Statistic, items: Items, iterations: int) -> list[float]:
    """The draws of lm-eval's `bootstrap_stderr`, without its process pool and printing."""
    chunk = min(1000, iterations)
    draws = []
    for seed in range(iterations // chunk):
        generator = random.Random(seed)
        draws += [statistic(generator.choices(items, k=len(items))) for _ in range(chunk)]
    return draws


def quick(statistic: Statistic) -> Statistic:
    """The same statistic from counts of equal items, where scikit-learn would take minutes.

    F1 (of class 1) and the Matthews correlation of (gold, predicted) pairs of 0 and 1; any
    other statistic, and any other items, as they are.
    """
    from lm_eval.api.metrics import f1_score, matthews_corrcoef

    if statistic not in (f1_score, matthews_corrcoef):
        return statistic

    def counted(items: Items) -> float:
        try:
            counts = Counter(tuple(item) for item in items)
        except TypeError:
            return statistic(items)
        if not counts.keys() <= {(0, 0), (0, 1), (1, 0), (1, 1)}:
            return statistic(items)
        hits, misses, alarms = counts[1, 1], counts[1, 0], counts[0, 1]
        if statistic is f1_score:
            return 2 * hits / ((2 * hits + misses + alarms) or 1)
        rejections = counts[0, 0]
        product = (hits + alarms) * (hits + misses) * (rejections + alarms) * (rejections + misses)
        return (hits * rejections - alarms * misses) / (math.sqrt(product) or 1.0)

    return counted


def _document_means(documents: Sequence[int], columns: Columns) -> list[float]:
    means = []
    for document in documents:
        values = [column[document] for column in columns.values() if document in column]
        means.append(math.fsum(values) / len(values))
    return means


def _bootstrap_documents(
    statistic: Statistic,
    documents: Sequence[int],
    columns: Columns,
) -> float:
    from lm_eval.api.metrics import sample_stddev

    def over_samples(drawn: Items) -> float:
        values = [[column[d] for d in drawn if d in column] for column in columns.values()]
        scored = [items for items in values if items]
        return math.fsum(float(statistic(items)) for items in scored) / len(scored)

    return float(sample_stddev(bootstrap(over_samples, documents, _FEW_ITERATIONS)))
