"""How does each checkpoint do by itself, at which price? The table `measures`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ptharness.analysis.answers import diversity
from ptharness.analysis.attempts import best_of_k, budgets, majority_at_k, pass_at_k
from ptharness.analysis.binomials import Floats
from ptharness.analysis.cost import tokens_per_solve
from ptharness.analysis.counts import TaskCounts
from ptharness.analysis.inputs import POOLED, Inputs, Row, estimate_columns
from ptharness.analysis.means import Means
from ptharness.analysis.resampling import Estimate, Resampling
from ptharness.analysis.samples import NO_ANSWER
from ptharness.analysis_settings import Settings

COLUMNS = ("item", "sample", "answer", "correct", "logprob_nats", "completion_tokens")
"""What is read of the samples."""


@dataclass(frozen=True)
class Measure:
    """One quantity of one checkpoint, at k attempts where it has any."""

    quantity: str
    k: int | None
    estimate: Estimate


def measure_rows(inputs: Inputs, settings: Settings) -> Iterator[Row]:
    """Rows of `schema.MEASURES`: per task, and over all tasks with attempts."""
    for checkpoint in inputs.rows:
        curves: dict[int, list[Means]] = {}
        spent: list[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]] = []
        tags = inputs.tags_of(checkpoint)
        for task, counts in inputs.counts.items():
            if not (counts.has_attempts and inputs.evaluated(task, checkpoint)):
                continue
            one = _Evaluated.of(counts, checkpoint)
            if not len(one.n):
                continue
            for k in budgets(int(one.n.min())):
                curves.setdefault(k, []).append(one.pass_means(k))
            clusters = [f"{task}/{code}" for code in one.draws.codes]
            spent.append((task, one.tokens, one.c, clusters))
            for measure in _of_task(inputs, checkpoint, task, one, settings):
                yield {**tags, "scope": "task", "task": task, "tasks": 1, **_columns(measure)}
        for measure in _pooled(curves, spent, settings.level):
            row = {"scope": POOLED, "task": POOLED, "tasks": len(spent)}
            yield {**tags, **row, **_columns(measure)}


@dataclass(frozen=True)
class _Evaluated:
    """One checkpoint x task: counts of shape (items,), items without samples left out."""

    items: tuple[str, ...]
    n: npt.NDArray[np.int64]
    c: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    draws: Resampling

    @classmethod
    def of(cls, counts: TaskCounts, checkpoint: str) -> _Evaluated:
        row = counts.row(checkpoint)
        some = counts.n[row] > 0
        draws = counts.draws(0, 0)
        return cls(
            tuple(counts.items[place] for place in np.flatnonzero(some)),
            counts.n[row, some],
            counts.c[row, some],
            counts.tokens[row, some],
            draws.within(some) if some.any() else draws,
        )

    def means(self, name: str, terms: Floats) -> Means:
        return Means.of([name], terms[:, None], self.draws, bound=1.0)

    def pass_means(self, k: int) -> Means:
        return self.means("pass_at_k", pass_at_k(self.n, self.c, k))


def _of_task(
    inputs: Inputs, checkpoint: str, task: str, one: _Evaluated, settings: Settings
) -> Iterator[Measure]:
    level = settings.level
    for k in budgets(int(one.n.min())):
        yield Measure("pass_at_k", k, _share(one.pass_means(k), level))
    yield Measure(
        "tokens_per_solve", None, tokens_per_solve(one.tokens, one.c, one.draws.codes, level=level)
    )
    tokens = Means.of(["tokens"], (one.tokens / one.n)[:, None], one.draws)
    yield Measure("completion_tokens", None, tokens.estimates(level)["tokens"])
    if inputs.samples is not None:
        samples = inputs.samples(checkpoint, task, COLUMNS)
        yield from _of_samples(samples, one, inputs.counts[task], settings)


def _of_samples(
    samples: pa.Table, one: _Evaluated, counts: TaskCounts, settings: Settings
) -> Iterator[Measure]:
    """Votes, choices by likelihood, and how varied the answers are."""
    rows = samples.filter(pc.and_(pc.is_valid(samples["sample"]), pc.is_valid(samples["correct"])))
    place = pc.index_in(rows["item"], pa.array(one.items, pa.string()))
    rows, place = rows.filter(pc.is_valid(place)), pc.drop_null(place)
    if not rows.num_rows:
        return
    item = place.to_numpy().astype(np.int64)
    if not np.array_equal(np.bincount(item, minlength=len(one.n)), one.n):
        # Of a vote over all samples an item counts one; and files may be of two states.
        nothing = Estimate(items=len(one.n), reason="the samples are not those that were counted")
        for quantity in ("majority_at_k", "best_of_k", "answer_entropy_nats", "distinct_answers"):
            yield Measure(quantity, None, nothing)
        return
    answer = rows["answer"].combine_chunks().dictionary_encode().indices
    codes = pc.fill_null(answer, NO_ANSWER).to_numpy().astype(np.int64)
    correct = rows["correct"].cast(pa.float64()).to_numpy()
    tokens = pc.fill_null(rows["completion_tokens"], 0).to_numpy()
    k, level = settings.k, settings.level
    if int(one.n.min()) >= k:
        voted = majority_at_k(codes, correct, k, item, seed=settings.seed)
        yield Measure("majority_at_k", k, _share(one.means("m", voted), level))
        yield Measure(
            "best_of_k", k, _best(rows["logprob_nats"], tokens, correct, item, one, settings)
        )
    asked = counts.n[counts.n > 0]
    found = diversity(codes, int(asked.min()), item, one.draws.codes, level=level)
    yield Measure("answer_entropy_nats", found.samples, found.entropy)
    yield Measure("distinct_answers", found.samples, found.distinct)


def _best(
    logprobs: pa.ChunkedArray,
    tokens: npt.NDArray[np.int64],
    correct: Floats,
    item: npt.NDArray[np.int64],
    one: _Evaluated,
    settings: Settings,
) -> Estimate:
    """best-of-k by likelihood per token; undefined where an engine gave no likelihoods."""
    level = settings.level
    likelihood = pc.fill_null(logprobs, np.nan).to_numpy() / np.maximum(tokens, 1)
    if unknown := int((~np.isfinite(likelihood)).sum()):
        reason = f"needs the likelihood of each sample, and it is not known of {unknown}"
        return Estimate(level=level, items=len(one.n), reason=reason)
    best = best_of_k(likelihood, correct, settings.k, item)
    return _share(one.means("b", best), level)


def _pooled(
    curves: dict[int, list[Means]],
    spent: list[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]],
    level: float,
) -> Iterator[Measure]:
    for k, means in sorted(curves.items()):
        if len(means) == len(spent):
            yield Measure("pass_at_k", k, _share(Means.pooled(means), level))
    if spent:
        tokens = np.concatenate([part[1] for part in spent])
        correct = np.concatenate([part[2] for part in spent])
        clusters = [code for part in spent for code in part[3]]
        yield Measure(
            "tokens_per_solve", None, tokens_per_solve(tokens, correct, clusters, level=level)
        )


def _share(means: Means, level: float) -> Estimate:
    """The mean of a share, whose interval ends at 0 and 1."""
    (found,) = means.estimates(level).values()
    return found.within(0.0, 1.0)


def _columns(measure: Measure) -> Row:
    return {**estimate_columns(measure.estimate), "k": measure.k, "quantity": measure.quantity}
