"""Which folders are taken for checkpoints, what they are called, and what is passed over."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ptharness.discovery.folders import find_folders
from ptharness.errors import ManifestError
from tests.discovery.planted import fresh, write_adapter, write_model

WEIGHTS = fresh(0)


def names(*directories: Path) -> dict[str, str]:
    return {folder.name: folder.directory.name for folder in find_folders(directories)[0]}


def test_checkpoints_adapters_and_steps_are_found_at_any_depth(tmp_path: Path) -> None:
    write_model(tmp_path / "base", WEIGHTS)
    write_model(tmp_path / "runs" / "sft", WEIGHTS)
    write_model(tmp_path / "runs" / "sft" / "checkpoint-100", WEIGHTS)
    write_model(tmp_path / "runs" / "sft" / "checkpoint-20", WEIGHTS)
    write_adapter(tmp_path / "runs" / "deep" / "er" / "lora", "base")
    (tmp_path / "runs" / "logs").mkdir()
    folders, passed_over = find_folders([tmp_path])
    found = {f.name: (f.is_adapter, f.step, f.stage and f.stage.name) for f in folders}
    assert found == {
        "base": (False, None, None),
        "sft": (False, None, None),
        "sft-100": (False, 100, "sft"),
        "sft-20": (False, 20, "sft"),
        "lora": (True, None, None),
    }
    assert passed_over == []


def test_equal_names_get_as_much_of_the_path_as_sets_them_apart(tmp_path: Path) -> None:
    for seed in ("one", "two"):
        write_model(tmp_path / seed / "sft", WEIGHTS)
        write_model(tmp_path / seed / "dpo" / "final", WEIGHTS)
    assert set(names(tmp_path)) == {"one-sft", "two-sft", "one-dpo-final", "two-dpo-final"}


def test_vague_and_illegal_names_become_legal_ones(tmp_path: Path) -> None:
    write_model(tmp_path / "my sft (v2)!" / "final", WEIGHTS)
    write_model(tmp_path / "-_." / "ünï", WEIGHTS)
    write_model(tmp_path / ("x" * 200), WEIGHTS)
    found = names(tmp_path)
    assert "my-sft-v2-final" in found
    assert all(name[0].isalnum() and len(name) <= 100 for name in found)


def test_a_snapshot_of_the_hubs_cache_has_the_models_name(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / "0123abcd"
    blobs = write_model(tmp_path / "blobs", WEIGHTS)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(file)
    found = names(tmp_path)
    assert found == {"tiny": "0123abcd", "blobs": "blobs"}


def test_a_folder_that_is_a_checkpoint_itself_may_be_named(tmp_path: Path) -> None:
    write_model(tmp_path / "base", WEIGHTS)
    assert names(tmp_path / "base", tmp_path) == {"base": "base"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config.json names no model_type"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "names no model_type"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 20), "not a whole safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 20), "not a whole safetensors"),
        (
            lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
            "only pickled weights (pytorch_model.bin)",
        ),
        (
            lambda f: (f / "config.json").write_text(
                json.dumps({"model_type": "x", "architectures": ["LlamaForSequenceClassification"]})
            ),
            "LlamaForSequenceClassification writes no text",
        ),
    ],
)
def test_what_looks_like_a_checkpoint_and_is_none_is_told(
    spoil: object, reason: str, tmp_path: Path
) -> None:
    assert callable(spoil)
    write_model(tmp_path / "good", WEIGHTS)
    spoil(write_model(tmp_path / "bad", WEIGHTS))
    folders, passed_over = find_folders([tmp_path])
    assert [folder.name for folder in folders] == ["good"]
    assert [left.directory.name for left in passed_over] == ["bad"]
    assert reason in passed_over[0].reason


def test_a_broken_adapter_is_told(tmp_path: Path) -> None:
    (write_adapter(tmp_path / "lora", "base") / "adapter_config.json").write_text("nonsense")
    assert "adapter_config.json cannot be read" in find_folders([tmp_path])[1][0].reason


def test_links_and_hidden_folders_are_not_followed(tmp_path: Path) -> None:
    write_model(tmp_path / "base", WEIGHTS)
    write_model(tmp_path / ".cache" / "hidden", WEIGHTS)
    outside = write_model(tmp_path.parent / f"{tmp_path.name}-outside", WEIGHTS)
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "base" / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "config.json")
    assert names(tmp_path) == {"base": "base"}


def test_many_files_and_folders_are_walked_quickly(tmp_path: Path) -> None:
    write_model(tmp_path / "base", WEIGHTS)
    for number in range(10_000):
        (tmp_path / "base" / f"file-{number}").touch()
    for number in range(2_000):
        (tmp_path / f"empty-{number}").mkdir()
    started = time.monotonic()
    assert names(tmp_path) == {"base": "base"}
    assert time.monotonic() - started < 5


def test_a_missing_folder_and_a_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere does not exist"):
        find_folders([tmp_path / "nowhere"])
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match="file is a file"):
        find_folders([tmp_path / "file"])
