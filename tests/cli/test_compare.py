"""`ptharness compare`: any two checkpoints, by the analysis' own numbers."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness import Results
from ptharness.analysis_settings import Settings
from ptharness.cli import main
from ptharness.lineage import Lineage
from ptharness.publish import publish_analysis
from tests.synthetic import Run, lineage


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base -> sft -> grpo on `add` and `pick`, analysed with a support budget of 2."""
    run = Run(tmp_path_factory.mktemp("results")).fill()
    run.publish()
    publish_analysis(Results(run.folder), Settings(k=2))
    return run.folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return Path(shutil.copytree(published, tmp_path / "arith"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["compare", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def values(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    return json.loads(printed(capsys, *arguments, "--json"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["compare", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_related_pair_has_the_numbers_of_the_tables(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = values(capsys, published, "base", "sft")
    assert (found["relations"], found["support_budget"]) == (["edge"], 2)
    edges = Results(published).edges
    edges = edges[(edges.source == "base") & (edges.target == "sft") & (edges.relation == "edge")]
    for row in found["comparisons"]:
        of_scope = edges[edges.task == row["task"]].set_index("quantity")
        for quantity, estimate in row["estimates"].items():
            expected = of_scope.loc[quantity]
            for column in ("estimate", "stderr", "ci_low", "ci_high", "p"):
                got = estimate[column]
                assert (None if got is None else pytest.approx(got)) == (
                    None if expected[column] != expected[column] else expected[column]
                ), (row["task"], quantity, column)
    assert [row["task"] for row in found["comparisons"]] == ["add", "pick", "pooled"]


def test_the_difference_is_that_of_the_two_sides(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in values(capsys, published, "grpo", "base")["comparisons"]:
        delta = row["estimates"]["delta"]
        assert row["target"] - row["source"] == pytest.approx(delta["estimate"])
        if delta["stderr"]:
            # z of 0.975 and of 0.8
            assert delta["minimum_detectable_effect"] == pytest.approx(
                2.8016 * delta["stderr"], 1e-4
            )


def test_a_table_for_people(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, published, "base", "sft")
    assert out.startswith("base -> sft (edge)\n")
    number = r"[-+]?[\d.]+"
    assert re.search(
        rf"add +19\.\d +\d\d\.\d +\+{number} \[{number}, {number}\] +\d\.\d +<1e-4", out
    )
    assert "difference [95 % interval]" in out
    assert "comparable: same on all tasks: same prompts, same protocol" in out
    assert "the mean rests on add: 1 of 2 tasks; the others: multiple choice" in out
    assert "within 2 attempts, mean of 1 task:" in out
    assert "a second run of base would show" in out
    out = printed(capsys, published, "sft", "base", "--task", "pick", "--level", 0.9)
    assert out.startswith("sft -> base (reverse edge)\n")
    assert "[90 % interval]" in out
    assert "add" not in out


def test_multiple_choice_stands_below(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = values(capsys, published, "base", "sft")["comparisons"]
    pick = next(row["estimates"] for row in rows if row["task"] == "pick")
    forgotten, back = pick["forgetting"], pick["backward_transfer"]
    difference = back["estimate"] - forgotten["estimate"]
    assert difference == pytest.approx(pick["delta"]["estimate"])
    assert forgotten["minimum_detectable_effect"] == pytest.approx(
        2.8016 * forgotten["stderr"], 1e-4
    )
    assert all("forgetting" not in row["estimates"] for row in rows if row["task"] != "pick")
    out = printed(capsys, published, "base", "sft")
    number = f"{100 * forgotten['estimate']:.1f}"
    assert re.search(rf"\n pick +- +{re.escape(number)} \[", out)
    why = "Expansion and reshaping are not defined on multiple choice"
    # What the mean rests on says it already.
    assert "multiple choice: there are no attempts" in out
    assert why not in out
    assert why in printed(capsys, published, "base", "sft", "--task", "pick")
    assert "multiple choice" not in printed(capsys, published, "base", "sft", "--task", "add")


def test_a_pair_that_the_lineage_does_not_relate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = lineage()
    grpo, sft, base = (made.by_name[name] for name in ("grpo", "sft", "base"))
    assert grpo.stage is not None
    siblings = replace(grpo, stage=replace(grpo.stage, parents=("base",)))
    run = Run(tmp_path, lineage=Lineage("arith", (base, sft, siblings))).fill()
    run.publish()
    found = values(capsys, run.folder, "sft", "grpo", "--task", "add")
    assert found["relations"] == []
    # No analysis is there: its defaults are taken.
    assert (found["support_budget"], found["level"]) == (16, 0.95)
    (row,) = found["comparisons"]
    assert row["estimates"]["delta"]["ci_low"] > 0
    assert row["estimates"]["exp"]["estimate"] is None
    assert "not related by the lineage" in printed(capsys, run.folder, "sft", "grpo")


def changed(folder: Path, task: str | None, **values: object) -> None:
    """Pretend that grpo was asked otherwise."""
    run = json.loads((folder / "run.json").read_text())
    for entry in run["evaluated"]:
        if entry["checkpoint"] == "grpo" and task in (None, entry["task"]):
            entry.update(values)
    (folder / "run.json").write_text(json.dumps(run))


def test_what_may_not_be_compared_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(folder, "pick", gold="other")
    out = printed(capsys, folder, "sft", "grpo")
    assert re.search(r"pick +- +- +refused", out)
    assert "comparable: no on pick: not comparable: other gold answers" in out
    assert "on task 'pick': not comparable" in refused(
        capsys, folder, "sft", "grpo", "--task", "pick"
    )
    changed(folder, None, gold="other")
    error = refused(capsys, folder, "sft", "grpo")
    assert "may not be compared on any of their 2 tasks: not comparable: other gold" in error
    assert main(["show", str(folder), "--gained", "sft", "grpo"]) == 2
    assert "may not be compared" in capsys.readouterr().err


def test_native_comparisons_say_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(folder, None, stop_token_ids=[5])
    out = printed(capsys, folder, "sft", "grpo")
    assert "comparable: native on all tasks: other end-of-sequence tokens" in out
    assert "(each asked as it is meant to be used)" in out


def test_equal_differences_have_no_detectable_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, documents=6, correct=lambda *_: True, failing=frozenset()).fill()
    run.publish()
    out = printed(capsys, run.folder, "base", "sft", "--task", "add")
    assert re.search(r"add +100\.0 +100\.0 +0\.0 \[-\d+\.\d, \d+\.\d\] +\? +1 ", out)
    assert "MDE ?: the difference is the same on all items" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["base", "sfft"], "no checkpoint 'sfft' (did you mean 'sft'?)"),
        (["base", "base"], "'base' is compared with itself"),
        (["base", "sft", "--task", "pic"], "no task 'pic' (did you mean 'pick'?)"),
        (["base", "sft", "--level", "2"], "--level"),
        (["base"], "Missing argument 'B'"),
    ],
)
def test_wrong_use_is_one_line(
    words: list[str], said: str, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, published, *words)


def test_a_metric_that_is_no_yes_or_no_keeps_its_unit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "items.parquet"
    rows = pq.read_table(path, partitioning=None)
    values_of = rows.to_pylist()
    for place, row in enumerate(values_of):
        if row["task"] == "pick":
            row.update(
                n=0, c=0, mean_score=10.0 + place + place % 2 * (row["checkpoint"] == "grpo")
            )
    pq.write_table(pa.Table.from_pylist(values_of, schema=rows.schema), path)
    found = values(capsys, folder, "sft", "grpo", "--task", "pick")
    (row,) = found["comparisons"]
    assert not row["is_accuracy"]
    assert row["target"] - row["source"] == pytest.approx(row["estimates"]["delta"]["estimate"])
    out = printed(capsys, folder, "sft", "grpo")
    assert re.search(r"pick = +[\d.]+ +[\d.]+ +\+[\d.]+ \[", out)
    assert "=: the metric is no yes/no, in its own unit" in out
    assert main(["show", str(folder), "--task", "pick"]) == 0
    assert re.search(r"0-\w+ +pick 0: +0 +\d+ +\d+ +\d+\n", capsys.readouterr().out)
    assert main(["show", str(folder), "--gained", "sft", "grpo"]) == 0
    assert "pick: no item has yes/no scores on both sides" in capsys.readouterr().out
