"""`ptharness results`: what is in a results folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ptharness.cli import main
from tests.synthetic import Run, lineage


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lineages `arith` and `other`, and their units."""
    root = tmp_path_factory.mktemp("results")
    Run(root, documents=4).fill().publish()
    Run(root, documents=4, lineage=lineage("other")).publish()
    return root


def listed(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    assert main(["results", *map(str, arguments)]) == code
    return capsys.readouterr().out


def values(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    return json.loads(listed(capsys, *arguments, "--json", code=code))


def test_lineages_are_listed_with_the_size_of_the_units(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = listed(capsys, out)
    assert re.search(r"arith +3 +2 +[\d.]+ kB +\S+ +none +none", text)
    assert re.search(r"other +3 +2 ", text)
    assert re.search(r"units: \d+ files, [\d.]+ kB", text)
    found = values(capsys, out)
    first, _ = found["lineages"]
    assert first["checkpoints"] == ["base", "sft", "grpo"]
    assert first["tasks"] == ["add", "pick"]
    assert first["evaluated"] == 6
    assert first["support_budget"] is None
    files = [file for file in (out / "units").rglob("*") if file.is_file()]
    assert found["units"] == {
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
    }


def test_the_default_is_the_folder_named_results(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(out)
    assert "arith" in listed(capsys)


def test_one_lineage_is_described_with_its_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, documents=4).fill()
    run.publish()
    record = json.loads((run.folder / "run.json").read_text())
    record["failures"] = [
        {"checkpoint": "sft", "task": "add", "stage": "generation", "message": "no\x1b[2Jmemory"}
    ]
    (run.folder / "run.json").write_text(json.dumps(record))
    text = listed(capsys, run.folder)
    assert "checkpoints  3: base sft grpo\n" in text
    assert "evaluated    6 of 6 checkpoint x task pairs\n" in text
    assert "failures     1\n" in text
    assert "failed: sft x add: generation: no\\x1b[2Jmemory\n" in text
    assert f"units in {tmp_path / 'units'}: " in text


def test_what_cannot_be_read_is_named_and_the_rest_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Run(tmp_path, documents=4).fill().publish()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    text = listed(capsys, tmp_path, code=1)
    assert "arith" in text
    assert f"cannot be read: {tmp_path / 'broken' / 'run.json'}" in text
    assert "error" in values(capsys, tmp_path, code=1)["lineages"][1]
    assert "cannot be read: " in listed(capsys, tmp_path / "broken", code=1)


@pytest.mark.parametrize(
    "wrong", [{"tasks": ["a"]}, {"engine": "x"}, {"failures": "x"}, {"versions": [1]}]
)
def test_a_record_that_is_none_of_ours_is_no_crash(
    wrong: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, documents=4).fill()
    run.publish()
    record = json.loads((run.folder / "run.json").read_text()) | wrong
    (run.folder / "run.json").write_text(json.dumps(record))
    assert "its run.json is not as ptharness writes it" in listed(capsys, run.folder, code=1)
    assert main(["show", str(run.folder), "--task", "pick", "--item", "1"]) == 0


def test_units_alone_are_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run(tmp_path, documents=4).fill()
    assert "no published results\nunits: " in listed(capsys, tmp_path)


def test_where_there_are_none_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", str(tmp_path / "missing")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["results", str(tmp_path)]) == 2
    assert f"`ptharness run lineage.yaml -o {tmp_path}`" in capsys.readouterr().err
    Run(tmp_path / "deeper", documents=4).fill().publish()
    assert main(["results", str(tmp_path)]) == 2
    assert f"but in {tmp_path / 'deeper'}" in capsys.readouterr().err
