"""Lineages of few, equal or missing items: no number that is not one, no interval without width."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ptharness.analysis import consolidation
from ptharness.analysis.comparability import Asked
from ptharness.analysis.counts import counts_of
from ptharness.analysis.decomposition import decompose
from ptharness.analysis.inputs import Inputs
from ptharness.analysis.resampling import Resampling
from ptharness.analysis.tables import analyse
from ptharness.analysis_settings import Settings
from ptharness.schema import CHECKPOINTS, ITEMS
from tests.analysis.lineages import ASKED, checkpoint, inputs, item_rows

SHARES = ("new", "lost", "kept", "neither", "same_model_new", "novelty", "pass_at_k")
CHECKPOINTS_ROWS = [
    checkpoint("base", fingerprint="a"),
    checkpoint("sft", "base", role=["support_expansion"], fingerprint="b"),
    checkpoint("dpo", "sft", role=["policy_reshaping", "consolidation"], fingerprint="c"),
    checkpoint("student", "base", teacher="dpo", role=["consolidation"], fingerprint="d"),
    checkpoint("merge", "sft", "dpo", fingerprint="e"),
    checkpoint("again", "base", fingerprint="b", replicate=1, role=["support_expansion"]),
]


def random_inputs(seed: int) -> Inputs:
    """One to four tasks of 1 to 60 items in one to many clusters, all kinds of counts."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    asked = {}
    for task in [f"t{place}" for place in range(random.integers(1, 5))]:
        items = int(random.choice([1, 2, 3, 5, 20, 60]))
        clusters = random.integers(0, random.choice([1, 2, items]), items)
        rate = random.choice([0.0, 1.0, 0.3, 0.5])
        equal, tokens = random.random() < 0.3, int(random.random() > 0.1)
        for row in CHECKPOINTS_ROWS:
            n = int(random.choice([1, 2, 5, 8, 33])) if tokens else 1
            if random.random() < 0.1:
                continue
            ns = np.where(random.random(items) < 0.1, random.integers(0, n + 1), n)
            p = rate * (random.random(items) < random.choice([0.1, 1.0]))
            cs = np.round(ns * rate).astype(int) if equal else random.binomial(ns, p)
            for place in range(items):
                (item,) = item_rows(row["checkpoint"], task, int(ns[place]), [cs[place]])
                item |= {"item": f"{place}", "cluster": f"{clusters[place]}"}
                rows.append(item | {"completion_tokens": 10 * n * tokens})
            prompts = str(random.choice(["prompts", "others"], p=[0.9, 0.1]))
            temperature = float(random.choice([1.0, 0.7], p=[0.95, 0.05]))
            asked[row["checkpoint"], task] = replace(
                ASKED, prompts=prompts, protocol={"temperature": temperature}
            )
    return Inputs(
        pa.Table.from_pylist(CHECKPOINTS_ROWS, schema=CHECKPOINTS),
        counts_of(pa.Table.from_pylist(rows, schema=ITEMS)),
        asked,
        {task: ["pooled", "t0"] for task in ("t0", "t1")},
    )


def wrong(row: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one row of an analysis table."""
    estimate, low, high, p = (row[name] for name in ("estimate", "ci_low", "ci_high", "p"))
    numbers = [row[name] for name in ("estimate", "stderr", "ci_low", "ci_high", "p", "level")]
    if not all(number is None or math.isfinite(number) for number in numbers):
        yield "not finite"
    if row.get("q") is not None and (p is None or row["q"] < p - 1e-12):
        yield "q below p"
    if estimate is None:
        if not row["reason"] or low is not None or p is not None:
            yield "undefined without a reason, or with an interval"
        return
    if low is None or high is None:
        return
    if not low - 1e-12 <= estimate <= high + 1e-12:
        yield "estimate outside of its interval"
    if high <= low and row["quantity"] in (*SHARES[:-1], "retention", "rsh_up", "exp"):
        yield "interval without width"
    if row["quantity"] in SHARES and (low < 0 or high > 1):
        yield "interval of a share beyond 0 and 1"
    if row["quantity"] in ("exp", "att", "delta", "rsh") and p < 0.04 and low <= 0 <= high:
        yield "significant, and the interval contains 0"
    if {"rsh_up": estimate < 0, "rsh_down": estimate > 0}.get(row["quantity"], False):
        yield "up below 0, or down above"


def test_no_lineage_gives_a_row_that_contradicts_itself() -> None:
    for seed in range(12):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            k = (1, 4, 16)[seed % 3]
            tables = analyse(random_inputs(seed), Settings(k=k, replicates=60))
        for name in ("edges", "sensitivity", "turnover", "retention", "measures"):
            for row in tables[name].to_pylist():
                assert not list(wrong(row)), (seed, name, row)


def test_what_differs_by_rounding_alone_is_equal() -> None:
    found = decompose(10, [1] * 30, 10, [3] * 30, 4)
    assert found.delta.ci_method == "rule_of_three"
    assert found.delta.ci_low == pytest.approx(0.2 + math.log(0.05) / 30)
    assert found.delta.p == pytest.approx(math.exp(-0.2 * 30))


def test_the_split_of_reshaping_keeps_to_its_signs_at_any_n() -> None:
    c = np.arange(1, 9) * 10**5
    found = decompose(10**6, c, 10**6, c + 5000, 4)
    up, down = found.rsh_up.estimate, found.rsh_down.estimate
    assert up is not None
    assert down is not None
    assert up >= 0.003
    assert down <= 0
    assert up + down == pytest.approx(found.rsh.estimate)


def test_all_kept_on_every_item_is_not_known_exactly() -> None:
    found = consolidation.retention((8, [0] * 20), (8, [8] * 20), (8, [8] * 20))
    assert found.estimate == 1
    assert found.ci_low == pytest.approx(1 + math.log(0.05) / 20)


def test_replicates_without_any_of_few_clusters_are_drawn_again() -> None:
    draws = Resampling.of(np.arange(50), 200)
    part = draws.within(np.arange(50) < 2)
    assert part.weights.any(axis=1).all()
    assert np.isfinite(part.means(np.ones((2, 1)))).all()


DRAWN = replace(ASKED, protocol={"seed": 0, "sampling": {"temperature": 1.0}})


def two_names(second: dict[str, Any], *, asked: Asked = DRAWN, other: Asked = DRAWN) -> Inputs:
    """The same weights as base and sft, the latter with some columns of its own."""
    same = {"fingerprint": "a", "architecture_fingerprint": "b", "tokenizer_fingerprint": "c"}
    rows = [checkpoint("base", **same), checkpoint("sft", "base", **{**same, **second})]
    p = {(name, "t"): np.linspace(0, 1, 20) for name in ("base", "sft")}
    return inputs(rows, p, asked={("base", "t"): asked, ("sft", "t"): other})


def relations(one: Inputs) -> list[str]:
    return [edge.relation for edge in one.edges]


def test_one_run_under_two_names_is_not_compared_with_itself() -> None:
    one = two_names({})
    assert relations(one) == ["edge", "replicate"]
    comparable, reason = one.comparable("base", "sft", "t")
    assert comparable == "no"
    assert "the samples of the same weights are the same; another `replicate`" in str(reason)
    again = two_names({"replicate": 1})
    assert relations(again) == ["edge", "replicate"]
    assert again.comparable("base", "sft", "t") == ("same", None)


OTHERS = [{"architecture_fingerprint": "longer"}, {"tokenizer_fingerprint": "other"}]


@pytest.mark.parametrize("other", OTHERS)
def test_the_same_weights_in_another_model_are_no_second_run(other: dict[str, Any]) -> None:
    assert relations(two_names(other)) == ["edge"]
    # Nothing is drawn: a choice, and greedy completions.
    choice = replace(ASKED, protocol={"kind": "loglikelihood", "sampling": None})
    greedy = replace(ASKED, protocol={"seed": 0, "sampling": {"temperature": 0.0}})
    for asked in (choice, greedy):
        one = two_names(other, asked=asked, other=asked)
        assert one.comparable("base", "sft", "t") == ("same", None)
    # Other prompts, as other tokens make them, have seeds of their own.
    prompts = replace(DRAWN, prompts="other")
    assert two_names(other, other=prompts).comparable("base", "sft", "t")[0] == "native"
    assert two_names({**other, "replicate": 1}).comparable("base", "sft", "t") == ("same", None)


@pytest.mark.parametrize("other", [*OTHERS, {}])
def test_samples_of_the_same_seeds_are_not_independent(other: dict[str, Any]) -> None:
    asked = DRAWN if other else replace(DRAWN, stop_token_ids=(2, 5))
    comparable, reason = two_names(other, other=asked).comparable("base", "sft", "t")
    assert comparable == "no"
    assert "drew from the same seeds" in str(reason)
    assert "are the same" not in str(reason)


def test_tables_of_before_know_weights_alone() -> None:
    one = two_names({"replicate": 1})
    before = replace(one, checkpoints=one.checkpoints.drop_columns(["architecture_fingerprint"]))
    assert relations(before) == ["edge", "replicate"]
    assert before.comparable("base", "sft", "t") == ("same", None)
