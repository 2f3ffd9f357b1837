"""The shell around the commands: help, errors, exit codes, start-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptharness import __version__
from ptharness.builtin import COMMANDS
from ptharness.cli import application, main
from ptharness.errors import PtharnessError


def ptharness(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The real command line in a fresh interpreter."""
    command = [sys.executable, "-m", "ptharness", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_help_names_every_command_and_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "ptharness run lineage.yaml -o results" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    usage, rest = out.split("\n", 1)
    assert usage.startswith(f"Usage: ptharness {name}")
    assert "    ptharness " in rest


HEAVY = ("pydantic", "rich", "pyarrow", "numpy", "pandas", "torch", "yaml", "lm_eval", "vllm")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom ptharness.cli import main\nmain(['--help'])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"


def test_help_is_quick() -> None:
    """Under 0.3 s of this process's own time: the wall clock of a busy machine says nothing."""

    def seconds(*arguments: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = os.times()
        return (after.children_user - before.children_user) + (
            after.children_system - before.children_system
        )

    assert min(seconds("-m", "ptharness", "--help") for _ in range(5)) < 0.3


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ptharness {__version__}\n"


def test_an_error_is_one_line_with_control_characters_escaped() -> None:
    failed = ptharness("check", "no\x1b[2Jsuch\nfile.yaml")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr == "error: no\\x1b[2Jsuch\\nfile.yaml: no such file\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chekc"], "no command 'chekc' (did you mean 'check'"),
        (["check"], "Missing argument 'MANIFEST'"),
        (["check", "--nope", "x"], "No such option"),
        (["--nope"], "No such option"),
        (["--plugin"], "requires an argument"),
        (["--plugin", "absent.py", "methods"], "absent.py: not a Python file"),
        (["--no-plugin", "sftt", "methods"], "no such plugin (did you mean 'sft'?)"),
        (["methods", "dppo"], "unknown method 'dppo' (did you mean"),
    ],
)
def test_wrong_use_is_one_line_and_two(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("group", [[], ["zoo"]])
def test_no_command_shows_the_help(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*group, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "\nCommands:\n" in shown
    assert main(group) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", shown)


@pytest.mark.parametrize("option", ["--plugin", "--no-plugin"])
def test_a_global_option_behind_the_command_is_told_where_it_stands(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["methods", option, "x.py", "echo"]) == 2
    error = capsys.readouterr().err
    assert f"It stands before the command: `ptharness {option} ... methods`" in error
    assert main(["zoo", "list", f"{option}=x.py"]) == 2
    assert f"`ptharness {option} ... zoo list`" in capsys.readouterr().err


class Pretended:
    """Runs `raised` in place of the group's commands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, raised: BaseException) -> None:
        def fail(context: object) -> None:
            raise raised

        monkeypatch.setattr(application, "invoke", fail)


def test_an_errors_own_exit_code_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OddError(PtharnessError):
        exit_code = 7

    Pretended(monkeypatch, OddError("two\nlines"))
    assert main(["methods"]) == 7
    assert capsys.readouterr().err == "error: two\\nlines\n"


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    Pretended(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["methods"])


WAITING = """
import click, time
from ptharness.hookspecs import hookimpl

@click.command()
def wait():
    click.echo("waiting")
    time.sleep(60)

@hookimpl
def ptharness_register_commands(registry):
    registry.commands.add(wait)
"""


def test_an_interrupt_leaves_with_130(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    command = [sys.executable, "-um", "ptharness", "--plugin", str(tmp_path / "waiting.py"), "wait"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - started < 10
    assert errors.strip() == "error: interrupted; the same command goes on where it stopped"


def test_a_reader_that_goes_away_is_no_error() -> None:
    shell = f"set -o pipefail; {sys.executable} -m ptharness manifest-schema | head -c 1 >/dev/null"
    ran = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    assert "Exception" not in ran.stderr
