"""The contract suite can fail: methods that break one clause each fail just the test of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ptharness.leftovers import read_leftovers
from ptharness.testing import (
    GRPO_KEYS,
    MethodContract,
    leave_adapter_config,
    leave_card,
    leave_trainer_state,
    leave_training_arguments,
)
from ptharness.testing.hostile import OCCASIONS

BROKEN = Path(__file__).parent / "contracts" / "broken_methods.py"

REFUSED = ("its_plugin_registers_it", "the_command_line_explains_it")
"""What fails as well where the catalogue of methods refuses it."""

FAILS: dict[str, set[str]] = {
    "Sound": set(),
    "FreeNumber": set(),
    "TitleOfTwoLines": {"it_is_a_method_with_a_title", *REFUSED},
    "IllegalAlias": {"its_names_are_legal_and_differ", *REFUSED},
    "NameTwice": {"its_names_are_legal_and_differ"},
    "ReservedOption": {"its_options_reach_it"},
    "SilentOption": {"its_options_are_documented"},
    "NoSources": {"every_name_declares"},
    "ShortReason": {"every_name_declares"},
    "StringsForEnums": {"every_name_declares", "the_command_line_explains_it"},
    "NoRoles": {"every_name_declares", "the_command_line_explains_it"},
    "BrokenAlias": {
        *("every_name_declares", "equal_settings_are_declared_equally"),
        "the_command_line_explains_it",
    },
    "Moody": {"equal_settings_are_declared_equally", "the_command_line_explains_it"},
    "ChangesSettings": {"settings_are_left_alone"},
    "TakesAnything": {"an_unknown_value_of_an_option_is_a_manifest_error"},
    "RaisesKeyError": {"an_unknown_value_of_an_option_is_a_manifest_error"},
    "ErrorWithoutOption": {"an_unknown_value_of_an_option_is_a_manifest_error"},
    "ClaimsEverything": {"an_empty_folder_is_no_evidence", "a_missing_folder_is_no_evidence"},
    "ListsMissingFolder": {"a_missing_folder_is_no_evidence"},
    "ClaimsForOthers": {"evidence_is_well_formed", "what_its_training_leaves_is_recognised"},
    "TooStrong": {"evidence_is_well_formed", "what_its_training_leaves_is_recognised"},
    "ChattyEvidence": {"evidence_is_well_formed", "what_its_training_leaves_is_recognised"},
    "SaysTrue": {"evidence_is_well_formed", "what_its_training_leaves_is_recognised"},
    "SeesNothing": {"what_its_training_leaves_is_recognised"},
    "SilentLook": {"its_look_is_documented"},
    "Unregistered": {*REFUSED},
}
"""The clauses that each of `broken_methods.py` breaks; it fails their tests and no other."""

FALLS_FOR: dict[str, set[str]] = {
    "ReadsNaively": {
        *("broken_json", "other_shapes", "nested_brackets", "nul_bytes", "no_text"),
        *("empty_files", "folders_for_files", "pipes"),
    },
    "ReadsItsOwnFileNaively": {"broken_json", "folders_for_files", "pipes", "no_text"},
    "ReadsUnsafeYaml": {"yaml_that_runs"},
    "Unpickles": {"a_pickle_that_runs"},
    "Imports": {"code_that_runs"},
    "FollowsLinks": {"links_in_a_loop"},
    "Dawdles": {"many_files"},
    "LeavesNotes": {"many_files"},
}
"""Hostile folders that each of these falls for; no others are tried on it."""

HOSTILE = {f"a_hostile_folder_is_survived[{occasion}]" for occasion in OCCASIONS}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The tests that failed, by method: all are run once, as an author would run them."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "test_broken_methods.py").write_text(BROKEN.read_text())
    tried = ["not survived", "TestSound"]
    tried += [f"Test{name} and ({' or '.join(FALLS_FOR[name])})" for name in FALLS_FOR]
    pytest_words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rf"]
    ran = subprocess.run(
        [sys.executable, *pytest_words, "-k", " or ".join(tried)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    names = re.findall(r"^FAILED \S+::Test(\w+)::test_(\S+)", ran.stdout, re.MULTILINE)
    failed: dict[str, set[str]] = {}
    for method, test in names:
        failed.setdefault(method, set()).add(test)
    return failed


@pytest.mark.parametrize("method", FAILS)
def test_a_broken_clause_fails_its_own_test(method: str, failed: dict[str, set[str]]) -> None:
    assert failed.get(method, set()) == FAILS[method]


@pytest.mark.parametrize("method", FALLS_FOR)
def test_a_careless_look_falls_for_hostile_folders(
    method: str, failed: dict[str, set[str]]
) -> None:
    expected = {f"a_hostile_folder_is_survived[{occasion}]" for occasion in FALLS_FOR[method]}
    assert failed[method] & HOSTILE == expected


def test_every_clause_is_seen_to_fail() -> None:
    clauses = {name.removeprefix("test_") for name in vars(MethodContract) if "test_" in name}
    assert set().union(*FAILS.values()) == clauses - {"a_hostile_folder_is_survived"}


def test_folders_of_frameworks_are_read_as_such(tmp_path: Path) -> None:
    leave_card(tmp_path, "grpo")
    leave_trainer_state(tmp_path, GRPO_KEYS, step=7)
    leave_adapter_config(tmp_path, "org/base")
    left = read_leftovers(leave_training_arguments(tmp_path, "GRPOConfig"))
    assert {"trl", "grpo"} <= left.tags
    assert set(GRPO_KEYS) <= left.logged
    assert left.step == 7
    assert left.base_models == ("org/base",)
    assert left.trainer_arguments == "GRPOConfig"


def test_a_missing_pytest_is_said_with_its_remedy() -> None:
    code = "import sys; sys.modules['pytest'] = None; import ptharness.testing"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "ptharness.testing needs pytest: `pip install 'pytest>=8.3'`" in ran.stderr
