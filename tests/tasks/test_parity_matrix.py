"""Every kind of task, through a whole run into metrics.parquet, against lm-eval's own evaluator.

The reference is `lm_eval.simple_evaluate` with its `hf` model on the same checkpoint.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import ptharness
from ptharness.prompts import Template
from ptharness.results import Results
from ptharness.tasks.lm_eval import folder_name
from tests.tasks import few_draws, matrix
from tests.tasks.matrix import FOLDER, Feature
from tests.tasks.reference import CHECKPOINT, MADE_HERE, evaluate, reported, shared_model

FEATURES = matrix.features()
Table = dict[tuple[str, str], tuple[float, Any]]


_ENGINES = [
    pytest.param(name, marks=[pytest.mark.vllm] if name == "vllm" else [])
    for name in matrix.TOLERANCES
]


@pytest.fixture(scope="module", params=_ENGINES)
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run over all rows, with the tolerance for its engine."""
    folder = tmp_path_factory.mktemp("matrix")
    manifest = {
        "lineage": "matrix",
        "checkpoints": {"sft": {"path": str(CHECKPOINT)}},
        "evaluate": {"tasks": matrix.entries()},
        "engine": {"name": request.param, "dtype": "float32"},
    }
    path = folder / "lineage.yaml"
    path.write_text(yaml.safe_dump(manifest))
    results = ptharness.evaluate(path, folder / "out", plugins=[few_draws.__file__])
    assert results.run["failures"] == []
    return results, matrix.TOLERANCES[request.param]


@pytest.fixture(scope="module")
def theirs() -> dict[str, Table]:
    """What lm-eval reports of every task and group, asked in as few calls as it allows."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    calls: dict[str, dict[str, Any]] = {}
    for feature in FEATURES:
        if not feature.of:
            call = calls.setdefault(repr(feature.keys), {"keys": feature.keys, "tasks": {}})
            call["tasks"][feature.task] = None
    tables: dict[str, Table] = {}
    before = Path.cwd()
    os.chdir(FOLDER)
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        for call in calls.values():
            results = _evaluate(call["keys"], list(call["tasks"]), manager)
            for name in [*results["results"], *results.get("groups", ())]:
                tables[name] = reported(results, name)
    finally:
        os.chdir(before)
        del os.environ["DISABLE_MULTIPROC"]
    return tables


def _evaluate(keys: Mapping[str, Any], tasks: list[str], manager: Any) -> Any:
    """lm-eval's evaluation with the manifest's keys as its own arguments."""
    from lm_eval import simple_evaluate

    model = shared_model()
    model.think_end_token = keys.get("think_end_token")
    options = {
        "fewshot_seed": "fewshot_random_seed",
        "fewshot_as_multiturn": "fewshot_as_multiturn",
        "system_prompt": "system_instruction",
        "num_fewshot": "num_fewshot",
    }
    try:
        return simple_evaluate(
            model=model,
            tasks=tasks,
            task_manager=manager,
            apply_chat_template=keys.get("chat_template") != "none",
            bootstrap_iters=few_draws.DRAWS,
            **{options[key]: value for key, value in keys.items() if key in options},
        )
    finally:
        model.think_end_token = None


def _context(results: Results, task: str) -> int:
    """Tokens that a request of the run might have."""
    (context,) = {e["context"] for e in results.run["evaluated"] if e["task"] == task}
    return int(context)


def _in_windows_of(task: str, context: int) -> Table:
    """What lm-eval reports where its model takes as many tokens, one to predict among them."""
    model = shared_model()
    own, model._max_length = model._max_length, context - 1
    try:
        results = evaluate(model, FOLDER / f"{task}.yaml", Template("none"), bootstrap_iters=0)
    finally:
        model._max_length = own
    return reported(results, task)


def _of(table: pd.DataFrame, name: str, *, is_group: bool) -> Table:
    rows = table[(table.task == folder_name(name)) & (table.tasks.notna() == is_group)]
    assert is_group or rows.is_primary.sum() == 1
    return {
        (row.metric, row.filter): (row.value, None if pd.isna(row.stderr) else row.stderr)
        for row in rows.itertuples()
        if row.metric not in MADE_HERE and not row.metric.startswith("pass@")
    }


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.group or f.task)
def test_values_and_errors_are_lm_evals(
    feature: Feature, ours: tuple[Results, float], theirs: dict[str, Table]
) -> None:
    results, tolerance = ours
    table = results.metrics
    found, expected = _of(table, feature.name, is_group=bool(feature.group)), theirs[feature.name]
    if feature.windows:
        expected = _in_windows_of(feature.task, _context(results, feature.task))
    assert found.keys() == expected.keys()
    assert {metric for metric, _ in found} == set(feature.metrics)
    for pair, (value, error) in expected.items():
        _same(pair[0], found[pair], (value, error), tolerance)


def test_thoughts_are_kept_in_the_samples_and_not_scored(ours: tuple[Results, float]) -> None:
    samples = ours[0].read("samples", ["completion", "answer"], [("task", "==", "thinking")])
    assert len(samples) == 24
    assert samples.completion.str.contains("=").all()
    assert not samples.answer.str.contains("[:=]").any()


def _same(
    metric: str, ours: tuple[float, Any], theirs: tuple[float, Any], tolerance: float
) -> None:
    loose = tolerance if metric in matrix.OF_LIKELIHOODS else 1e-9
    value, expected = ours[0], theirs[0]
    if metric in matrix.LOGARITHMIC:
        value, expected = math.log(value), math.log(expected)
    assert value == pytest.approx(expected, rel=loose, abs=0), metric
    if theirs[1] is None:
        assert ours[1] is None, metric
    else:
        # Of a perplexity, the error grows with the value, whose logarithm is compared above.
        loose *= abs(expected) + 1 if metric in matrix.LOGARITHMIC else 1
        assert ours[1] == pytest.approx(theirs[1], rel=loose, abs=0), metric


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f.group or f.task)
def test_the_numbers_compared_say_something(feature: Feature, theirs: dict[str, Table]) -> None:
    """Neither all wrong nor all right: equal zeros would be no parity."""
    for (metric, filter_), (value, error) in theirs[feature.name].items():
        says_nothing = value in (0.0, 1.0, 100.0) or error == 0.0 or not math.isfinite(value)
        assert says_nothing is feature.constant or value == 999, (metric, filter_, value, error)


def test_a_prompt_that_differs_would_be_seen(theirs: dict[str, Table]) -> None:
    """The ways to ask with worked examples all give different numbers."""
    drawn = ("drawn", "drawn_by_seven", "drawn_in_one_turn", "first_n", "shots", "own_examples")
    values = [theirs[name]["perplexity", "none"][0] for name in (*drawn, "system", "prefix")]
    assert len({f"{math.log(value):.3f}" for value in values}) == len(values)
