"""The tables beside edges: what is kept, gained, certified, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ptharness.analysis import certify, pass_at_k, retention
from ptharness.analysis.inputs import Inputs
from ptharness.analysis.tables import analyse
from ptharness.analysis_settings import Settings
from ptharness.quantities import QUANTITIES
from ptharness.schema import ANALYSIS
from tests.analysis.lineages import ASKED, checkpoint, inputs
from tests.analysis.planted import probabilities

QUICK = Settings(k=8, replicates=200)
ITEMS = 200
KEPT = 0.5


def path(n: int = 64, **options: Any) -> Inputs:
    """base -> sft -> later, and a student of sft: sft solves 50 items anew, later keeps half."""
    random = np.random.default_rng(0)
    base = np.where(np.arange(ITEMS) < 50, 0.0, random.uniform(0.2, 0.5, ITEMS))
    sft = np.where(np.arange(ITEMS) < 50, 0.6, base)
    later = base + KEPT * (sft - base)
    names = {"base": base, "sft": sft, "later": later, "small": base * 0.5, "student": sft}
    rows = [
        checkpoint("base"),
        checkpoint("sft", "base", role=["support_expansion"]),
        checkpoint("later", "sft", role=["consolidation"]),
        checkpoint("small"),
        checkpoint("student", "small", role=["consolidation"], teacher="sft"),
    ]
    p = {(name, "add"): values for name, values in names.items()}
    p |= {(name, "rev"): np.full(40, 0.5) for name in names}
    return inputs(rows, p, n=n, **options)


@pytest.fixture(scope="module")
def drawn() -> Inputs:
    return path()


@pytest.fixture(scope="module")
def tables(drawn: Inputs) -> dict[str, pa.Table]:
    return analyse(drawn, QUICK)


def rows(table: pa.Table, **where: Any) -> list[dict[str, Any]]:
    return [r for r in table.to_pylist() if all(r[name] == value for name, value in where.items())]


def row(table: pa.Table, **where: Any) -> dict[str, Any]:
    (found,) = rows(table, **where)
    return found


def test_every_quantity_is_described_where_it_stands(tables: dict[str, pa.Table]) -> None:
    for name, table in tables.items():
        if "quantity" in table.column_names:
            used = set(table["quantity"].to_pylist())
            assert used <= set(QUANTITIES)
            assert all(name in QUANTITIES[quantity].tables for quantity in used)
    assert set(tables) == set(ANALYSIS)


def test_half_of_the_gain_is_kept(drawn: Inputs, tables: dict[str, pa.Table]) -> None:
    where = {"source": "base", "target": "sft", "checkpoint": "later"}
    found = row(tables["retention"], **where, task="add")
    assert found["ci_low"] <= KEPT <= found["ci_high"]
    assert found["estimate"] == pytest.approx(KEPT, abs=0.06)
    counts = drawn.counts["add"]
    by_hand = retention(*((counts.n[place], counts.c[place]) for place in range(3)))
    assert found["estimate"] == by_hand.estimate
    nothing = row(tables["retention"], **where, task="rev")
    assert nothing["estimate"] is None
    assert "may be 0" in nothing["reason"]


def test_consolidation_is_judged_by_what_is_kept_and_by_the_gap_closed() -> None:
    sharp = analyse(path(n=200), QUICK)
    verdict = row(sharp["verdicts"], relation="teacher", target="student", task="add")
    assert verdict["verdict"] == "supported"
    assert "the gap recovered from small" in verdict["reason"]
    gap = row(
        sharp["edges"], relation="teacher", target="student", task="add", quantity="recovered_gap"
    )
    assert gap["estimate"] == pytest.approx(1, abs=0.05)
    halved = row(sharp["verdicts"], relation="edge", target="later", task="add")
    assert "retention of what sft had gained since base 0.49" in halved["reason"]
    assert halved["verdict"] == "undetermined"
    lost = dict(path(n=200).counts)
    add = lost["add"]
    c = add.c.copy()
    c[add.row("later")] = c[add.row("base")]
    forgotten = replace(path(n=200), counts={"add": replace(add, c=c)})
    found = row(analyse(forgotten, QUICK)["verdicts"], relation="edge", target="later", task="add")
    assert found["verdict"] == "contradicted"


def test_any_two_checkpoints_have_their_turnover(tables: dict[str, pa.Table]) -> None:
    pairs = {(r["source"], r["target"]) for r in tables["turnover"].to_pylist()}
    assert len(pairs) == 10
    where = {"source": "base", "target": "sft", "task": "add"}
    shares = {r["quantity"]: r["estimate"] for r in rows(tables["turnover"], **where)}
    assert shares["new"] + shares["lost"] + shares["kept"] + shares["neither"] == pytest.approx(1)
    assert shares["new"] == pytest.approx(0.25, abs=0.03)
    assert shares["same_model_new"] < 0.03
    pooled = row(tables["turnover"], **(where | {"task": "pooled"}), quantity="new")
    assert pooled["tasks"] == 2


def test_certified_items_are_those_that_changed(drawn: Inputs, tables: dict[str, pa.Table]) -> None:
    where = {"source": "base", "target": "sft", "relation": "edge", "task": "add"}
    found = rows(tables["certified"], **where)
    names = {r["item"] for r in found}
    changed = set(drawn.counts["add"].items[:50])
    assert len(names & changed) > 40
    assert names <= changed
    assert {r["direction"] for r in found} == {"newly_reachable"}
    counts = drawn.counts["add"]
    by_hand = certify(counts.n[0], counts.c[0], counts.n[1], counts.c[1], 8)
    assert by_hand.newly_reachable.sum() == len(found)
    assert row(tables["edges"], **where, quantity="certified_new")["estimate"] == len(found)
    few = analyse(path(n=12), QUICK)
    assert few["certified"].num_rows == 0
    reason = row(few["edges"], **where, quantity="certified_new")["reason"]
    assert reason.startswith("undetermined: n too small, needs n >= ")


def test_curves_and_cost_of_each_checkpoint(drawn: Inputs, tables: dict[str, pa.Table]) -> None:
    counts = drawn.counts["add"]
    where = {"checkpoint": "sft", "task": "add"}
    curve = {r["k"]: r for r in rows(tables["measures"], **where, quantity="pass_at_k")}
    assert list(curve) == [1, 2, 4, 8, 16, 32, 64]
    expected = pass_at_k(counts.n[1], counts.c[1], 4).mean()
    assert curve[4]["estimate"] == pytest.approx(expected)
    assert 0 <= curve[64]["ci_low"] <= curve[64]["estimate"] <= curve[64]["ci_high"] <= 1
    cost = row(tables["measures"], **where, quantity="tokens_per_solve")
    assert cost["estimate"] == pytest.approx(10 * 64 * ITEMS / counts.c[1].sum())
    pooled = rows(tables["measures"], checkpoint="sft", scope="pooled", quantity="pass_at_k")
    assert [r["k"] for r in pooled] == list(curve)


def test_votes_and_answers_come_from_the_samples() -> None:
    """One item: answers a a a b c, of which a is right; k = 3."""
    p = {("base", "add"): np.array([0.5, 0.5])}
    answers = ["a", "a", "a", "b", None] * 2

    def samples(name: str, task: str, columns: Sequence[str]) -> pa.Table:
        assert (name, task) == ("base", "add")
        table = pa.table(
            {
                "item": ["add-0"] * 5 + ["add-1"] * 5 + ["add-0"],
                "sample": pa.array([*range(5), *range(5), None], pa.int32()),
                "answer": [*answers, "a"],
                "correct": [answer == "a" for answer in answers] + [None],
                "logprob_nats": [-1.0, -2.0, -3.0, -0.5, -9.0] * 2 + [None],
                "completion_tokens": pa.array([1] * 10 + [None], pa.int32()),
            }
        )
        return table.select(list(columns))

    some = replace(inputs([checkpoint("base")], p, n=5), samples=samples)
    measures = analyse(some, replace(QUICK, k=3))["measures"]
    where = {"task": "add", "scope": "task"}
    # Of the ten subsets of three, the vote is right in all but those with one a: 3/10 of them,
    # which are ties of a and b (half right), or a alone beside b and no answer.
    majority = row(measures, **where, quantity="majority_at_k")["estimate"]
    subsets = [0.5] * 3 + [1.0] * 7
    assert majority == pytest.approx(np.mean(subsets))
    # The likeliest is b; it is drawn in six of ten subsets.
    assert row(measures, **where, quantity="best_of_k")["estimate"] == pytest.approx(0.4)
    assert row(measures, **where, quantity="distinct_answers")["estimate"] == pytest.approx(3)

    def without_likelihoods(*asked: Any) -> pa.Table:
        table = samples(*asked)
        place = table.column_names.index("logprob_nats")
        return table.set_column(place, "logprob_nats", pa.nulls(len(table), pa.float64()))

    unknown = analyse(replace(some, samples=without_likelihoods), replace(QUICK, k=3))["measures"]
    best = row(unknown, **where, quantity="best_of_k")
    assert (best["estimate"], best["ci_low"]) == (None, None)
    assert best["reason"] == "needs the likelihood of each sample, and it is not known of 10"


def test_what_all_items_share_has_no_interval_of_its_unit() -> None:
    """Ten tokens each and all right: a rule of three in shares says nothing of tokens."""
    p = {("base", "add"): np.ones(30)}
    measures = analyse(inputs([checkpoint("base")], p), QUICK)["measures"]
    for quantity in ("tokens_per_solve", "completion_tokens"):
        found = row(measures, task="add", quantity=quantity, scope="task")
        assert (found["estimate"], found["ci_low"]) == (10, None)
        assert found["reason"] == "the same on all items, so its interval is not known"


def test_samples_of_another_state_are_not_mixed_with_the_counts() -> None:
    def samples(*_: object) -> pa.Table:
        return pa.table(
            {
                "item": ["add-0"],
                "sample": pa.array([0], pa.int32()),
                "answer": ["a"],
                "correct": [True],
                "logprob_nats": [-1.0],
                "completion_tokens": pa.array([1], pa.int32()),
            }
        )

    some = replace(inputs([checkpoint("base")], {("base", "add"): np.ones(3)}), samples=samples)
    found = row(analyse(some, QUICK)["measures"], quantity="majority_at_k")
    assert found["estimate"] is None
    assert found["reason"] == "the samples are not those that were counted"


def test_a_stage_without_a_declared_role_is_measured_and_not_judged() -> None:
    parent, child = probabilities("expand", np.random.default_rng(3), 100)
    some = inputs(
        [checkpoint("base"), checkpoint("sft", "base")],
        {("base", "add"): parent, ("sft", "add"): child},
    )
    found = row(analyse(some, QUICK)["verdicts"], task="add")
    assert (found["role_measured"], found["verdict"]) == ("support_expansion", "undetermined")
    assert "no role is declared" in found["reason"]


def test_refused_comparisons_stay_out_of_every_table() -> None:
    other = replace(ASKED, gold="other")
    refused = path(asked={("sft", "add"): other, ("sft", "rev"): other})
    tables = analyse(refused, QUICK)
    assert not rows(tables["retention"], source="base", target="sft")
    assert not rows(tables["turnover"], source="base", target="sft")
    assert not rows(tables["certified"], source="base", target="sft")
    assert not rows(tables["sensitivity"], source="base", target="sft")
    edge = row(tables["edges"], relation="edge", target="sft", task="add", quantity="delta")
    assert (edge["comparable"], edge["estimate"]) == ("no", None)
    assert "other gold answers" in edge["reason"]


def test_an_evaluation_of_nothing_gives_empty_tables() -> None:
    alone = inputs([checkpoint("base")], {("base", "add"): np.array([0.5])}, n=4)
    tables = analyse(alone, QUICK)
    assert tables["edges"].num_rows == tables["verdicts"].num_rows == 0
    nobody = Inputs(alone.checkpoints, {}, {})
    assert all(table.num_rows == 0 for table in analyse(nobody, QUICK).values())
