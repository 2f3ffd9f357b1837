"""Tables and analysis of what is stored, without any engine."""

from __future__ import annotations

import shutil

import pytest

from ptharness import Results
from ptharness.cli import main
from tests.evaluation.conftest import PLUGIN, Toys


def analyze(toys: Toys) -> int:
    manifest = str(toys.folder / "lineage.yaml")
    return main(["--plugin", str(PLUGIN), "analyze", manifest, "-o", str(toys.out)])


def test_a_manifest_is_analysed_from_its_units(
    toys: Toys, capsys: pytest.CaptureFixture[str]
) -> None:
    toys.run()
    units = toys.units("generation")
    shutil.rmtree(toys.out / "toys")
    assert analyze(toys) == 0
    assert "what each stage did" in capsys.readouterr().out
    assert toys.units("generation") == units
    results = Results(toys.out / "toys")
    assert set(results.verdicts["relation"]) == {"edge", "path"}
    assert (results.path / "report.html").is_file()


def test_what_is_not_stored_is_named_and_published_tables_stay(
    toys: Toys, capsys: pytest.CaptureFixture[str]
) -> None:
    toys.run()
    before = (toys.out / "toys" / "items.parquet").read_bytes()
    toys.manifest("[toy]", "[{task: toy, samples: 40}]")
    assert analyze(toys) == 2
    error = capsys.readouterr().err
    assert "holds no complete checkpoint x task" in error
    assert "`ptharness run` generates what is missing" in error
    assert (toys.out / "toys" / "items.parquet").read_bytes() == before


def test_the_part_that_is_stored_is_shown(toys: Toys, capsys: pytest.CaptureFixture[str]) -> None:
    toys.run()
    toys.task("toy_other", prompt="another {}")
    toys.manifest("[toy]", "[toy, toy_other]")
    assert analyze(toys) == 1
    captured = capsys.readouterr()
    assert "failed: base x toy_other: " in captured.err
    assert "completions are not stored; `ptharness run` generates them" in captured.err
    assert "what each stage did" in captured.out
