"""`ptharness analyze`: from published tables, from units, and from counts of somebody else's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ptharness import Results
from ptharness.cli import main, stages
from tests.synthetic import Run

EVALPERF = Path(__file__).parents[1] / "analysis" / "data" / "evalperf_counts.csv"
LLAMA, NEMOTRON = "Llama-3.1-70B-Instruct", "Nemotron-70B"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run(tmp_path_factory.mktemp("results"), failing=frozenset()).fill()
    run.publish()
    return run.folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A results folder of base -> sft -> grpo, 66 items, 4 samples."""
    return Path(shutil.copytree(published, tmp_path / "arith"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_each_stage_gets_a_line_that_a_person_can_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = " ".join(printed(capsys, "analyze", folder, "--budget", 2).split())
    assert "reachable within 2 attempts; 95 % intervals, in percentage points" in out
    assert "sft off-policy declared support_expansion measured " in out
    assert "grpo on-policy declared policy_reshaping or consolidation measured " in out
    assert " pp = expansion +" in out
    assert "attrition" in out
    assert "k = 2" not in out  # the sensitivity to k starts at 4, which needs 5 samples


ON_CHOICES = r"(-|[-+]?\d+\.\d( \[-?\d+\.\d, -?\d+\.\d\])?)"
NOT_DEFINED = "Expansion and reshaping are not defined on multiple choice"


def choice_rows(out: str) -> list[list[str]]:
    """Stage, task, accuracy, choice probability, forgetting, backward transfer."""
    lines = out.splitlines()
    (start,) = [place for place, line in enumerate(lines) if line.startswith(" multiple choice")]
    found = [re.split(r" {2,}", line.strip()) for line in lines[start + 2 :]]
    return [row for row in found if len(row) == 6 and row[1].startswith("pick")]


def test_multiple_choice_has_a_row_for_each_stage(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, "analyze", folder, "--budget", 2)
    edges = Results(folder).edges
    edges = edges[(edges.task == "pick") & (edges.relation == "edge")]
    rows = choice_rows(out)
    assert [row[:2] for row in rows] == [["base -> sft", "pick"], ["sft -> grpo", "pick"]]
    for name, _, *cells in rows:
        found = edges[edges.target == name.split()[-1]].set_index("quantity").estimate
        assert all(re.fullmatch(ON_CHOICES, cell) for cell in cells)
        # The scorer of these tables reports no choice probability.
        assert cells[1] == "-"
        for cell, quantity in zip(
            (cells[0], *cells[2:]), ("delta", "forgetting", "backward_transfer"), strict=True
        ):
            assert float(cell.split()[0]) == pytest.approx(100 * found[quantity], abs=0.05)
    assert out.count(NOT_DEFINED) == 1
    assert "the choices of the items are not known" in out


def test_a_lineage_of_choices_alone_says_once_why_nothing_is_decomposed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path).fill()
    run.publish(work=[run.of(name, "pick") for name in ("base", "sft", "grpo")])
    out = printed(capsys, "analyze", run.folder, "--by", "task")
    words = " ".join(out.split())
    assert "what each stage did, mean of 1 task; 95 % intervals, in percentage points" in words
    assert "sft off-policy declared support_expansion 0.0 pp [" in words
    assert words.count("] on multiple choice") == 2
    assert words.count(NOT_DEFINED) == 1
    assert "-: not defined on multiple choice" in out
    for noise in ("undetermined", "undefined", "there are no attempts", "?", "reachable within"):
        assert noise not in out


def test_of_many_choice_rows_the_report_has_the_rest(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "MOST_CHOICE_ROWS", 1)
    out = printed(capsys, "analyze", folder, "--budget", 2)
    assert len(choice_rows(out)) == 1
    assert "... and 1 more, in edges.parquet and the report" in out


def test_choices_that_were_not_asked_alike_say_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = json.loads((folder / "run.json").read_text())
    for entry in run["evaluated"]:
        if entry["task"] == "pick" and entry["checkpoint"] == "grpo":
            entry["stop_token_ids"] = [5]
        if entry["task"] == "pick" and entry["checkpoint"] == "base":
            entry["gold"] = "other"
    (folder / "run.json").write_text(json.dumps(run))
    rows = choice_rows(printed(capsys, "analyze", folder, "--budget", 2, "--level", 0.9))
    assert [row[1] for row in rows] == ["pick (not comparable)", "pick (native)"]
    assert rows[0][2:] == ["-"] * 4


def test_tables_on_disk_are_of_the_settings_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(capsys, "analyze", folder, "--budget", 2, "--level", 0.9, "--fdr", 0.1)
    results = Results(folder)
    assert set(results.edges["k"].dropna()) == {2}
    assert set(results.edges["level"].dropna()) == {0.9}
    assert results.analysis["false_discovery_rate"] == 0.1
    written = (folder / "edges.parquet").stat().st_mtime_ns
    printed(capsys, "analyze", folder, "--budget", 2, "--level", 0.9, "--fdr", 0.1)
    assert (folder / "edges.parquet").stat().st_mtime_ns == written
    # An interrupted run may have left the report of older tables.
    (folder / "report.html").write_text("of older tables")
    printed(capsys, "analyze", folder, "--budget", 2, "--level", 0.9, "--fdr", 0.1)
    assert (folder / "report.html").read_text() != "of older tables"
    printed(capsys, "analyze", folder)
    assert set(Results(folder).edges["k"].dropna()) == {16}


def test_json_has_every_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "analyze", folder, "--budget", 2, "--by", "task", "--json"))
    assert found["analysis"]["support_budget"] == 2
    pair = next(
        pair
        for pair in found["pairs"]
        if (pair["relation"], pair["target"], pair["task"]) == ("edge", "sft", "add")
    )
    cells = {name: pair["estimates"][name]["estimate"] for name in ("exp", "rsh", "att", "res")}
    assert sum(cells.values()) == pytest.approx(pair["estimates"]["delta"]["estimate"])
    choice = next(pair for pair in found["pairs"] if pair["task"] == "pick")
    assert "multiple choice" in choice["estimates"]["exp"]["reason"]


def test_by_task_and_by_tag(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "analyze", folder, "--budget", 2, "--by", "task")
    row = next(line for line in out.splitlines() if "base -> grpo (path)" in line)
    assert " add " in row
    assert "no tag to show" in printed(capsys, "analyze", folder, "--budget", 2, "--by", "tag")


def test_what_is_no_results_folder_is_refused(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such folder" in refused(capsys, "analyze", tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "not a results folder" in refused(capsys, "analyze", tmp_path / "empty")
    assert "--parent and --child go with" in refused(capsys, "analyze", folder, "--parent", "a")
    (folder / "items.parquet").rename(folder / "moved")
    assert "items.parquet: missing" in refused(capsys, "analyze", folder)
    (folder / "moved").rename(folder / "items.parquet")
    run = json.loads((folder / "run.json").read_text())
    del run["evaluated"]
    (folder / "run.json").write_text(json.dumps(run))
    assert "published by an older ptharness" in refused(capsys, "analyze", folder)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--level", "1"), ("--fdr", "0"), ("--budget", "0"), ("--budget", "9" * 30), ("--by", "item")],
)
def test_wrong_options_are_refused(
    folder: Path, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert option in refused(capsys, "analyze", folder, option, value)


# --- counts of somebody else's ----------------------------------------------------------------


def test_published_counts_give_the_published_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("analyze", EVALPERF, "--parent", LLAMA, "--child", NEMOTRON, "--budget", 25)
    found = json.loads(printed(capsys, *words, "--json"))
    in_points = {name: 100 * row["estimate"] for name, row in found["estimates"].items()}
    assert in_points["delta"] == pytest.approx(-15.43, abs=0.005)
    assert in_points["rsh"] == pytest.approx(-14.88, abs=0.005)
    assert in_points["att"] == pytest.approx(-0.51, abs=0.005)
    assert (found["items"], found["k"], found["role_measured"]) == (118, 25, "policy_reshaping")
    assert set(found["sensitivity"]) == {"4", "8", "16", "32"}
    out = printed(capsys, *words)
    assert "-15.43" in out
    assert "measured: policy_reshaping" in out


def counts_file(folder: Path, text: str) -> Path:
    path = folder / "counts.csv"
    path.write_text(text)
    return path


HEADER = "model,item,n,c\n"
ROWS = "".join(f"{model},{item},8,{item}\n" for model in ("old", "new") for item in range(8))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model,item,n\na,1,2\n", ["line 1", "no column 'c'", "model, item, n, c"]),
        (HEADER, ["has no rows"]),
        (HEADER + "old,1,8,9\n", ["line 2", "n is 8 and c is 9", "0 <= c <= n"]),
        (HEADER + ROWS + "old,9,8,x\n", ["line 18", "c is 'x'", "not a whole number"]),
        (HEADER + ROWS + "old,9,8,1.5\n", ["line 18", "c is 1.5"]),
        (HEADER + ROWS + "old,9,8,\n", ["line 18", "c is None"]),
        (HEADER + ROWS + "old,3,8,1\n", ["line 18", "'old'", "'3'", "a second time"]),
        (HEADER + "\n\n" + ROWS + '"a\nb",1,8,1\n' + "old,9,8,x\n", ["line 22", "c is 'x'"]),
        (HEADER + ROWS + "old,9,99999999999999999999,1\n", ["line 18", "n is 1e+20"]),
        (HEADER + ROWS + "old,9,2000000000,1\n", ["line 18", "n <= 999999999"]),
        ("model,item,n,c,n\nold,1,2,1,2\n", ["line 1", "several columns 'n'"]),
        (
            "model,item,n,c,cluster\nold,1,2,1,a\nnew,1,2,1,b\n",
            ["line 3", "cluster 'b', and of 'a'"],
        ),
        (HEADER + ROWS + "old,3\n", ["cannot be read as CSV"]),
        ("", ["cannot be read as CSV"]),
    ],
)
def test_what_are_no_counts_is_refused_by_line(
    text: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = counts_file(tmp_path, text)
    error = refused(capsys, "analyze", path, "--parent", "old", "--child", "new")
    assert str(path) in error
    assert all(word in error for word in words), error


def test_models_are_found_by_a_part_of_their_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = counts_file(tmp_path, HEADER + ROWS + ROWS.replace("old", "older").replace("new", "n"))
    assert "needs --parent MODEL and --child" in refused(capsys, "analyze", path)
    error = refused(capsys, "analyze", path, "--parent", "ol", "--child", "new")
    assert "--parent 'ol' is part of several models: old, older" in error
    error = refused(capsys, "analyze", path, "--parent", "old", "--child", "neww")
    assert "--child: no model 'neww' (did you mean 'new'?)" in error


def test_clusters_and_items_of_one_side_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def analysed(text: str) -> dict[str, Any]:
        path = counts_file(tmp_path, text)
        words = ("analyze", path, "--parent", "old", "--child", "new", "--budget", 3, "--json")
        found: dict[str, Any] = json.loads(printed(capsys, *words))
        return found

    lines = [
        f"{model},{item},8,{(item * (5 if model == 'new' else 3)) % 9}"
        for model in ("old", "new")
        for item in range(12)
    ]
    plain = analysed(HEADER + "\n".join(lines) + "\nold,only-here,8,1\n")
    assert plain["items"] == 12
    clustered = analysed(
        "model,item,n,c,cluster\n" + "\n".join(f"{x},{int(x.split(',')[1]) // 2}" for x in lines)
    )
    for name in ("delta", "exp"):
        assert clustered["estimates"][name]["estimate"] == plain["estimates"][name]["estimate"]
    assert clustered["estimates"]["delta"]["stderr"] != plain["estimates"]["delta"]["stderr"]
    few = analysed(
        HEADER + "".join(f"{m},{i},3,{i % 4}\n" for m in ("old", "new") for i in range(9))
    )
    assert few["estimates"]["exp"]["reason"] == (
        "needs 4 samples of each item for k = 3, and there are 3"
    )
    assert few["estimates"]["delta"]["estimate"] == 0


def test_items_without_a_cluster_are_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "".join(f"{model},{item},8,{item},\n" for model in ("old", "new") for item in range(8))
    path = counts_file(tmp_path, "model,item,n,c,cluster\n" + lines)
    words = ("analyze", path, "--parent", "old", "--child", "new", "--budget", 3, "--json")
    assert json.loads(printed(capsys, *words))["estimates"]["delta"]["estimate"] == 0
    assert "both 'old'" in refused(capsys, *words[:2], "--parent", "old", "--child", "old")


def test_tabs_separate_a_tsv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "counts.tsv"
    path.write_text((HEADER + ROWS).replace(",", "\t"))
    words = ("analyze", path, "--parent", "old", "--child", "new", "--budget", 3, "--json")
    assert json.loads(printed(capsys, *words))["items"] == 8
