"""methods, tasks, engines, plugins, manifest-schema: for people and, with --json, for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ptharness.builtin import COMMANDS
from ptharness.cli import main
from ptharness.cli.output import counted
from ptharness.manifest import manifest_schema


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    """`shown("methods", ...)`: what a command printed, which must have gone well."""

    def run(*arguments: str) -> str:
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    return run


def test_methods_are_listed_with_their_plugins(shown: Any) -> None:
    listed = {method["name"]: method for method in json.loads(shown("methods", "--json"))}
    assert listed["preference_optimization"]["aliases"][0] == "dpo"
    assert listed["sft"]["roles"] == ["support_expansion", "policy_reshaping"]
    assert listed["on_policy_rl"]["provenance"] == "on_policy"
    assert listed["on_policy_rl"]["plugin"] == "on_policy_rl"
    table = shown("methods")
    assert all(name in table for name in listed)
    # A family whose names differ shows all that they declare.
    distillation = next(line for line in table.splitlines() if line.startswith(" distillation"))
    assert "off_policy, on_policy" in distillation


def test_one_method_is_explained(shown: Any) -> None:
    explained = json.loads(shown("methods", "ipo", "--json"))
    assert explained["sources"][0] == (
        "arXiv:2604.07941 (section 4.2 and table 3, row preference optimization)"
    )
    assert explained["sources"][-1] == "arXiv:2310.12036 (IPO)"
    text = shown("methods", "ipo")
    assert "Offline preference optimisation" in text
    assert "pairs" in text
    assert "2310.12036" in text
    assert "plugin 'preference' of ptharness" in text


ECHO = """
from ptharness.hookspecs import hookimpl
from ptharness_methods.sft import SupervisedFineTuning as Sft
from ptharness.methods import Method

class Echo(Method):
    name, title = "echo", "Echo"
    def declare(self, stage):
        return Sft().declare(stage)
    def detect(self, directory):
        return None

@hookimpl
def ptharness_register_methods(registry):
    registry.methods.add(Echo())
"""


def test_a_look_without_a_docstring_is_not_explained_by_the_bases(
    shown: Any, tmp_path: Path
) -> None:
    path = tmp_path / "silent.py"
    path.write_text(ECHO)
    explained = json.loads(shown("--plugin", str(path), "methods", "echo", "--json"))
    assert explained["recognised_by"] == (
        "its own check (a docstring of its `detect` would say which)"
    )
    path = tmp_path / "blind.py"
    path.write_text(ECHO.replace("    def detect(self, directory):\n        return None\n", ""))
    explained = json.loads(shown("--plugin", str(path), "methods", "echo", "--json"))
    assert explained["recognised_by"] == "nothing"


def test_a_method_without_a_title_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "untitled.py"
    path.write_text(ECHO.replace('name, title = "echo", "Echo"', 'name = "echo"'))
    assert main(["--plugin", str(path), "methods"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: plugin 'untitled' of file ")
    assert "it has no `title`" in error
    assert error.count("\n") == 1


def test_a_piped_table_has_no_blanks_at_its_ends(shown: Any) -> None:
    lines = shown("methods").splitlines()
    assert "method" in lines[0]
    assert all(line == line.rstrip() for line in lines)
    assert all(lines)


def test_numbers_are_counted() -> None:
    assert [counted(n, "problem") for n in (0, 1, 2)] == ["0 problems", "1 problem", "2 problems"]


def test_tasks_are_searched(shown: Any) -> None:
    found = json.loads(shown("tasks", "ARITH_ADD", "--json"))
    assert {"name": "arith_add", "kind": "task", "origin": "ptharness"}.items() <= found[0].items()
    assert "arith_add" in shown("tasks", "arith_add")
    assert shown("tasks", "no-task-has-this-name") == "no task contains 'no-task-has-this-name'\n"


def test_a_long_list_of_tasks_is_summed_up(shown: Any) -> None:
    text = shown("tasks")
    assert "arith_add" in text
    assert "lm-eval: " in text
    assert len(text.splitlines()) < 100


def test_engines_are_listed_without_importing_them(shown: Any) -> None:
    listed = json.loads(shown("engines", "--json"))
    assert [engine["name"] for engine in listed][:2] == ["vllm", "fake"]
    assert all(engine["summary"] for engine in listed)
    assert "vllm" in shown("engines")


def test_plugins_are_listed_with_where_they_are_from_and_their_hooks(
    shown: Any, tmp_path: Path
) -> None:
    path = tmp_path / "listed_plugin.py"
    path.write_text(
        "from ptharness.hookspecs import hookimpl\n"
        "@hookimpl\ndef ptharness_run_finished(results): ...\n"
    )
    listed = json.loads(shown("--plugin", str(path), "--no-plugin", "sft", "plugins", "--json"))
    named = {plugin["name"]: plugin for plugin in listed}
    assert "sft" not in named
    assert named["listed_plugin"]["location"] == str(path)
    assert named["listed_plugin"]["hooks"] == ["ptharness_run_finished"]
    assert named["builtin"]["distribution"] == "ptharness"
    assert "register_methods" in shown("plugins")


def test_the_schema_is_printed(shown: Any) -> None:
    assert json.loads(shown("manifest-schema")) == manifest_schema()


def test_every_built_in_command_lies_in_its_own_file() -> None:
    import ptharness.cli

    files = {path.stem for path in Path(ptharness.cli.__path__[0]).glob("*.py")}
    assert {name.replace("-", "_") for name in COMMANDS} <= files
