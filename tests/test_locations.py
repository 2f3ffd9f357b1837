from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from ptharness.errors import ManifestError
from ptharness.locations import find_file, find_folder


def test_a_relative_path_starts_at_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "base").mkdir(parents=True)
    assert find_folder("checkpoints/base", tmp_path) == tmp_path / "checkpoints" / "base"
    assert find_folder(str(tmp_path / "checkpoints"), Path("/")) == tmp_path / "checkpoints"


def test_a_missing_folder_names_the_absolute_path_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ManifestError) as raised:
        find_folder("checkpoints/base", tmp_path)
    assert f"no such folder: {tmp_path}/checkpoints/base" in str(raised.value)
    assert "hub id `org/name@revision`" in str(raised.value)


def test_a_file_is_no_checkpoint_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(ManifestError, match="name the folder it lies in"):
        find_folder("model.safetensors", tmp_path)
    with pytest.raises(ManifestError, match="is a folder, not a file"):
        find_file(".", tmp_path)
    with pytest.raises(ManifestError, match="does not exist"):
        find_file("absent.jsonl", tmp_path)
    assert find_file("model.safetensors", tmp_path) == tmp_path / "model.safetensors"


@pytest.mark.parametrize("source", ["\0", "~nobody-here/x", "a" * 5000])
def test_what_is_no_path_at_all_is_an_error(source: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        find_folder(source, tmp_path)


def hub_cache(folder: Path, files: tuple[str, ...]) -> Path:
    """A hub cache with org/name at revision v1, as huggingface_hub lays it out."""
    repository = folder / "models--org--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text("0" * 40)
    for name in files:
        (snapshot / name).write_text("{}")
    return snapshot


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_a_hub_id_is_found_in_the_local_cache_first(offline_hub: Path, tmp_path: Path) -> None:
    snapshot = hub_cache(offline_hub, ("config.json", "model.safetensors"))
    assert find_folder("org/name@v1", tmp_path) == snapshot


def test_a_local_folder_wins_over_a_hub_id(offline_hub: Path, tmp_path: Path) -> None:
    hub_cache(offline_hub, ("config.json", "model.safetensors"))
    (tmp_path / "org" / "name@v1").mkdir(parents=True)
    assert find_folder("org/name@v1", tmp_path) == tmp_path / "org" / "name@v1"


def test_a_cached_snapshot_without_weights_is_not_taken(offline_hub: Path, tmp_path: Path) -> None:
    hub_cache(offline_hub, ("config.json",))
    with pytest.raises(ManifestError) as raised:
        find_folder("org/name@v1", tmp_path)
    assert "hub id 'org/name@v1' gave no *.safetensors file" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_hub_id_that_cannot_be_had_is_one_line(offline_hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as raised:
        find_folder("org/other", tmp_path)
    assert f"no folder {tmp_path}/org/other, and hub id 'org/other' cannot be had" in str(
        raised.value
    )
    assert "\n" not in str(raised.value)
