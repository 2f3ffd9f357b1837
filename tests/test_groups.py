"""Groups in the metrics table: lm-eval's aggregates, only of whole groups, never one more task."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from rich.console import Console

from ptharness.cli.summary import summary_json, summary_table
from ptharness.publish.estimates import interval
from ptharness.publish.groups import group_table
from ptharness.report.lineage import read_lineage
from ptharness.report.tables import Tables
from ptharness.results import Results
from ptharness.schema import METRICS
from ptharness.tasks.base import Aggregation, Group
from tests.synthetic import Run

TAGS = {"lineage": "l", "checkpoint": "base", "stage": 0, "parents": [], "role": []}
TASKS: dict[str, tuple[int, dict[tuple[str, str], tuple[float, float | None]]]] = {
    "small": (5, {("acc", "none"): (0.4, 0.2), ("acc_norm", "none"): (0.6, 0.25)}),
    "large": (40, {("acc", "none"): (0.75, 0.07), ("acc", "strict"): (0.5, 0.08)}),
    "third": (12, {("acc", "none"): (0.25, 0.125), ("corpus", "none"): (31.0, None)}),
}
"""Items, and value and standard error by metric and filter."""
AGGREGATIONS = (
    Aggregation("acc"),
    Aggregation("acc_norm", ("none", "gone")),
    Aggregation("corpus", weight_by_size=False),
)


def rows(name: str, size: int, metrics: dict[tuple[str, str], Any]) -> pa.Table:
    made = [
        {
            **TAGS,
            "task": name,
            "metric": metric,
            "filter": filter_,
            "value": value,
            "stderr": error,
            "n": size,
            "samples": 1,
            "is_primary": False,
        }
        for (metric, filter_), (value, error) in metrics.items()
    ]
    return pa.Table.from_pylist(made, schema=METRICS)


def lm_evals(tasks: Sequence[str], aggregations: Sequence[Aggregation]) -> dict[str, Any]:
    """What lm-eval's own group makes of the same numbers."""
    from lm_eval.api.group import Group as Theirs
    from lm_eval.config.group import AggMetricConfig

    results: dict[str, Any] = {}
    for name in tasks:
        size, metrics = TASKS[name]
        results[name] = {"sample_len": size}
        for (metric, filter_), (value, error) in metrics.items():
            results[name][f"{metric},{filter_}"] = value
            results[name][f"{metric}_stderr,{filter_}"] = "N/A" if error is None else error
    entries = [
        AggMetricConfig(
            a.metric,
            None if a.filters is None else list(a.filters),
            weight_by_size=a.weight_by_size,
        )
        for a in aggregations
    ]
    group = Theirs("theirs", aggregate_metric_list=entries)
    group.get_all_tasks = lambda recursive=True: [  # type: ignore[method-assign, assignment]
        SimpleNamespace(task_name=name) for name in tasks
    ]
    return {k: v for k, v in dict(group.aggregate(results)).items() if "," in k}


@pytest.mark.parametrize("by_size", [True, False])
def test_values_and_errors_are_lm_evals(by_size: bool) -> None:
    aggregations = tuple(replace(a, weight_by_size=by_size) for a in AGGREGATIONS)
    group = Group("all", tuple(TASKS), aggregations)
    tables = {name: rows(name, *content) for name, content in TASKS.items()}
    ours = group_table([group], tables, TAGS).to_pylist()
    theirs = lm_evals(list(TASKS), aggregations)
    assert len(ours) == 4, "acc of two filters, acc_norm of one, corpus"
    assert len(theirs) == 2 * 4
    for row in ours:
        pair = f"{row['metric']},{row['filter']}"
        assert row["value"] == pytest.approx(theirs[pair], rel=1e-12), pair
        error = theirs[f"{row['metric']}_stderr,{row['filter']}"]
        assert row["stderr"] == (None if error == "N/A" else pytest.approx(error, rel=1e-12)), pair
        assert (row["task"], row["tasks"], row["is_primary"]) == ("all", [*TASKS], False)
    by_pair = {(row["metric"], row["filter"]): row for row in ours}
    assert by_pair["acc", "none"]["n"] == 5 + 40 + 12
    expected = (5 * 0.4 + 40 * 0.75 + 12 * 0.25) / 57 if by_size else (0.4 + 0.75 + 0.25) / 3
    assert by_pair["acc", "none"]["value"] == pytest.approx(expected)


def test_single_items_have_no_pooled_error() -> None:
    tables = {"a": rows("a", 1, {("acc", "none"): (1.0, 0.0)})}
    (row,) = group_table([Group("g", ("a",), (Aggregation("acc"),))], tables, TAGS).to_pylist()
    assert (row["value"], row["stderr"], row["ci_low"]) == (1.0, None, None)


@pytest.mark.parametrize(("end", "low"), [(0.0, 0.0), (-0.5, pytest.approx(-0.1919928))])
def test_an_interval_ends_where_those_of_the_tasks_do(end: float, low: Any) -> None:
    table = rows("a", 4, {("acc", "none"): (0.2, 0.2)})
    known = [{**row, "ci_low": end, "ci_high": 0.6} for row in table.to_pylist()]
    tables = {"a": pa.Table.from_pylist(known, schema=METRICS)}
    (row,) = group_table([Group("g", ("a",), (Aggregation("acc"),))], tables, TAGS).to_pylist()
    assert (row["stderr"], row["ci_low"]) == (pytest.approx(0.2), low)


def unvaried(name: str, size: int, value: float, clusters: int) -> pa.Table:
    """A task all of whose items are alike, with the interval that it is published with."""
    found = interval(value, 0.0, constant=True, clusters=clusters, proportion=True)
    ends = {"ci_low": found.low, "ci_high": found.high, "ci_method": found.method}
    (row,) = rows(name, size, {("acc", "none"): (value, 0.0)}).to_pylist()
    return pa.Table.from_pylist([{**row, **ends}], schema=METRICS)


@pytest.mark.parametrize(
    ("values", "by_size", "low", "high"),
    [
        ((0.0, 0.0), True, 0.0, 3 / 40),
        ((1.0, 1.0), True, 1 - 3 / 40, 1.0),
        # The task of 10 counts as much as the one of 30, and less is known of it.
        ((0.0, 0.0), False, 0.0, 3 / 10 / 2),
        ((0.0, 1.0), False, 0.5 - 3 / 30 / 2, 0.5 + 3 / 10 / 2),
    ],
)
def test_where_no_item_varies_an_interval_has_a_width(
    values: tuple[float, float], by_size: bool, low: float, high: float
) -> None:
    sizes = {"few": 10, "many": 30}
    tables = {
        name: unvaried(name, size, value, size)
        for (name, size), value in zip(sizes.items(), values, strict=True)
    }
    group = Group("g", tuple(tables), (Aggregation("acc", weight_by_size=by_size),))
    (row,) = group_table([group], tables, TAGS).to_pylist()
    assert row["ci_method"] == "rule_of_three"
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(low), pytest.approx(high))


def test_no_interval_where_it_is_not_known_how_far_it_could_reach() -> None:
    tables = {
        "a": unvaried("a", 10, 0.0, 10),
        "b": rows("b", 10, {("acc", "none"): (0.0, 0.0)}),
    }
    (row,) = group_table([Group("g", ("a", "b"), (Aggregation("acc"),))], tables, TAGS).to_pylist()
    assert (row["value"], row["stderr"]) == (0.0, 0.0)
    assert (row["ci_low"], row["ci_high"], row["ci_method"]) == (None, None, None)


GROUP = Group("both", ("add", "pick"), (Aggregation("exact_match"), Aggregation("acc")))


def published(run: Run, *missing: tuple[str, str]) -> Results:
    run.evaluation = replace(run.evaluation, groups=(GROUP,))
    left_out = [run.of(*pair) for pair in missing]
    run.publish(work=[w for w in run.work if not any(w is other for other in left_out)])
    return Results(run.folder)


def test_only_whole_groups_are_published(tmp_path: Path) -> None:
    metrics = published(Run(tmp_path).fill(), ("grpo", "pick")).metrics
    groups = metrics[metrics.tasks.notna()]
    assert set(groups.checkpoint) == {"base", "sft"}
    assert set(groups.task) == {"both"}
    assert not groups.is_primary.any()
    tasks = metrics[metrics.tasks.isna()].set_index(["checkpoint", "task", "metric", "filter"])
    row = groups[(groups.checkpoint == "sft") & (groups.metric == "acc")].iloc[0]
    assert row.value == tasks.loc[("sft", "pick", "acc", "none")].value
    assert list(row.tasks) == ["add", "pick"]


def test_a_group_that_is_new_changes_the_metrics_alone(tmp_path: Path) -> None:
    run = Run(tmp_path).fill()
    run.publish()
    run.evaluation = replace(run.evaluation, groups=(GROUP,))
    assert set(run.publish().written) == {"metrics.parquet", "run.json"}
    assert run.publish().written == ()


def test_no_reader_takes_a_group_for_a_task(tmp_path: Path) -> None:
    results = published(Run(tmp_path).fill(), ("grpo", "pick"))
    lineage = read_lineage(Tables(results))
    assert [scope.name for scope in lineage.tasks] == ["add", "pick"]
    summary = summary_json(results)
    for checkpoint in summary["checkpoints"]:
        assert set(checkpoint["tasks"]) <= {"add", "pick"}
    of_groups = [len(checkpoint["groups"]) for checkpoint in summary["checkpoints"]]
    assert of_groups == [2, 2, 0]
    value = summary["checkpoints"][0]["groups"][0]["value"]
    assert 0 < value < 1
    assert not math.isnan(value)
    stream = io.StringIO()
    Console(file=stream, width=120).print(summary_table(results))
    line = next(line for line in stream.getvalue().splitlines() if line.startswith(" both"))
    assert f"{value:.4g}" in line


def test_tables_of_before_have_no_groups_and_are_read(tmp_path: Path) -> None:
    results = published(Run(tmp_path).fill())
    path = results.path / "metrics.parquet"
    table = pa.Table.from_pandas(
        pd.read_parquet(path).query("task != 'both'").drop(columns="tasks"), preserve_index=False
    )
    pa.parquet.write_table(table.replace_schema_metadata({"schema_version": "1"}), path)
    older = Results(results.path)
    assert summary_json(older)["checkpoints"][0]["groups"] == []
    assert [scope.name for scope in read_lineage(Tables(older)).tasks] == ["add", "pick"]
