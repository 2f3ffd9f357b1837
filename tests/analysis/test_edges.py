"""The tables `edges` and `verdicts`: planted roles come back, nothing else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ptharness.analysis.counts import counts_of
from ptharness.analysis.inputs import Inputs
from ptharness.analysis.tables import analyse
from ptharness.analysis_settings import Settings
from ptharness.schema import ANALYSIS, ITEMS
from tests.analysis.lineages import ASKED, checkpoint, inputs, item_rows
from tests.analysis.planted import probabilities

QUICK = Settings(replicates=400)
EXPANSION, RESHAPING, CONSOLIDATION = "support_expansion", "policy_reshaping", "consolidation"


def stage(scenario: str, items: int = 150, **options: Any) -> Inputs:
    """parent -> child with a planted effect on the one task, 32 samples."""
    parent, child = probabilities(scenario, np.random.default_rng(3), items)
    role = options.pop("role", [EXPANSION])
    return inputs(
        [checkpoint("parent"), checkpoint("child", "parent", role=role)],
        {("parent", "add"): parent, ("child", "add"): child},
        **options,
    )


def verdict(tables: dict[str, pa.Table], **where: Any) -> dict[str, Any]:
    where = {"relation": "edge", "scope": "task", **where}
    (row,) = _rows(tables["verdicts"], **where)
    return row


def quantity(tables: dict[str, pa.Table], name: str, **where: Any) -> dict[str, Any]:
    where = {"relation": "edge", "scope": "task", "quantity": name, **where}
    (row,) = _rows(tables["edges"], **where)
    return row


def _rows(table: pa.Table, **where: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


@pytest.mark.parametrize(
    ("scenario", "role", "supports"),
    [("expand", EXPANSION, EXPANSION), ("reshape", RESHAPING, RESHAPING)],
)
def test_planted_roles_come_back(scenario: str, role: str, supports: str) -> None:
    for declared in (EXPANSION, RESHAPING):
        found = verdict(analyse(stage(scenario, role=[declared]), QUICK))
        assert found["role_measured"] == role
        assert found["verdict"] == ("supported" if declared == supports else "contradicted")
    both = verdict(analyse(stage(scenario, role=[EXPANSION, RESHAPING]), QUICK))
    assert both["verdict"] == "supported"


def test_attrition_is_a_flag_of_its_own() -> None:
    found = verdict(analyse(stage("attrit"), QUICK))
    assert found["attrition"]
    assert found["role_measured"] in ("undetermined", RESHAPING)
    mixed = verdict(analyse(stage("mixed", 400), QUICK))
    assert mixed["attrition"]
    assert EXPANSION in mixed["role_measured"] or mixed["role_measured"] == "mixed"


def test_two_runs_of_one_model_are_called_nothing_at_fifty_seeds() -> None:
    """Not more often than the false discovery rate of 5 % allows: 6 of 50 has p = .04."""
    parent, _ = probabilities("null", np.random.default_rng(1), 100)
    called, flagged = 0, 0
    for seed in range(50):
        drawn = inputs(
            [checkpoint("sft"), checkpoint("again", "sft", role=[EXPANSION])],
            {("sft", "add"): parent, ("again", "add"): parent},
            seed=seed,
        )
        found = verdict(analyse(drawn, replace(QUICK, replicates=200)))
        called += found["role_measured"] not in ("none", "undetermined")
        flagged += found["attrition"] or found["harmful_reshaping"]
    assert called < 6
    assert flagged < 6


def test_none_is_only_said_where_an_effect_would_have_been_found() -> None:
    few = verdict(analyse(stage("null", 60), QUICK))
    assert few["role_measured"] == "undetermined"
    assert "times as many items" in few["reason"]
    parent = np.full(400, 0.97)
    many = inputs(
        [checkpoint("a"), checkpoint("b", "a", role=[RESHAPING])],
        {("a", "add"): parent, ("b", "add"): parent},
        n=64,
    )
    found = verdict(analyse(many, QUICK))
    assert found["role_measured"] == "none"
    assert found["verdict"] == "contradicted"


def test_every_table_has_its_schema_and_the_cells_add_up() -> None:
    tables = analyse(stage("mixed"), QUICK)
    assert set(tables) == set(ANALYSIS)
    for name, table in tables.items():
        assert table.schema.equals(ANALYSIS[name])
    cells = [quantity(tables, name)["estimate"] for name in ("exp", "rsh", "att", "res")]
    assert sum(cells) == pytest.approx(quantity(tables, "delta")["estimate"], abs=1e-12)
    halves = [quantity(tables, name)["estimate"] for name in ("rsh_up", "rsh_down")]
    assert sum(halves) == pytest.approx(quantity(tables, "rsh")["estimate"], abs=1e-12)
    pooled = quantity(tables, "exp", scope="pooled")
    assert pooled["estimate"] == quantity(tables, "exp")["estimate"]
    assert pooled["tasks"] == 1
    assert quantity(tables, "exp")["checkpoint"] == "child"
    assert quantity(tables, "same_model_new")["estimate"] >= 0


def test_too_few_samples_are_said_and_only_the_change_is_left() -> None:
    tables = analyse(stage("expand", n=8), QUICK)
    assert quantity(tables, "delta")["estimate"] > 0
    cell = quantity(tables, "exp")
    assert cell["estimate"] is None
    assert cell["reason"] == "needs 17 samples of each item for k = 16, and there are 8"
    found = verdict(tables)
    assert (found["role_measured"], found["verdict"]) == ("undetermined", "undetermined")
    assert "needs 17 samples" in found["reason"]
    smaller = verdict(analyse(stage("expand", n=8), replace(QUICK, k=4)))
    assert smaller["role_measured"] == EXPANSION


def test_what_was_asked_differently_is_shown_or_refused() -> None:
    key = ("child", "add")
    native = replace(ASKED, prompts="other", tokenizer="other")
    tables = analyse(stage("expand", asked={key: native}), QUICK)
    assert quantity(tables, "exp")["comparable"] == "native"
    assert "tokenizers or chat templates" in verdict(tables)["reason"]
    other = replace(ASKED, protocol={"temperature": 0.7})
    refused = analyse(stage("expand", asked={key: other}), QUICK)
    row = quantity(refused, "delta")
    assert (row["comparable"], row["estimate"]) == ("no", None)
    assert "temperature (1.0 / 0.7)" in row["reason"]
    assert verdict(refused)["verdict"] == "undetermined"
    assert "temperature" in verdict(refused)["reason"]


def test_pooling_is_the_mean_of_tasks_and_tags_pool_their_own() -> None:
    random = np.random.default_rng(0)
    p = {}
    for task, scenario in (("a", "expand"), ("b", "null"), ("c", "reshape")):
        parent, child = probabilities(scenario, random, 100)
        p |= {("parent", task): parent, ("child", task): child}
    drawn = inputs(
        [checkpoint("parent"), checkpoint("child", "parent", role=[EXPANSION])],
        p,
        tags={"a": ["math", "all"], "b": ["math", "all"], "c": ["code", "all"]},
    )
    tables = analyse(drawn, QUICK)
    by_task = [quantity(tables, "exp", task=task)["estimate"] for task in "abc"]
    pooled = quantity(tables, "exp", scope="pooled")
    assert pooled["estimate"] == pytest.approx(np.mean(by_task))
    assert (pooled["tasks"], pooled["items"]) == (3, 300)
    tag = quantity(tables, "exp", scope="tag")
    assert tag["task"] == "math"
    assert tag["estimate"] == pytest.approx(np.mean(by_task[:2]))


def test_q_adjusts_over_all_edges_and_tasks() -> None:
    parent, child = probabilities("expand", np.random.default_rng(0), 100)
    p = {(name, "add"): parent for name in ("root", "null1", "null2")} | {("moved", "add"): child}
    rows = [
        checkpoint("root"),
        *(checkpoint(n, "root", role=[]) for n in ("null1", "null2", "moved")),
    ]
    tables = analyse(inputs(rows, p), QUICK)
    tested = [
        row
        for row in _rows(tables["edges"], relation="edge", scope="task")
        if row["quantity"] in ("exp", "rsh_up", "rsh_down", "att")
    ]
    assert len(tested) == 12
    ordered = sorted(tested, key=lambda row: row["p"])
    assert ordered[0]["q"] == pytest.approx(min(1, ordered[0]["p"] * 12 / _ties(ordered)))
    assert all(row["q"] >= row["p"] for row in tested)
    assert quantity(tables, "delta", target="moved")["q"] is None


def _ties(ordered: list[dict[str, Any]]) -> int:
    return sum(row["p"] == ordered[0]["p"] for row in ordered)


def test_paths_and_teachers_are_related_too() -> None:
    parent, child = probabilities("expand", np.random.default_rng(0), 100)
    rows = [
        checkpoint("base"),
        checkpoint("sft", "base", role=[EXPANSION]),
        checkpoint("grpo", "sft", role=[RESHAPING]),
        checkpoint("small"),
        checkpoint("student", "small", role=[CONSOLIDATION], teacher="grpo"),
    ]
    p = {("base", "add"): parent, ("small", "add"): parent}
    p |= {(name, "add"): child for name in ("sft", "grpo", "student")}
    tables = analyse(inputs(rows, p), QUICK)
    path = verdict(tables, relation="path", source="base", target="grpo")
    assert path["role_declared"] == [EXPANSION, RESHAPING]
    assert path["role_measured"] == EXPANSION
    teacher = verdict(tables, relation="teacher", source="grpo", target="student")
    assert teacher["role_declared"] == [CONSOLIDATION]


def test_choices_and_scores_have_a_change_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    rows = []
    for name, share in (("parent", 0.3), ("child", 0.6)):
        right = random.random(80) < share
        rows += item_rows(name, "pick", 1, right.astype(int), completion_tokens=None)
        rows += [
            row | {"mean_score": 3.0 * share}
            for row in item_rows(name, "chrf", 0, [0] * 20, completion_tokens=None)
        ]
    some = stage("null")
    counts = counts_of(pa.Table.from_pylist(rows, schema=ITEMS))
    asked = {(name, task): ASKED for name in ("parent", "child") for task in counts}
    tables = analyse(Inputs(some.checkpoints, counts, asked), QUICK)
    pick = quantity(tables, "delta", task="pick")
    assert pick["estimate"] == pytest.approx(0.3, abs=0.12)
    assert pick["ci_low"] > 0
    assert quantity(tables, "exp", task="pick")["estimate"] is None
    assert "multiple choice" in quantity(tables, "exp", task="pick")["reason"]
    chrf = quantity(tables, "delta", task="chrf")
    assert chrf["estimate"] == pytest.approx(0.9)
    assert "no yes/no" in verdict(tables, task="chrf")["reason"]
    pooled = quantity(tables, "delta", scope="pooled")
    assert pooled["estimate"] == pick["estimate"]


def test_items_without_samples_on_both_sides_are_left_out_and_said() -> None:
    some = stage("expand", 50)
    counts = some.counts["add"]
    n = counts.n.copy()
    n[0, :5] = 0
    less = Inputs(some.checkpoints, {"add": replace(counts, n=n)}, some.asked)
    tables = analyse(less, QUICK)
    row = quantity(tables, "exp")
    assert row["items"] == 45
    assert "5 items without samples on both sides left out" in row["reason"]
