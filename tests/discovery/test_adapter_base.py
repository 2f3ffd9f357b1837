"""Which names of a base are another one's than the parent's, and which cannot be told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ptharness.cli import main
from ptharness.discovery.adapter_base import check_base
from ptharness.errors import ManifestError
from ptharness.lineage import Checkpoint
from ptharness.testing import leave_adapter_config, write_checkpoint, write_safetensors
from tests.conftest import write_lora


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """runs/base, runs/sft, hub/models--org--Tiny-1B/...: each with weights of its own."""
    for number, name in enumerate(("runs/base", "runs/sft", CACHED)):
        write_checkpoint(tmp_path / name)
        write_safetensors(tmp_path / name / "model.safetensors", float(number))
    return tmp_path


CACHED = "hub/models--org--Tiny-1B/snapshots/abc"


def check(folder: Path, named: object, parent: str = "sft") -> None:
    """Check an adapter in runs/lora that names this base, under the manifest's parent."""
    sources = {"base": "runs/base", "sft": "runs/sft", "tiny": "org/Tiny-1B@main"}
    directories = {**sources, "tiny": CACHED}
    checkpoints = {
        name: Checkpoint(name, folder / directories[name], source)
        for name, source in sources.items()
    }
    adapter = leave_adapter_config(folder / "runs" / "lora", named)  # type: ignore[arg-type]
    check_base(adapter, checkpoints[parent], list(checkpoints.values()))


@pytest.mark.parametrize(
    ("named", "parent"),
    [
        ("../sft", "sft"),  # as a path, from the adapter's folder
        ("runs/sft/", "sft"),  # from a folder above it
        ("{folder}/runs/sft", "sft"),
        ("/cluster/user/runs/sft", "sft"),  # moved since
        ("sft", "sft"),
        ("/cluster/user/sft", "sft"),
        ("/cluster/user/run-7/checkpoint-500", "sft"),  # moved and renamed: nothing fits
        ("someone/sft-of-theirs", "sft"),  # a hub id against a folder cannot be compared
        ("org/Tiny-1B", "tiny"),
        ("org/Tiny-1B@v2", "tiny"),
        ("mirror/tiny-1b", "tiny"),  # the same model from another place
        ("/data/models/Tiny-1B", "tiny"),
        ("/cluster/model", "sft"),
        ("", "sft"),
        (None, "sft"),
        (["base"], "sft"),
        ("x" * 5000, "sft"),
    ],
)
def test_a_name_that_may_be_the_parents_passes(folder: Path, named: object, parent: str) -> None:
    named = named.format(folder=folder) if isinstance(named, str) else named
    check(folder, named, parent)


@pytest.mark.parametrize(
    ("named", "parent", "message"),
    [
        ("../base", "sft", r"names the base '../base', which is checkpoint 'base', and not 'sft'"),
        ("{folder}/runs/base", "sft", "set parent: base"),
        ("/cluster/runs/base", "sft", "set parent: base"),
        ("base", "sft", "set parent: base"),
        ("org/Tiny-1B", "sft", "which is checkpoint 'tiny'"),
        ("org/Other-3B", "tiny", r"which is another model than 'org/Tiny-1B', and not 'tiny'"),
        ("../other", "sft", r"which is .*/runs/other, and not 'sft'.*name the right parent"),
    ],
)
def test_another_base_is_named_with_the_remedy(
    folder: Path, named: str, parent: str, message: str
) -> None:
    write_safetensors(write_checkpoint(folder / "runs" / "other") / "model.safetensors", 9.0)
    with pytest.raises(ManifestError, match=message) as raised:
        check(folder, named.format(folder=folder), parent)
    assert str(folder / "runs" / "lora" / "adapter_config.json") in str(raised.value)
    assert "correct base_model_name_or_path in that file" in str(raised.value)


def test_a_copy_of_the_parent_is_the_parent(folder: Path) -> None:
    shutil.copytree(folder / "runs" / "sft", folder / "elsewhere")
    check(folder, str(folder / "elsewhere"))


def test_a_manifest_with_the_wrong_parent_is_an_error_of_check_and_run(
    edited: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    grpo = "grpo: {path: checkpoints/grpo, parent: sft, method: grpo}"
    lora = "lora: {adapter: checkpoints/lora, parent: %s, method: sft}"
    path = edited(grpo, lora % "sft")
    write_lora(path.parent / "checkpoints" / "lora", "checkpoints/base")
    for words in (["check", str(path)], ["run", str(path), "-o", str(path.parent / "results")]):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "checkpoints.lora.parent" in error
        assert "set parent: base" in error
    assert main(["check", str(edited(grpo, lora % "base"))]) == 0
