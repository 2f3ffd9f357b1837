"""One file, the same for the same tables, of bounded size, and every panel says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptharness.errors import ResultsError
from ptharness.report import write_report
from ptharness.report.certified import MOST_ITEMS
from ptharness.report.graph import WIDEST, draw
from ptharness.report.lineage import read_lineage
from ptharness.report.page import render
from ptharness.report.tables import Tables
from ptharness.report.verdicts import Verdicts
from ptharness.results import Results
from ptharness.schema import METRICS
from tests.report.conftest import KINDS
from tests.report.pages import Page
from tests.report.tables import Made, many, write_results

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
        ("undefined", "distances", "the checkpoints have different vocabularies"),
        ("alone", "stages", "The lineage has no stage"),
        ("alone", "decomposition", "There is no stage to compare"),
        ("alone", "turnover", "There are no two checkpoints to compare"),
        ("choices", "curves", "multiple choice has no attempts"),
        ("choices", "cost", "there are no tokens to count"),
        ("certified nothing", "certified", "No item is certified"),
        ("hostile", "methods", "grpo"),
    ],
)
def test_what_is_missing_is_said(page: Pages, kind: str, panel: str, words: str) -> None:
    assert words in page(kind).section(panel).words


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
