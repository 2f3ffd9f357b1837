from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptharness.discovery.references import FolderIndex, references
from tests.discovery.planted import fresh, write_adapter, write_model


def test_every_file_that_names_a_parent_is_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "lora", "../sft")
    (folder / "README.md").write_text("---\nbase_model: [../sft, org/base]\n---\n")
    (folder / "config.json").write_text(json.dumps({"_name_or_path": "runs/sft"}))
    (folder / "mergekit_config.yml").write_text("models: [{model: a}, {model: org/base}]\n")
    assert references(folder) == (
        ("../sft", "adapter_config.json"),
        ("org/base", "README.md"),
        ("a", "mergekit_config.yml"),
        ("runs/sft", "config.json"),
    )
    assert references(tmp_path / "nothing") == ()


@pytest.fixture
def index(tmp_path: Path) -> FolderIndex[str]:
    folders = {
        "base": tmp_path / "models" / "base",
        "sft": tmp_path / "runs" / "sft",
        "other-sft": tmp_path / "old" / "sft",
        "grpo": tmp_path / "runs" / "grpo",
        "tiny": tmp_path / "hub" / "models--org--tiny" / "snapshots" / "0123",
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    return FolderIndex(folders)


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("../sft", "sft"),
        ("sft", "sft"),  # as a path it lies beside; "old/sft" is no candidate then
        ("runs/sft", "sft"),
        ("models/base", "base"),
        ("base", "base"),
        ("./base/", "base"),
        ("/somewhere/else/models/base", "base"),
        ("/somewhere/else/base", "base"),
        ("org/base", "base"),
        ("org/tiny", "tiny"),
        ("org/tiny@main", "tiny"),
        ("elsewhere/old/sft", "other-sft"),
        ("org/llama", None),
        ("grpo", None),  # itself
        ("", None),
        ("/", None),
        ("..", None),
        ("x" * 5000, None),
        ("a\0b", None),
    ],
)
def test_a_reference_is_matched_as_path_name_or_hub_id(
    reference: str, found: str | None, index: FolderIndex[str], tmp_path: Path
) -> None:
    matched = index.find(reference, tmp_path / "runs" / "grpo")
    assert (matched and matched[0]) == found


@pytest.mark.parametrize(
    ("reference", "is_certain"),
    [("../sft", True), ("/gone/models/base", True), ("org/tiny", True), ("org/base", False)],
)
def test_one_word_that_meets_is_not_certain(
    reference: str, is_certain: bool, index: FolderIndex[str], tmp_path: Path
) -> None:
    matched = index.find(reference, tmp_path / "runs" / "grpo")
    assert matched is not None
    assert matched[1] is is_certain


def test_a_name_that_fits_several_is_no_match(index: FolderIndex[str], tmp_path: Path) -> None:
    assert index.find("sft", tmp_path / "models" / "base") is None
    assert index.find("/gone/runs/sft", tmp_path / "models" / "base") == ("sft", True)


def test_a_relative_path_is_taken_against_the_working_folder(
    index: FolderIndex[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "old")
    assert index.find("sft", Path("/somewhere")) == ("other-sft", True)
    write_model(tmp_path / "unused", fresh(0))


def test_an_endless_reference_is_none(tmp_path: Path) -> None:
    write_adapter(tmp_path / "lora", "a/" * 400_000)
    assert references(tmp_path / "lora") == ()
