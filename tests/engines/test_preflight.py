"""Broken checkpoints are recognised from their files, and named, before an engine sees them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptharness.engines import preflight, swap
from ptharness.errors import CheckpointError
from tests.engines.tiny import edit_tensors, make_checkpoint

pytest.importorskip("torch")
pytest.importorskip("transformers")
NORM = "model.norm.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
HEAD = "lm_head.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("preflight") / "good", seed=1)


@pytest.fixture
def broken(good: Path, tmp_path: Path) -> Path:
    """A copy of a good checkpoint, to be broken."""
    return Path(shutil.copytree(good, tmp_path / "broken"))


def check_everything(directory: Path, running: Path | None = None) -> None:
    """What the engine does with the files before it loads them."""
    files = preflight.inspect_files(directory)
    if running:
        swap.check_same_tensors(preflight.inspect_files(running), files)
    preflight.check_tensors(files)
    preflight.check_complete(files)


def test_a_good_checkpoint_passes(good: Path) -> None:
    check_everything(good, running=good)


def _rename(tensors: dict[str, Any]) -> None:
    tensors[DOWN.replace("down", "under")] = tensors.pop(DOWN)


def _not_a_number(tensors: dict[str, Any]) -> None:
    tensors[DOWN][3, 5] = float("nan")


def _infinite(tensors: dict[str, Any]) -> None:
    tensors[NORM][0] = float("inf")


def _other_head(tensors: dict[str, Any]) -> None:
    tensors[HEAD] = tensors["model.embed_tokens.weight"] + 1


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing norm": (lambda t: t.pop(NORM), NORM),
    "missing linear": (lambda t: t.pop(DOWN), DOWN),
    "renamed": (_rename, "under_proj"),
    "wrong shape": (lambda t: t.update({DOWN: t[DOWN][:, :-1].contiguous()}), DOWN),
    "not a number": (_not_a_number, f"{DOWN}' holds 1 values"),
    "infinite": (_infinite, NORM),
    "tied, but another head": (_other_head, HEAD),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "swapped in"])
def test_a_fault_is_named(fault: str, first: bool, good: Path, broken: Path) -> None:
    edit, named = FAULTS[fault]
    edit_tensors(broken, edit)
    with pytest.raises(CheckpointError) as caught:
        check_everything(broken, running=None if first else good)
    assert named in str(caught.value)
    assert str(broken) in str(caught.value)


def test_an_unknown_tensor_is_refused_before_a_swap(good: Path, broken: Path) -> None:
    edit_tensors(broken, lambda tensors: tensors.update({"v_head.weight": tensors[NORM] * 1}))
    with pytest.raises(CheckpointError, match=r"v_head\.weight"):
        check_everything(broken, running=good)


def test_an_equal_stored_head_is_accepted(good: Path, broken: Path) -> None:
    edit_tensors(broken, lambda t: t.update({HEAD: t["model.embed_tokens.weight"].clone()}))
    check_everything(broken, running=good)


@pytest.mark.parametrize("left", [0.5, 0.99, 0.0])
def test_a_file_cut_short_is_named(left: float, broken: Path) -> None:
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a whole"):
        preflight.inspect_files(broken)


def test_only_pickled_weights_are_refused(broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="convert it to safetensors"):
        preflight.inspect_files(broken)


def test_two_sets_of_weights_are_refused(broken: Path) -> None:
    shutil.copy(broken / "model.safetensors", broken / "again.safetensors")
    with pytest.raises(CheckpointError, match=r"again\.safetensors and in model\.safetensors"):
        preflight.inspect_files(broken)


def test_a_shard_that_the_index_names_must_be_there(broken: Path) -> None:
    index = {"weight_map": {NORM: "model-00002-of-00002.safetensors"}}
    (broken / preflight.INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        preflight.inspect_files(broken)


def test_an_index_can_not_point_outside_its_folder(broken: Path) -> None:
    index = {"weight_map": {NORM: "../elsewhere/model.safetensors"}}
    (broken / preflight.INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="outside its folder"):
        preflight.inspect_files(broken)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rope_parameters", {"rope_type": "default", "rope_theta": 5000.0}), ("rms_norm_eps", 0.1)],
)
def test_another_config_needs_another_engine(
    key: str, value: object, good: Path, broken: Path
) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {key: value}))
    reason = swap.why_not(preflight.inspect_files(good), preflight.inspect_files(broken))
    assert f"{key} = {value!r}" in reason


def test_other_end_of_sequence_ids_need_no_other_engine(good: Path, broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"eos_token_id": 5}))
    assert swap.why_not(preflight.inspect_files(good), preflight.inspect_files(broken)) == ""


def test_the_stored_dtype_is_that_of_the_weights(tmp_path: Path) -> None:
    half = make_checkpoint(tmp_path / "half", seed=1, dtype="bfloat16")
    config = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    assert preflight.stored_dtype(preflight.inspect_files(half)) == "bfloat16"
