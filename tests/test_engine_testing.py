"""The contract of engines can fail: engines that break one clause each fail just the test of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ptharness.testing import EngineContract

BROKEN = Path(__file__).parent / "contracts" / "broken_engines.py"

FAILS: dict[str, set[str]] = {
    "Sound": set(),
    "TextAlone": set(),
    "NeverTwiceTheSame": set(),
    "NameOfTwoLines": {"it_is_an_engine_with_a_name"},
    "RefusesItsOwn": {"its_options_are_accepted"},
    "TakesAnything": {"an_unknown_option_is_refused", "a_value_of_another_kind_is_refused"},
    "RaisesTypeError": {"an_unknown_option_is_refused", "a_value_of_another_kind_is_refused"},
    "ErrorWithoutOption": {"an_unknown_option_is_refused", "a_value_of_another_kind_is_refused"},
    "NumbersInIdentity": {"its_identity_is_plain"},
    "Anonymous": {"its_identity_is_plain"},
    "MoodyIdentity": {"its_identity_is_the_same_each_time"},
    "IdentityOfThePlan": {"its_identity_is_the_same_each_time"},
    "Heavy": {"its_identity_imports_nothing_heavy"},
    "Hidden": {"it_can_be_sent_to_a_worker"},
    "Unregistered": {"its_plugin_registers_it", "the_command_line_lists_it"},
    "NoDocstring": {"the_command_line_lists_it"},
    "AnswersUnloaded": {"nothing_is_answered_before_a_load"},
    "ReportsOthers": {"a_load_is_reported"},
    "SilentReport": {"a_load_is_reported"},
    "Stale": {"each_checkpoint_gives_its_own_answers", "each_adapter_gives_its_own_answers"},
    "NeverSwaps": {"a_swap_is_one"},
    "RemembersPaths": {
        *("new_files_under_an_old_path_are_read", "each_adapter_gives_its_own_answers"),
    },
    "BlamesItself": {"a_broken_checkpoint_is_named", "a_broken_checkpoint_spoils_no_other"},
    "NamesNothing": {"a_broken_checkpoint_is_named"},
    "Spoilt": {"a_broken_checkpoint_spoils_no_other"},
    "IgnoresAdapters": {"each_adapter_gives_its_own_answers"},
    "KeepsAdapters": {"each_adapter_gives_its_own_answers"},
    "FailsOnNothing": {"every_request_is_answered_once"},
    "GreedyOnce": {"greedy_completions_are_all_the_same"},
    "Eager": {"requests_are_taken_lazily", "closing_early_leaves_it_usable"},
    "LeavesTraces": {"closing_early_leaves_it_usable"},
    "GoesOn": {
        *("completions_end_as_they_say", "a_stop_string_ends_a_completion"),
        "scores_are_those_of_the_samples",
    },
    "NeverTooLong": {"completions_end_as_they_say", "a_stop_string_ends_a_completion"},
    "TooLong": {"completions_end_as_they_say", "a_stop_string_ends_a_completion"},
    "TokensAnyway": {"completions_end_as_they_say", "a_stop_string_ends_a_completion"},
    "IgnoresStops": {"a_stop_string_ends_a_completion"},
    "WarmAtZero": {"greedy_completions_are_all_the_same", "a_greedy_continuation_is_recognised"},
    "AlwaysGreedy": {"samples_differ"},
    "OneSeed": {"samples_differ"},
    "SeedsByPlace": {"samples_depend_on_their_request_alone"},
    "SeedsByCount": {"more_samples_begin_with_the_same"},
    "OneLogprobShort": {"every_token_has_its_log_probability", "scores_are_those_of_the_samples"},
    "PositiveLogprobs": {
        *("every_token_has_its_log_probability", "every_continuation_is_scored_once"),
        "distributions_agree_with_the_scores",
    },
    "SumsAlone": {
        *("every_continuation_is_scored_once", "scores_are_those_of_the_samples"),
        "distributions_agree_with_the_scores",
    },
    "WarmLogprobs": {"scores_are_those_of_the_samples"},
    "ForgetsContext": {"scores_add_up"},
    "AllIsGreedy": {"a_greedy_continuation_is_recognised"},
    "ScoresTwice": {
        *("every_continuation_is_scored_once", "scores_are_those_of_the_samples"),
        *("scores_add_up", "a_greedy_continuation_is_recognised"),
        "distributions_agree_with_the_scores",
    },
    "LikeliestFirst": {"distributions_agree_with_the_scores"},
    "ClosesOnce": {"it_can_be_closed_twice"},
}
"""The clauses that each of `broken_engines.py` breaks; it fails their tests and no other."""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The tests that failed, by engine: all are run once, as an author would run them."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "test_broken_engines.py").write_text(BROKEN.read_text())
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rf"]
    # What an identity imports is tried in a process of its own: of two engines, not of all.
    tried = "not heavy or TestHeavy or TestSound"
    ran = subprocess.run(
        [sys.executable, *words, "-k", tried],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    failed: dict[str, set[str]] = {}
    for engine, test in re.findall(r"^FAILED \S+::Test(\w+)::test_(\S+)", ran.stdout, re.MULTILINE):
        failed.setdefault(engine, set()).add(test)
    return failed


@pytest.mark.parametrize("engine", FAILS)
def test_a_broken_clause_fails_its_own_test(engine: str, failed: dict[str, set[str]]) -> None:
    assert failed.get(engine, set()) == FAILS[engine]


def test_every_broken_engine_is_listed(failed: dict[str, set[str]]) -> None:
    assert set(failed) == {engine for engine, clauses in FAILS.items() if clauses}


def test_every_clause_is_seen_to_fail() -> None:
    clauses = {name.removeprefix("test_") for name in dir(EngineContract) if "test_" in name}
    assert set().union(*FAILS.values()) == clauses
    assert len(clauses) > 25
