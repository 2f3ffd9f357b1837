"""`ptharness report`: writes the page, says where, and what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from ptharness.cli import main
from tests.report.tables import Made, write_results


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(tmp_path / "made-up", Made(tasks=("add",), choices=()))


def test_it_writes_the_page_and_prints_its_path(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(results)]) == 0
    assert capsys.readouterr().out == f"{results / 'report.html'}\n"
    assert (results / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in results.glob(".*")] == []


@pytest.mark.parametrize("table", ["provenance", "distances", "token_likelihoods"])
def test_a_damaged_table_of_likelihoods_does_not_keep_the_page_from_being_written(
    results: Path, table: str
) -> None:
    (results / f"{table}.parquet").write_bytes(b"rubbish")
    assert main(["report", str(results)]) == 0
    assert f"Left out: {table}.parquet" in (results / "report.html").read_text(encoding="utf-8")


def test_for_programs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(results), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    page = results / "report.html"
    assert printed == {"path": str(page), "bytes": page.stat().st_size}


def test_it_opens_the_page_if_asked(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", opened.append)
    assert main(["report", str(results), "--open"]) == 0
    assert opened == [str((results / "report.html").resolve())]


def test_a_folder_that_holds_no_results_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such folder; give the results folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "not a results folder" in error
    assert "`ptharness run` writes one" in error
