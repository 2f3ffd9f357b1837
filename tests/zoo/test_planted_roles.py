"""What was trained in is what is measured, on the published reference tables of the zoo.

They are those of `ptharness demo --full`: real completions of real checkpoints, 64 items a task and
32 samples each, at the default settings. The analysis is made anew here.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ptharness import Results
from ptharness.analysis.tables import analyse
from ptharness.publish import default_settings
from ptharness.publish.analysis_tables import read_inputs

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "zoo"
EXPANSION, RESHAPING, CONSOLIDATION = "support_expansion", "policy_reshaping", "consolidation"


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    results = Results(REFERENCE)
    # Samples are not published there: what needs them is left out.
    inputs = replace(read_inputs(results), samples=None)
    made = analyse(inputs, default_settings(results))
    return {name: table.to_pandas() for name, table in made.items()}


@pytest.fixture(scope="module")
def verdicts(tables: dict[str, Any]) -> pd.DataFrame:
    found: pd.DataFrame = tables["verdicts"]
    return found.set_index(["relation", "source", "target", "task"])


@pytest.mark.parametrize(
    ("source", "target", "task", "role"),
    [
        ("base", "sft", "arith_rot", EXPANSION),
        ("sft", "hybrid", "arith_mir", EXPANSION),
        ("sft", "grpo", "arith_rev", RESHAPING),
        ("grpo", "process", "arith_sum", RESHAPING),
        ("sft", "rejection", "arith_rev", RESHAPING),
        ("sft", "rejection", "arith_sum", RESHAPING),
        ("sft", "hybrid", "arith_srt", RESHAPING),
        ("sft", "dpo", "arith_srt", RESHAPING),
        ("sft", "online_dpo", "arith_srt", RESHAPING),
    ],
)
def test_planted_roles_are_recovered(
    verdicts: pd.DataFrame, source: str, target: str, task: str, role: str
) -> None:
    row = verdicts.loc["edge", source, target, task]
    assert (row.role_measured, row.verdict) == (role, "supported"), row.reason


@pytest.mark.parametrize(
    ("target", "role"),
    [("sft", EXPANSION), ("grpo", RESHAPING), ("process", RESHAPING), ("hybrid", "mixed")],
)
def test_over_all_tasks_too(verdicts: pd.DataFrame, target: str, role: str) -> None:
    (row,) = verdicts.xs(("edge", target, "pooled"), level=[0, 2, 3]).itertuples()
    assert (row.role_measured, row.verdict) == (role, "supported")
    assert row.tasks == 9


def test_students_consolidate(verdicts: pd.DataFrame) -> None:
    for relation, source, target in (
        ("edge", "process", "student_skd"),
        ("teacher", "process", "student_skd"),
        ("edge", "student_skd", "student"),
        ("teacher", "process", "student"),
    ):
        row = verdicts.loc[relation, source, target, "pooled"]
        assert CONSOLIDATION in row.role_declared
        assert row.verdict == "supported"
        assert "retention of what" in row.reason or "the gap recovered from" in row.reason


def test_what_was_lost_by_neglect_is_flagged(verdicts: pd.DataFrame) -> None:
    assert verdicts.loc["edge", "base", "sft", "pooled"].attrition
    narrow = verdicts.xs(("edge", "sft", "narrow"), level=[0, 1, 2])
    lost = {task for task, row in narrow.iterrows() if row.attrition}
    assert {"arith_add", "arith_rev", "arith_srt", "arith_swp", "arith_dup"} <= lost
    assert "arith_rot" not in lost
    assert narrow.loc["pooled"].role_measured == "undetermined"
    assert "attrition outweighs" in narrow.loc["pooled"].reason


def test_where_nothing_was_done_nothing_is_found(verdicts: pd.DataFrame) -> None:
    again = verdicts.xs(("replicate", "sft", "sft-again"), level=[0, 1, 2])
    assert set(again.role_measured) <= {"none", "undetermined"}
    assert again.loc["pooled"].role_measured == "none"
    assert not again.attrition.any()
    assert not again.harmful_reshaping.any()
    nudge = verdicts.loc["edge", "sft", "nudge", "pooled"]
    assert (nudge.role_measured, nudge.verdict) == ("none", "contradicted")
    control = verdicts.xs("arith_mul", level=3)
    assert set(control.role_measured) <= {"none", "undetermined"}


def test_the_published_analysis_is_this_one(tables: dict[str, Any]) -> None:
    published = Results(REFERENCE).edges
    for frame in (published, tables["edges"]):
        frame[["source", "target", "relation", "task", "quantity"]] = frame[
            ["source", "target", "relation", "task", "quantity"]
        ].astype(str)
    key = ["source", "target", "relation", "task", "quantity"]
    joined = published.merge(tables["edges"], on=key, suffixes=("", "_now"), validate="1:1")
    assert len(joined) == len(published) == len(tables["edges"])
    difference = (joined.estimate - joined.estimate_now).abs()
    assert (difference.isna() == joined.estimate.isna()).all()
    assert difference.max() < 1e-6


def test_along_the_main_path_the_stages_add_up(tables: dict[str, Any]) -> None:
    edges = tables["edges"]
    delta = edges[(edges.quantity == "delta") & (edges.scope == "pooled")]
    delta = delta.set_index(["relation", "source", "target"]).estimate
    path = ["base", "sft", "grpo", "process", "student_skd", "student"]
    steps = sum(delta["edge", a, b] for a, b in pairwise(path))
    assert steps == pytest.approx(delta["path", "base", "student"], abs=1e-12)
