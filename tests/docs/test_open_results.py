"""The pages on opening results are run as they stand, on results of the shape that they name."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from ptharness.analysis.inputs import Settings
from ptharness.publish import publish_analysis
from ptharness.results import Results
from tests.synthetic import Run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `results/arith` in it."""
    run = Run(tmp_path / "results").fill()
    run.publish()
    publish_analysis(Results(run.folder), Settings(k=2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_example_of_the_page_works(folder: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "open-results.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    ran = {"python": 0, "sql": 0}
    for language, text in BLOCK.findall(page):
        if language == "python":
            exec(compile(text, "open-results.md", "exec"), names)
        else:
            assert len(duckdb.sql(text).fetchall()) > 0
        ran[language] += 1
    assert ran == {"python": 7, "sql": 2}
    assert len(names["samples"]) == 3 * (66 * 4 + 5)  # type: ignore[arg-type]
    assert len(names["gained"]) == len(names["prompts"]) > 0  # type: ignore[arg-type]
    cells, doubtful = names["cells"], names["doubtful"]
    assert isinstance(cells, pd.DataFrame)
    assert isinstance(doubtful, pd.DataFrame)
    assert cells.index.tolist() == [("base", "sft"), ("sft", "grpo")]
    assert cells.drop(columns="delta").sum(axis=1).tolist() == pytest.approx(cells.delta.tolist())
    assert set(doubtful.task) == {"pick"}


def test_the_examples_beside_the_results_work(folder: Path) -> None:
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(page)
    assert [language for language, _ in blocks] == ["python", "sql", "python", "r"]
    exec(blocks[0][1], {})
    assert len(duckdb.sql(blocks[1][1]).fetchall()) == 6


def test_the_folder_holds_what_the_page_says(folder: Path) -> None:
    page = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    for path in (folder / "results" / "arith").iterdir():
        assert f"`{path.name}" in page, path.name
