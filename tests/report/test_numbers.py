"""Every number that is shown is the table's."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness.publish import default_settings, publish_analysis
from ptharness.report.numbers import amount, interval, percent, plain, points
from ptharness.report.page import render
from ptharness.report.sentences import movement
from ptharness.results import Results
from tests.report.pages import Page
from tests.report.tables import LINEAGE, write_results
from tests.synthetic import Run

Pages = Callable[[str], Page]
Folders = Callable[[str], Path]

NBSP = "\u00a0"


def rows(folder: Path, table: str, **where: object) -> list[dict[str, object]]:
    found = pq.read_table(folder / f"{table}.parquet").to_pylist()
    return [row for row in found if all(row[name] == value for name, value in where.items())]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.214, "+21.4"),
        (-0.009, "−0.9"),
        (0.0, "0.0"),
        (-0.0004, "0.0"),
        (None, "–"),
        (1, "+100.0"),
    ],
)
def test_points(value: float | None, text: str) -> None:
    assert points(value) == text


def test_units() -> None:
    assert percent(0.5) == "50.0"
    assert percent(-0.0001) == "0.0"
    assert plain(12345.6) == "12,346"
    assert plain(0.12345) == "0.123"
    assert amount("crossover", 3.0) == "3"
    assert amount("new", 0.031) == "3.1"
    assert amount("exp", 0.031) == "+3.1"
    row = {"quantity": "exp", "ci_low": -0.001, "ci_high": 0.008}
    assert interval(row) == f"[−0.1,{NBSP}0.8]"
    assert interval({"quantity": "exp", "ci_low": None, "ci_high": None}) == ""


def test_the_sentence() -> None:
    def row(quantity: str, estimate: float | None, low: float, high: float) -> dict[str, object]:
        return {
            "quantity": quantity,
            "estimate": estimate,
            "ci_low": low,
            "ci_high": high,
            "reason": "needs n >= 17",
        }

    estimates = {
        "delta": row("delta", 0.214, 0.19, 0.24),
        "exp": row("exp", 0.003, -0.001, 0.008),
        "rsh": row("rsh", 0.22, 0.191, 0.248),
        "att": row("att", -0.009, -0.016, -0.004),
        "res": row("res", 0.0001, 0, 0),
    }
    assert movement(estimates).replace(NBSP, " ") == (
        "+21.4 pp = expansion +0.3 [−0.1, 0.8], reshaping +22.0 [19.1, 24.8], "
        "attrition −0.9 [−1.6, −0.4]"
    )
    of_choices = movement(estimates, of_choices=True).replace(NBSP, " ")
    assert of_choices == "+21.4 pp [19.0, 24.0] on multiple choice"
    for quantity in ("exp", "rsh", "att", "res"):
        estimates[quantity] = {**estimates[quantity], "estimate": None}
    assert movement(estimates).endswith("not decomposed: needs n >= 17")
    estimates["delta"]["estimate"] = None
    assert movement(estimates) == "change undefined: needs n >= 17"


def test_each_stage_says_what_its_edge_says(page: Pages, folder: Folders) -> None:
    articles = page("whole").section("stages").every("article")
    assert [a.every("h3")[0].words.split()[0] for a in articles] == [
        stage.name for stage in LINEAGE[1:]
    ]
    for article, stage in zip(articles, LINEAGE[1:], strict=True):
        pooled = rows(folder("whole"), "edges", target=stage.name, relation="edge", scope="pooled")
        found = {row["quantity"]: row for row in pooled}
        sentence = next(p for p in article.every("p") if p.attributes["class"] == "sentence")
        assert sentence.words == " ".join(movement(found).split())  # type: ignore[arg-type]
        verdict = rows(
            folder("whole"), "verdicts", target=stage.name, relation="edge", scope="pooled"
        )
        assert str(verdict[0]["reason"]) in article.words
        assert str(verdict[0]["verdict"]) in article.words


def test_tables_by_task_show_the_edges(page: Pages, folder: Folders) -> None:
    for stage in LINEAGE[1:]:
        table = page("whole").table(f"{stage.name} by task")
        assert [row[0] for row in table] == ["all tasks (mean)", "add", "rot", "swp"]
        for name, *cells, _measured, _verdict in table:
            task = "pooled" if name.startswith("all") else name
            found = {
                row["quantity"]: row
                for row in rows(
                    folder("whole"), "edges", target=stage.name, relation="edge", task=task
                )
            }
            for cell, quantity in zip(cells, ("delta", "exp", "rsh", "att", "res"), strict=True):
                row = found[quantity]
                whole = f"{points(row['estimate'])} {interval(row)}"  # type: ignore[arg-type]
                assert cell == " ".join(whole.split())


@pytest.mark.parametrize("kind", ["whole", "choices"])
def test_multiple_choice_shows_the_edges(page: Pages, folder: Folders, kind: str) -> None:
    for stage in LINEAGE[1:]:
        ((name, *cells),) = page(kind).table(f"{stage.name} on multiple choice")
        assert name == "pick"
        found = {
            row["quantity"]: row
            for row in rows(folder(kind), "edges", target=stage.name, relation="edge", task="pick")
        }
        quantities = ("delta", "choice_probability", "forgetting", "backward_transfer")
        for cell, quantity in zip(cells, quantities, strict=True):
            row = found[quantity]
            whole = f"{amount(quantity, row['estimate'])} {interval(row)}"  # type: ignore[arg-type]
            assert cell == " ".join(whole.split())


def test_charts_hold_the_tables_values(page: Pages, folder: Folders) -> None:
    scopes = {"pooled": 0, "add": 1, "rot": 2, "swp": 3}
    edges = [
        row
        for row in rows(folder("whole"), "edges", relation="edge", quantity="exp")
        if row["estimate"] is not None
    ]
    assert {str(row["task"]) for row in edges} == set(scopes)
    drawn = {
        (row["s"], row["e"], row["lo"], row["hi"])
        for row in page("whole").rows("cells")
        if "e" in row
    }
    for row in edges:
        ends = (round(100 * float(str(row[n])), 4) for n in ("estimate", "ci_low", "ci_high"))
        assert (scopes[str(row["task"])], *ends) in drawn
    curves = {
        (row["c"], row["k"], row["e"]) for row in page("whole").rows("pass-at-k-1") if "c" in row
    }
    measures = rows(folder("whole"), "measures", task="add", quantity="pass_at_k")
    assert curves == {
        (
            [stage.name for stage in LINEAGE].index(str(row["checkpoint"])),
            row["k"],
            round(float(str(row["estimate"])), 5),
        )
        for row in measures
    }
    kept = page("whole").rows("retention")
    followed = rows(folder("whole"), "retention")
    assert sorted(str(row["v"]) for row in kept) == sorted(
        str(None if row["estimate"] is None else round(float(str(row["estimate"])), 5))
        for row in followed
    )


def test_the_waterfall_adds_up(page: Pages, folder: Folders) -> None:
    for scope, task in ((0, "pooled"), (2, "rot")):
        bars = [row for row in page("whole").rows("waterfall") if row["s"] == scope]
        bars.sort(key=lambda row: row["i"])
        assert [bar["l"] for bar in bars] == [
            "base", "sft", "grpo", "student", "all stages", "arrives at",
        ]  # fmt: skip
        for before, after in pairwise(bars[:4]):
            assert before["b"] == after["a"]
        path = rows(
            folder("whole"), "edges", relation="path", target="student", task=task, quantity="delta"
        )
        total = float(str(path[0]["estimate"]))
        assert bars[4]["b"] - bars[4]["a"] == pytest.approx(100 * total, abs=1e-3)
        assert bars[4]["v"] == points(total)
        assert bars[3]["b"] == pytest.approx(bars[5]["b"], abs=1e-3)


def ends_of_the_waterfall(made: Page, label: str) -> tuple[float, float]:
    """Where the main path starts and arrives on a scope, in per cent."""
    options = next(e for e in made.root.every("select") if e.attributes["id"] == "scope")
    scope = [option.words for option in options.every("option")].index(label)
    bars = {row["l"]: row for row in made.rows("waterfall") if row["s"] == scope}
    return bars["base"]["b"], bars["arrives at"]["b"]


def test_the_waterfall_of_multiple_choice_starts_at_its_accuracy(
    page: Pages, folder: Folders
) -> None:
    metrics = {str(row["checkpoint"]): row["value"] for row in rows(folder("choices"), "metrics")}
    shares = [100 * float(str(metrics[name])) for name in ("base", "student")]
    found = ends_of_the_waterfall(page("choices"), "all tasks (mean)")
    assert found[0] == pytest.approx(shares[0], abs=1e-3)
    texts = {row["l"]: row["v"] for row in page("choices").rows("waterfall") if row["s"] == 0}
    assert texts["base"] == f"{shares[0]:.1f} %"
    assert texts["arrives at"] == f"{shares[1]:.1f} %"
    assert "per cent of answers that are right" in str(page("choices").data["waterfall"]["spec"])


def test_the_waterfall_of_a_mean_starts_at_the_mean_of_the_tasks_that_it_rests_on(
    tmp_path: Path,
) -> None:
    """A real analysis: of a tag, and of attempts with multiple choice, too few for cells."""
    run = Run(tmp_path).fill()
    run.publish()
    about = json.loads((run.folder / "run.json").read_text())
    for task in about["tasks"].values():
        task["tags"] = ["both"]
    results = Results(run.folder)
    publish_analysis(results, default_settings(results))
    # As of a tag, which measures.parquet has no mean of.
    file = run.folder / "edges.parquet"
    table = pq.read_table(file)
    tagged = [
        {**row, "scope": "tag", "task": "both"}
        for row in table.to_pylist()
        if row["scope"] == "pooled"
    ]
    pq.write_table(
        pa.concat_tables([table, pa.Table.from_pylist(tagged, schema=table.schema)]), file
    )
    (run.folder / "run.json").write_text(json.dumps(about))
    made = Page(render(Results(run.folder)))
    metrics = results.metrics[results.metrics.is_primary]
    means = 100 * metrics.groupby("checkpoint", observed=True).value.mean()
    for label in ("all tasks (mean)", "tag both (mean)"):
        start, end = ends_of_the_waterfall(made, label)
        assert start == pytest.approx(means["base"], abs=1e-3)
        assert end == pytest.approx(means["grpo"], abs=1e-3)


def test_the_waterfall_leaves_out_stages_that_rest_on_different_tasks(tmp_path: Path) -> None:
    folder = write_results(tmp_path)
    table = pq.read_table(folder / "edges.parquet")
    lost = {"target": "grpo", "task": "rot", "quantity": "exp"}
    made = [
        {**row, "estimate": None, "reason": "needs 17 samples"}
        if lost.items() <= row.items()
        else row
        for row in table.to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(made, schema=table.schema), folder / "edges.parquet")
    page = Page(render(Results(folder)))
    assert 0 not in {row["s"] for row in page.rows("waterfall")}
    reason = page.data["waterfall"]["reasons"]["0"]
    assert reason == "the stages of the main path were not compared on the same tasks"


def test_any_two_checkpoints_are_compared(page: Pages, folder: Folders) -> None:
    pairs = page("whole").data["pairs"]
    names = pairs["names"]
    for row in rows(folder("whole"), "turnover", task="pooled"):
        source, target = names.index(row["source"]), names.index(row["target"])
        numbers = [round(float(str(row[n])), 5) for n in ("estimate", "ci_low", "ci_high")]
        cell = [pairs["quantities"].index(row["quantity"]), *numbers]
        assert cell in pairs["pairs"][f"0:{source}:{target}"]


def test_files_are_named_where_their_numbers_stand(page: Pages, folder: Folders) -> None:
    here = {"run.json", "manifest.yaml", "samples/"}
    here |= {path.name for path in folder("whole").glob("*.parquet")}
    for section in page("whole").root.every("section"):
        named = [code.text for code in section.every("code")]
        assert named or section.attributes["id"] == "methods"
        assert {name for name in named if name.endswith((".parquet", "/"))} <= here
    sizes = {row[0]: row[1] for row in page("whole").table("Files beside this page")}
    assert sizes["edges.parquet"] == f"{len(rows(folder('whole'), 'edges'))} rows"
