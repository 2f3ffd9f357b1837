"""The method under ptharness's contract, and what the contract cannot know."""

from __future__ import annotations

import json
from pathlib import Path

import ptharness_echo.method
import pytest
from ptharness_echo.method import Echo

from ptharness.cli import main
from ptharness.methods import StageSettings
from ptharness.plugins import load_plugins
from ptharness.taxonomy import Provenance
from ptharness.testing import MethodContract, leave_card, leave_trainer_state


class TestEcho(MethodContract):
    method = Echo()
    plugin = ptharness_echo.method

    def leave(self, folder: Path) -> None:
        leave_card(folder, "echo")


def test_provenance_follows_the_answers() -> None:
    kept = StageSettings("echo", options={"answers": "kept"})
    assert Echo().declare(kept).provenance is Provenance.OFF_POLICY
    assert Echo().declare(StageSettings("echo")).provenance is Provenance.ON_POLICY


def test_a_log_is_weaker_evidence_than_a_card(tmp_path: Path) -> None:
    found = Echo().detect(leave_trainer_state(tmp_path, ["loss", "echo/length"]))
    assert found is not None
    assert found.strength < 0.9


def test_the_task_is_found_by_name_and_tag() -> None:
    tasks = load_plugins().registry(["tasks"]).tasks
    assert [task.name for task in tasks.find("echo", Path())] == ["echo_twice"]


def test_the_gold_answers_are_right() -> None:
    tasks = Path(ptharness_echo.__path__[0]) / "tasks"
    for line in (tasks / "echo_twice.jsonl").read_text().splitlines():
        document = json.loads(line)
        assert document["answer"] == "".join(2 * letter for letter in document["word"])


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lengths", str(tmp_path)]) == 2
    assert "not a results folder" in capsys.readouterr().err
