"""The page is run as it stands: its files are written, its commands executed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ptharness
from ptharness.cli import main

pytest.importorskip("safetensors")
pytest.importorskip("transformers")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-an-engine.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files."""
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language in ("python", "yaml"):
            name, _, content = text.partition("\n")
            (tmp_path / name.removeprefix("# ")).write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(program: str) -> list[list[str]]:
    """The words after the program's name, of every command of the page that starts with it."""
    blocks = [text for language, text in BLOCK.findall(PAGE.read_text()) if language == "console"]
    lines = [line.removeprefix("$ ").split() for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines if line[0] == program]


def test_the_commands_of_the_page_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("page", folder / "test_bigram_engine.py")
    assert spec is not None
    assert spec.loader is not None
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    sys.modules.pop("bigram_engine")
    for seed, name in enumerate(("base", "trained")):
        page.write_bigram(folder / name, seed=seed)
    listing, run = commands("ptharness")
    assert main(listing) == 0
    assert "bigram" in capsys.readouterr().out
    assert main(run) == 0, capsys.readouterr().err
    results = ptharness.Results(folder / "results" / "tables")
    assert results.run["engine"]["identity"] == {"engine": "bigram", "version": "1", "scale": "2.0"}
    samples = results.samples
    assert len(samples) == 2 * (8 * 4 + 8)
    drawn = samples[samples["task"] == "arith_rev"]
    assert (drawn["logprob_nats"] < 0).all()
    assert drawn.groupby("checkpoint", observed=True)["completion"].nunique().min() > 8


def test_the_contract_of_the_page_is_kept(folder: Path) -> None:
    [words] = commands("python")
    ran = subprocess.run(
        [sys.executable, *words, "-q", "-p", "no:cacheprovider", "-rs"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    skipped = re.findall(r"^SKIPPED.*: (.*)$", ran.stdout, re.MULTILINE)
    assert sorted(skipped) == [
        "it does not promise swaps",
        "it does not promise to serve adapters",
        "it promises no distributions over this vocabulary",
    ]
