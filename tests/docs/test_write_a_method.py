"""The page is run as it stands: its files are written, its commands executed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import ptharness_zoo
import pytest

from ptharness.cli import main
from ptharness.errors import ManifestError
from ptharness.manifest import read_manifest
from ptharness.plugins import load_plugins
from ptharness.resolve import resolve
from ptharness.taxonomy import Provenance
from ptharness.testing import leave_card, write_checkpoint

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "how-to" / "write-a-method.md"
METHOD = DOCS / "examples" / "ptharness-echo" / "ptharness_echo" / "method.py"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, and the checkpoints that its manifest names."""
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language in ("python", "yaml"):
            name, _, content = text.partition("\n")
            (tmp_path / name.removeprefix("# ")).write_text(content)
    write_checkpoint(tmp_path / "base")
    leave_card(write_checkpoint(tmp_path / "echo"), "echo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(program: str) -> list[list[str]]:
    """The words after the program's name, of every command of the page that starts with it."""
    blocks = [text for language, text in BLOCK.findall(PAGE.read_text()) if language == "console"]
    lines = [line.removeprefix("$ ").split() for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines if line[0] == program]


def test_the_commands_of_the_page_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for command in commands("ptharness"):
        assert main(command) == 0
        outputs.append(capsys.readouterr().out)
    explained, listed, checked = outputs
    assert "our internal note 17" in explained
    assert "A card tagged `echo`, or a log of `echo/length`." in explained
    assert "echo_method" in listed
    assert "off_policy" in checked
    assert "0 problems, 0 warnings" in checked


def test_the_manifest_of_the_page_can_be_planned(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("base", "echo"):
        shutil.rmtree(folder / name)
        (folder / name).symlink_to(ptharness_zoo.checkpoint("base"))
    command = ["--plugin", "echo_method.py", "plan", "lineage.yaml", "-o", "results"]
    assert main([*command, "--engine", "fake"]) == 0, capsys.readouterr().err


def test_the_contract_of_the_page_is_kept(folder: Path) -> None:
    [words] = commands("python")
    ran = subprocess.run(
        [sys.executable, *words, "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "skipped" not in ran.stdout


def test_the_page_shows_the_file_of_the_example(folder: Path) -> None:
    assert (folder / "echo_method.py").read_text() == METHOD.read_text()


def test_the_method_follows_its_settings(folder: Path) -> None:
    registry = load_plugins([folder / "echo_method.py"]).registry()
    path = folder / "lineage.yaml"
    text = path.read_text()

    def declared(method: str) -> Provenance:
        path.write_text(text.replace("{name: echo, answers: kept}", method))
        stage = resolve(read_manifest(path), registry).lineage.by_name["echo"].stage
        assert stage is not None
        return stage.provenance

    assert declared("{name: echo, answers: kept}") is Provenance.OFF_POLICY
    assert declared("short_echo") is Provenance.ON_POLICY
    with pytest.raises(ManifestError, match="'echo' is 'some'; legal: fresh, kept"):
        declared("{name: echo, answers: some}")
