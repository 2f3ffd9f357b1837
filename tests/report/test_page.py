"""One file, the same for the same tables, of bounded size, and every panel says what it lacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness.errors import ResultsError
from ptharness.publish import default_settings, publish_analysis
from ptharness.report import write_report
from ptharness.report.certified import MOST_ITEMS
from ptharness.report.figures.base import LONGEST_NAME
from ptharness.report.graph import WIDEST, draw
from ptharness.report.lineage import read_lineage
from ptharness.report.page import render
from ptharness.report.tables import Tables
from ptharness.report.verdicts import Verdicts
from ptharness.results import Results
from ptharness.schema import METRICS
from ptharness.tasks.base import Aggregation, Group
from tests.report.conftest import KINDS
from tests.report.pages import Page
from tests.report.tables import Made, Stage, many, write_results
from tests.synthetic import SAMPLES, Run

Pages = Callable[[str], Page]
Folders = Callable[[str], Path]

PANELS = [
    "lineage",
    "stages",
    "provenance",
    "decomposition",
    "curves",
    "turnover",
    "distances",
    "retention",
    "cost",
    "certified",
    "methods",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_panel_is_there_whatever_is_missing(page: Pages, kind: str) -> None:
    made = page(kind)
    assert [section.attributes["id"] for section in made.root.every("section")] == PANELS
    for name in PANELS:
        section = made.section(name)
        assert section.every("h2")
        # A panel without a figure, a table or a drawing says why.
        full = [e for tag in ("svg", "table", "article", "pre") for e in section.every(tag)]
        charts = [e for e in section.every("div") if e.attributes.get("class") == "chart"]
        notes = [e for e in section.every("p") if e.attributes.get("class") == "nothing"]
        assert full or charts or any(note.words for note in notes), name
    ids = [e.attributes["id"] for e in made.root.every() if "id" in e.attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("kind", "panel", "words"),
    [
        ("unanalysed", "stages", "edges.parquet is not in this results folder"),
        ("unanalysed", "turnover", "`ptharness analyze` makes the analysis tables"),
        ("unanalysed", "lineage", "verdicts.parquet is not in"),
        ("undefined", "decomposition", "No cell is defined: needs n >= k + 1"),
        ("undefined", "curves", "No curve is defined: needs n >= k + 1"),
        ("undefined", "stages", "change undefined: needs n >= k + 1"),
        ("undefined", "methods", "needs n >= k + 1"),
        ("unanalysed", "provenance", "Not measured: ptharness provenance does it"),
        ("unanalysed", "distances", "Not measured: `ptharness distances` does it"),
        ("undefined", "distances", "No distance is defined: another vocabulary."),
        ("alone", "stages", "The lineage has no stage"),
        ("alone", "decomposition", "There is no stage to compare"),
        ("alone", "turnover", "There are no two checkpoints to compare"),
        ("choices", "curves", "multiple choice has no attempts"),
        ("choices", "decomposition", "No cell is defined: multiple choice: there are no attempts"),
        ("choices", "decomposition", "No cell is defined at any k: multiple choice has no"),
        ("choices", "retention", "No retention is defined: multiple choice has no attempts"),
        ("choices", "certified", "no longer reachable: multiple choice has no attempts"),
        ("choices", "cost", "there are no tokens to count"),
        ("certified nothing", "certified", "No item is certified"),
        ("hostile", "methods", "grpo"),
    ],
)
def test_what_is_missing_is_said(page: Pages, kind: str, panel: str, words: str) -> None:
    assert words in page(kind).section(panel).words


def test_a_lineage_of_choices_alone_says_once_why_no_role_is_measured(page: Pages) -> None:
    made = page("choices")
    words = made.section("stages").words
    assert words.count("Expansion and reshaping are not defined on multiple choice") == 1
    assert "undetermined" not in words
    assert "there are no attempts" not in words
    assert "reachable means within" not in made.root.every("header")[0].words
    assert "reachable means within" in page("whole").root.every("header")[0].words
    assert "not defined on multiple choice" not in page("one task").section("stages").words
    articles = made.section("stages").every("article")
    assert [len(article.every("table")) for article in articles] == [1] * len(articles)
    for article in articles:
        assert "measured no role, on multiple choice" in article.words
        sentence = next(p for p in article.every("p") if p.attributes["class"] == "sentence")
        assert sentence.words.endswith("] on multiple choice")


def test_a_teacher_on_choices_alone_is_compared(tmp_path: Path) -> None:
    student = Stage("student", ("base",), "sequence_kd", teacher="sft")
    made = Made(stages=(Stage("base"), Stage("sft", ("base",)), student), tasks=())
    page = Page(render(Results(write_results(tmp_path, made))))
    beyond = [row[:2] for row in page.table("More about student")]
    assert beyond == [["change", "sft \u2192 student (teacher to student)"]]
    (article,) = (a for a in page.section("stages").every("article") if "student from" in a.words)
    assert [s.words for s in article.every("summary")] == ["Multiple choice", "More quantities"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of a real analysis with a group and fewer samples than the budget needs."""
    run = Run(tmp_path_factory.mktemp("few")).fill()
    group = Group("both", ("add", "pick"), (Aggregation("exact_match"), Aggregation("acc")))
    run.evaluation = replace(run.evaluation, groups=(group,))
    run.publish()
    results = Results(run.folder)
    publish_analysis(results, default_settings(results))
    return Page(render(Results(run.folder)))


def test_too_few_samples_are_the_reason_for_no_turnover(few: Page) -> None:
    assert few.section("lineage").words.count("sft") > 1
    words = few.section("turnover").words
    assert "No count is defined" in words
    assert f"k = 16, and there are {SAMPLES}" in words
    assert "no two checkpoints" not in words


def test_a_reason_is_given_once_for_each_stage(few: Page) -> None:
    for article in few.section("stages").every("article"):
        assert article.words.count("needs 17 samples") == 1
        assert "not decomposed: needs 17 samples" in article.words
        more = {row[0] for row in few.table(f"More about {article.words.split()[0]}")}
        assert more == {f"items certified as {how} reachable" for how in ("newly", "no longer")}
    assert "retention of what sft had gained" in few.section("stages").words


def test_groups_stand_in_the_appendix(few: Page, page: Pages) -> None:
    table = few.table("Metrics of groups, as lm-eval aggregates those of their tasks")
    assert [row[:3] for row in table] == [
        ["both", name, metric]
        for name in ("base", "sft", "grpo")
        for metric in ("exact_match, strict", "acc")
    ]
    for row in table:
        assert 0 <= float(row[3]) <= 1
        low, high = row[4].strip("[]").split(",")
        assert float(low) < float(high), "an interval has a width"
        assert row[6] == "add, pick"
    assert "Groups of tasks" not in page("whole").section("methods").words


def with_distances(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Page:
    """The report of a whole folder whose rows of distances.parquet are changed."""
    file = write_results(folder) / "distances.parquet"
    table = pq.read_table(file)
    rows = [{**row, **change(row)} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    return Page(render(Results(folder)))


UNDEFINED = {"nats_per_token": None, "reason": "needs two clusters of items"}


def test_distances_of_another_lineage_are_called_so(tmp_path: Path) -> None:
    renamed = {"base": "old-base", "sft": "old-sft"}
    remedy = "old-base, old-sft: run `ptharness distances` again."
    some = with_distances(
        tmp_path / "some",
        lambda row: {side: renamed.get(row[side], row[side]) for side in ("source", "target")},
    )
    assert remedy in some.section("distances").words
    drawn = {row[side] for row in some.rows("distances") for side in ("x", "y")}
    assert {"grpo", "student", "dpo"} <= drawn
    assert drawn.isdisjoint({*renamed, *renamed.values()})
    every = with_distances(
        tmp_path / "every",
        lambda row: {side: f"old-{row[side]}" for side in ("source", "target")},
    )
    assert (
        "distances.parquet was made of another lineage, with old-"
        in every.section("distances").words
    )
    assert "No distance is defined" not in every.section("distances").words
    tasks = with_distances(tmp_path / "tasks", lambda _: {"scope": "task", "task": "old"})
    assert "holds other tasks than these tables" in tasks.section("distances").words


def test_between_vocabularies_there_are_bits_per_byte(tmp_path: Path, page: Pages) -> None:
    other = {"method": None, "nats_per_token": None, "reason": "another vocabulary"}
    some = with_distances(
        tmp_path / "some",
        lambda row: other if "base" in (row["source"], row["target"]) else {},
    )
    assert "Bits per byte of text compare between them" in some.section("distances").words
    bits, nats = some.rows("distances-bits"), some.rows("distances")
    assert {row["v"] for row in bits} == {0.5}
    assert "base" not in {row[side] for row in nats for side in ("x", "y")}
    assert "base" in {row[side] for row in bits for side in ("x", "y")}
    every = with_distances(tmp_path / "every", lambda _: other)
    assert len(every.rows("distances-bits")) == len(bits)
    assert "No distance is defined: another vocabulary." in every.section("distances").words
    assert "distances-bits" not in page("whole").data, "one vocabulary, one matrix"


def test_the_samples_that_part_most_are_shown_by_stage(tmp_path: Path) -> None:
    folder = write_results(tmp_path)
    file = folder / "token_likelihoods.parquet"
    table = pq.read_table(file)
    first = table.to_pylist()[0]
    tokens = {
        "tokens": ["aa", "bb", "cc"],
        "source_logprobs_nats": [-0.1, -0.1, -0.1],
        "target_logprobs_nats": [-0.1, -3.0, -8.0],
    }
    kl = [0.3, 7.0, 0.0]
    rows = [
        {**first, **tokens, "item": "far", "nats": 50.0},
        {**first, **tokens, "item": "far", "nats": 49.0},
        {**first, **tokens, "item": "exact", "nats": 40.0, "divergences_nats": kl},
        {**first, **tokens, "item": "near", "nats": 0.5},
        *({**first, **tokens, "item": f"more-{i}", "nats": 5.0} for i in range(30)),
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    html = render(Results(folder))
    words = Page(html).section("distances").words
    assert f"{first['source']} against {first['target']}" in words
    assert words.count("far 50.0 nats") == 1
    assert "far 49.0 nats" not in words, "one sample of an item"
    assert "near" not in words.split("Where a child parts")[1]
    assert "9 more that it finds less likely by a nat" in words
    shades = re.findall(r'<span class="parts(\d)" title="[^"]*">(aa|bb|cc)</span>', html)
    assert shades[:6] == [
        *(("0", "aa"), ("3", "bb"), ("5", "cc")),
        *(("1", "aa"), ("5", "bb"), ("0", "cc")),
    ]


def test_a_stage_without_a_distance_or_attrition_says_which(tmp_path: Path) -> None:
    children = with_distances(
        tmp_path / "children", lambda row: UNDEFINED if row["relation"] == "child" else {}
    )
    words = children.section("distances").words
    assert "No stage has a distance: needs two clusters of items." in words
    folder = write_results(tmp_path / "lost")
    table = pq.read_table(folder / "edges.parquet")
    rows = [
        {**row, "estimate": None, "reason": "needs 17 samples"} if row["quantity"] == "att" else row
        for row in table.to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "edges.parquet")
    words = Page(render(Results(folder))).section("distances").words
    assert "No stage with a distance has an attrition: needs 17 samples." in words


def test_a_distance_says_its_method_and_is_never_minus_nothing(tmp_path: Path) -> None:
    tiny = {f"nats_per_token{end}": -0.0004 for end in ("", "_ci_low", "_ci_high")}
    made = with_distances(tmp_path / "tiny", lambda row: {**tiny, "method": "exact"})
    cells = made.rows("distances")
    assert {(row["v"], row["lo"], row["hi"], row["m"]) for row in cells} == {(0, 0, 0, "exact")}
    assert "-0.0" not in str([(row["v"], row["lo"], row["hi"]) for row in cells])
    texts = [row["t"] for row in made.rows("distance-cost")]
    assert texts
    assert all("KL 0.000 nats per token, exact" in text for text in texts)


def damage(file: Path, how: str) -> None:
    """Make a table unusable: no Parquet, half of it, other columns, other types, too new."""
    table = pq.read_table(file)
    if how == "bytes":
        file.write_bytes(b"PAR1 is not all of it")
    elif how == "types":
        pq.write_table(pa.table({name: ["x"] for name in table.column_names}), file)
    elif how == "newer":
        pq.write_table(table.replace_schema_metadata({"schema_version": "99"}), file)
    else:
        pq.write_table(table.drop([how]), file)


@pytest.mark.parametrize("how", ["bytes", "types", "newer", "lineage"])
@pytest.mark.parametrize(
    ("table", "panel", "command"),
    [
        ("provenance", "provenance", "provenance"),
        ("distances", "distances", "distances"),
        ("token_likelihoods", "distances", "distances"),
    ],
)
def test_an_unusable_table_of_likelihoods_empties_its_panel_alone(
    tmp_path: Path, page: Pages, table: str, panel: str, command: str, how: str
) -> None:
    folder = write_results(tmp_path)
    damage(folder / f"{table}.parquet", how)
    made = Page(render(Results(folder)))
    remedy = "upgrade ptharness" if how == "newer" else f"`ptharness {command} MANIFEST` writes it"
    (note,) = (e.words for e in made.section(panel).every("p") if "Left out: " in e.text)
    assert note.startswith(f"Left out: {table}.parquet ")
    assert remedy in note
    files = made.table("Files beside this page")
    assert [f"{table}.parquet", "not used"] in [row[:2] for row in files]
    whole = page("whole")
    for name in set(PANELS) - {panel, "methods"}:
        assert made.section(name).words == whole.section(name).words
    if table == "token_likelihoods":
        assert made.rows("distances") == whole.rows("distances")
        assert "Where a child parts" not in made.section(panel).words
    if table == "distances":
        assert "Where a child parts" in made.section(panel).words


def test_a_distance_has_the_reach_of_its_interval(page: Pages, tmp_path: Path) -> None:
    assert {row["r"] for row in page("whole").rows("distances")} == {"\u00b10.10"}
    skewed = with_distances(
        tmp_path, lambda row: {"nats_per_token_ci_high": row["nats_per_token"] + 0.4}
    )
    assert {row["r"] for row in skewed.rows("distances")} == {"\u00b10.40"}


def test_long_names_are_cut_in_the_middle(page: Pages) -> None:
    made = page("long")
    charts = [
        name
        for name, data in made.data.items()
        if any(one["name"] == "names" for one in data.get("spec", {}).get("params", ()))
    ]
    assert {"distances", "turnover-new"} <= set(charts)
    for chart in charts:
        (names,) = (p["value"] for p in made.data[chart]["spec"]["params"] if p["name"] == "names")
        assert len(set(names)) == len(names)
        assert max(map(len, names)) <= LONGEST_NAME
    labels = {row["l"] for row in made.rows("distance-cost")}
    assert {"sft-of-epoch3-a", "sft-of-epoch3-b"} <= labels
    assert "sft-of-a-v\u2026-epoch3-d" in labels


def test_failures_are_announced_above_everything(page: Pages) -> None:
    assert "1 failure in this run" in page("hostile").root.every("header")[0].words
    assert "failure" not in page("whole").root.every("header")[0].words


def test_what_was_cut_off_stands_beside_the_curves(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "cut")
    file = folder / "metrics.parquet"
    rows = pq.read_table(file).to_pylist()
    share = {"metric": "truncation_rate", "filter": "none", "is_primary": False}
    first = rows[0]
    others = [row for row in rows if row["task"] == first["task"]][1:]
    rows.append({**first, **share, "value": 0.125})
    rows.append({**others[0], **share, "value": 0.002})
    pq.write_table(pa.Table.from_pylist(rows, schema=METRICS), file)
    page = render(Results(folder))
    told = f"{first['checkpoint']} 12.5 % of completions were cut off by max_tokens or the context."
    assert page.count(told) == 1
    assert f"{others[0]['checkpoint']} 0.2 % of" not in page


def test_the_same_tables_make_the_same_page(folder: Folders) -> None:
    first = (folder("whole") / "report.html").read_text(encoding="utf-8")
    assert render(Results(folder("whole"))) == first
    script = (
        "import sys; from ptharness.report.page import render; "
        "from ptharness.results import Results; "
        "sys.stdout.buffer.write(render(Results(sys.argv[1])).encode())"
    )
    other = subprocess.run(
        [sys.executable, "-c", script, str(folder("whole"))],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    assert other.stdout.decode() == first


def test_a_lineage_like_the_zoo_stays_below_three_megabytes(folder: Folders) -> None:
    assert (folder("zoo") / "report.html").stat().st_size < 3_000_000


def test_many_checkpoints_and_tasks_are_bounded(tmp_path: Path) -> None:
    made = Page(render(Results(write_results(tmp_path / "many", many(20, 50)))))
    assert len(made.html) < 8_000_000
    # What would be too much is in the tables, and the page says so.
    assert "only the means are" in made.section("turnover").words
    assert "38 more tasks" in made.section("curves").words
    # A drawing that would be too wide is drawn downwards alone.
    drawings = [e.attributes.get("class", "") for e in made.section("lineage").every("svg")]
    assert [name for name in drawings if name.startswith("graph")] == ["graph down"]


def test_certified_items_are_bounded_and_the_rest_counted(page: Pages, folder: Folders) -> None:
    section = page("whole").section("certified")
    items = [e for e in section.every("details") if e.attributes["class"] == "item"]
    total = pq.read_metadata(folder("whole") / "certified.parquet").num_rows
    assert len(items) == MOST_ITEMS < total
    more = [int(p.words.split()[2]) for p in section.every("p") if p.words.startswith("\u2026 and")]
    assert sum(more) == total - MOST_ITEMS
    # Right ones first; the first item shows both sides without a click.
    assert "open" in items[0].attributes
    sides = items[0].every("h4")
    assert [side.words for side in sides] == ["base 0 of 8 right", "sft 7 of 8 right"]
    completions = [
        e for e in items[0].every("pre") if "completion" in e.attributes.get("class", "")
    ]
    assert [c.attributes["class"].split()[1] for c in completions] == ["right"] * 6
    assert "sft says: no idea and more" in completions[3].words


def test_charts_obey_the_schema(page: Pages) -> None:
    import altair as alt

    # Of charts of one kind only the rows differ.
    kinds = {name.rstrip("0123456789"): data for name, data in page("whole").data.items()}
    specs = [data["spec"] for data in kinds.values() if "spec" in data]
    assert len(specs) == 13
    for spec in specs:
        alt.Chart.from_dict({**spec, "datasets": {}})


def test_a_picture_has_words(page: Pages) -> None:
    made = page("whole")
    for element in made.root.every():
        if element.attributes.get("role") == "img":
            label = element.attributes.get("aria-label") or element.attributes["aria-labelledby"]
            assert label
    for cell in made.root.every("th"):
        assert cell.attributes.get("scope") in ("row", "col")
    for table in made.root.every("table"):
        assert table.every("caption")
    words = next(e for e in made.root.every("p") if e.attributes.get("id") == "graph-words").words
    assert "sft to grpo (on-policy, measured policy reshaping)" in words


def test_the_main_path_and_the_drawing(folder: Folders) -> None:
    tables = Tables(Results(folder("whole")))
    lineage = read_lineage(tables)
    assert [c.name for c in lineage.main_path] == ["base", "sft", "grpo", "student"]
    assert [c.name for c in lineage.leaves] == ["student", "dpo", "srft", "sft-again"]
    graph = draw(lineage, Verdicts(tables, lineage))
    assert graph.across is not None
    assert graph.across.width <= WIDEST
    for drawing in (graph.across, graph.down):
        assert {node.name for node in drawing.nodes} == {c.name for c in lineage.checkpoints}
        assert len({(node.x, node.y) for node in drawing.nodes}) == len(drawing.nodes)
        assert len(drawing.lines) == len(lineage.stages)
    roles = {node.name: (node.role, node.mark, node.flags) for node in graph.down.nodes}
    assert roles["sft"] == ("support_expansion", "\u2713", ("attrition",))
    assert roles["srft"] == ("none", "\u2717", ())
    assert roles["dpo"][2] == ("harmful",)
    # The main path is straight.
    places = {node.name: node.y for node in graph.across.nodes}
    assert len({places[name] for name in ("base", "sft", "grpo", "student")}) == 1


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    place = write_results(tmp_path / "damaged", Made())
    (place / "edges.parquet").write_bytes(b"PAR1 is not all of it")
    with pytest.raises(ResultsError, match=r"edges\.parquet: cannot be read"):
        write_report(Results(place))
    assert not (place / "report.html").exists()


def test_items_of_an_unusable_table_of_likelihoods_are_refused_by_name(tmp_path: Path) -> None:
    place = write_results(tmp_path)
    file = place / "token_likelihoods.parquet"
    damage(file, "task")
    columns = pq.read_schema(file).names
    with pytest.raises(ResultsError, match=r"lacks the columns task\); `ptharness distances"):
        list(Tables(Results(place)).of_items(file, columns, {"0-abc"}))
