"""The contract of tasks can fail: tasks that break one clause each fail just the test of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ptharness.testing import TaskContract

BROKEN = Path(__file__).parent / "contracts" / "broken_tasks.py"

FAILS: dict[str, set[str]] = {
    "Sound": set(),
    "MoodyDigest": {
        *("it_can_be_sent_to_another_process", "its_digest_is_the_same_each_time"),
    },
    "ForgetsSettings": {"its_digest_covers_the_settings"},
    "HeavyDigest": {"its_digest_imports_nothing_heavy"},
    "Unlisted": {"it_is_listed"},
    "FindsAnything": {"what_it_does_not_know_is_empty"},
    "OthersInItsGroup": {"its_groups_are_of_its_tasks"},
    "EmptyTag": {"its_labels_are_plain"},
    "NoFolderName": {"its_plugin_finds_it"},
    "OneItem": {"its_prompts_are_whole"},
    "Backwards": {"its_prompts_are_whole"},
    "Shuffles": {"its_prompts_are_the_same_each_time"},
    "OtherPrimary": {
        *("its_prompts_are_whole", "its_metrics_are_aggregated"),
        "right_answers_score_full_marks",
    },
    "Raises": {"hostile_responses_are_scored"},
    "Silent": {
        *("each_sample_has_a_score", "scores_do_not_depend_on_what_was_scored_before"),
        *("hostile_responses_are_scored", "right_answers_score_full_marks"),
        *("its_metrics_are_aggregated", "one_document_is_enough"),
    },
    "FirstSample": {"each_sample_has_a_score"},
    "Remembers": {
        *("scores_do_not_depend_on_what_was_scored_before", "right_answers_score_full_marks"),
    },
    "TooStrict": {"right_answers_score_full_marks"},
    "AggregatesOthers": {"its_metrics_are_aggregated", "one_document_is_enough"},
}
"""The clauses that each of `broken_tasks.py` breaks; it fails their tests and no other."""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The tests that failed, by task: all are run once, as an author would run them."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "test_broken_tasks.py").write_text(BROKEN.read_text())
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rf"]
    # What a digest imports is tried in a process of its own: of two tasks, not of all.
    tried = "not heavy or TestHeavyDigest or TestSound"
    ran = subprocess.run(
        [sys.executable, *words, "-k", tried],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, set[str]] = {name: set() for name in FAILS}
    for name, test in re.findall(r"^FAILED \S+::Test(\w+)::test_(\w+)", ran.stdout, re.MULTILINE):
        found[name].add(test)
    assert re.search(r"\d+ passed", ran.stdout), ran.stdout + ran.stderr
    assert " error" not in ran.stdout.splitlines()[-1], ran.stdout
    return found


@pytest.mark.parametrize("name", FAILS)
def test_a_broken_clause_fails_its_test_alone(name: str, failed: dict[str, set[str]]) -> None:
    assert failed[name] == FAILS[name]


def test_every_clause_is_seen_to_fail() -> None:
    clauses = {name.removeprefix("test_") for name in dir(TaskContract) if "test_" in name}
    assert set().union(*FAILS.values()) == clauses
    assert len(clauses) > 15
