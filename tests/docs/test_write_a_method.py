"""The page is run as it stands: its files are written, its commands executed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ptharness.cli import main
from ptharness.errors import ManifestError
from ptharness.manifest import read_manifest
from ptharness.plugins import load_plugins
from ptharness.resolve import resolve
from ptharness.taxonomy import Provenance
from tests.conftest import write_checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-method.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, and the checkpoints that its manifest names."""
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language in ("python", "yaml"):
            name, _, content = text.partition("\n")
            (tmp_path / name.removeprefix("# ")).write_text(content)
    write_checkpoint(tmp_path / "base")
    write_checkpoint(tmp_path / "echo")
    (tmp_path / "echo" / "echo.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_page_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [text for language, text in BLOCK.findall(PAGE.read_text()) if language == "console"]
    commands = [line.split()[2:] for block in blocks for line in block.splitlines()]
    assert len(commands) == 3
    outputs = []
    for command in commands:
        assert main(command) == 0
        outputs.append(capsys.readouterr().out)
    explained, listed, checked = outputs
    assert "our internal note 17" in explained
    assert "echo_method" in listed
    assert "off_policy" in checked
    assert "0 problems, 0 warnings" in checked


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
    with pytest.raises(ManifestError, match="option 'answers' is 'some'; legal: fresh, kept"):
        declared("{name: echo, answers: some}")
