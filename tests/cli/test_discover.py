"""`ptharness discover` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ptharness.cli import main
from tests.discovery.planted import fresh, trained, write_model

BASE = fresh(0)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_model(tmp_path / "runs" / "base", BASE)
    write_model(tmp_path / "runs" / "dpo", trained(BASE, 1, 0.1), tags=["dpo"], learning_rate=1e-3)
    return tmp_path / "runs"


def test_a_manifest_is_written_and_check_accepts_it(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lineage.yaml"
    assert main(["discover", str(runs), "-o", str(out), "--tasks", "arith_add,arith_rot"]) == 0
    shown = capsys.readouterr().out
    assert "2 checkpoints" in shown
    assert f"next: ptharness check {out}" in shown
    content = yaml.safe_load(out.read_text())
    assert content["lineage"] == "runs"
    assert content["evaluate"]["tasks"] == ["arith_add", "arith_rot"]
    assert main(["check", str(out)]) == 0
    assert "0 problems, 0 warnings" in capsys.readouterr().out


def test_without_a_file_the_manifest_is_printed(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    assert main(["discover", "runs"]) == 0
    content = yaml.safe_load(capsys.readouterr().out)
    assert content["checkpoints"]["dpo"] == {"path": "runs/dpo", "parent": "base", "method": "dpo"}
    assert not (runs.parent / "lineage.yaml").exists()


def test_json_tells_answers_and_candidates(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(runs / "sft", trained(BASE, 2, 0.2), tags=["sft"], learning_rate=1e-3)
    assert main(["discover", str(runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sft = next(entry for entry in found["checkpoints"] if entry["checkpoint"] == "sft")
    assert sft["method"]["decided"] is False
    assert sft["method"]["candidates"] == ["rejection_sampling", "sequence_kd"]
    assert found["questions"] >= 1
    assert "checkpoints:" in found["manifest"]


def test_an_existing_file_is_kept_unless_forced(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lineage.yaml"
    out.write_text("mine")
    assert main(["discover", str(runs), "-o", str(out)]) == 2
    assert "exists; give another name, or --force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["discover", str(runs), "-o", str(out), "--force"]) == 0
    assert "checkpoints:" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["discover"], "Missing argument 'DIR...'"),
        (["discover", "nowhere"], "nowhere does not exist; name folders that hold checkpoints"),
        (["discover", "."], "no checkpoint in ."),
        (["discover", ".", "-o", "missing/lineage.yaml"], "its folder does not exist"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_open_questions_are_counted_and_check_reminds_of_them(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(runs / "sft", trained(BASE, 2, 0.2), tags=["sft"], learning_rate=1e-3)
    out = tmp_path / "my lineage.yaml"
    assert main(["discover", str(runs), "-o", str(out), "--tasks", "arith_add"]) == 0
    shown = capsys.readouterr().out
    asked = out.read_text().count("# undecided, ")
    assert asked > 0
    assert f"{asked} question" in shown
    assert f"next: ptharness check '{out}'" in shown
    assert main(["check", str(out)]) == 0
    assert f"warning: {out.name}: {asked} lines are marked" in capsys.readouterr().out


def test_unknown_and_empty_tasks_are_refused(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["discover", str(runs), "--tasks", "arith_ad"]) == 2
    assert "did you mean 'arith_add'" in capsys.readouterr().err
    assert main(["discover", str(runs), "--tasks", " , "]) == 2
    assert "--tasks: names no task" in capsys.readouterr().err


def test_an_illegal_name_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discover", str(runs), "--name", "../x"]) == 2
    assert "'../x' cannot name a lineage" in capsys.readouterr().err
