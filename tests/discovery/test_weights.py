from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ptharness.discovery.weights import distances, reach, sample_weights, shared_distance
from ptharness.errors import CheckpointError
from tests.discovery.planted import SHAPES, fresh, trained, write_model, write_weights


@pytest.mark.parametrize("dtype", ["F32", "F16", "F64", "BF16"])
def test_weights_are_read_as_they_were_written(dtype: str, tmp_path: Path) -> None:
    weights = fresh(0)
    write_model(tmp_path / "model", weights, dtype=dtype)
    sample = sample_weights(tmp_path / "model")
    tolerance = {"F16": 1e-3, "BF16": 8e-3}.get(dtype, 1e-7)
    for name, values in weights.items():
        np.testing.assert_allclose(sample.tensors[name], values.ravel(), rtol=tolerance, atol=1e-4)


def test_distances_are_relative_and_symmetric(tmp_path: Path) -> None:
    parent = fresh(0)
    for name, weights in {"a": parent, "b": trained(parent, 1, 0.1), "c": parent}.items():
        write_model(tmp_path / name, weights)
    far = distances([sample_weights(tmp_path / name) for name in "abc"])
    assert far[0, 1] == pytest.approx(0.1, rel=0.02)
    assert far[0, 2] == 0
    np.testing.assert_array_equal(far, far.T)
    np.testing.assert_array_equal(np.diag(far), 0)


def test_tiny_distances_do_not_drown_in_rounding(tmp_path: Path) -> None:
    parent = fresh(0)
    moved = {name: values.copy() for name, values in parent.items()}
    moved["model.norm.weight"][0] += 1e-4
    write_model(tmp_path / "a", parent)
    write_model(tmp_path / "b", moved)
    norm = math.sqrt(sum(float((v.astype(np.float64) ** 2).sum()) for v in parent.values()))
    far = distances([sample_weights(tmp_path / name) for name in "ab"])
    assert far[0, 1] == pytest.approx(1e-4 / norm, rel=0.01)


def test_a_large_model_is_sampled_the_same_way_for_all(tmp_path: Path) -> None:
    shapes = {f"layer.{number}": (64, 8) for number in range(100)}
    parent = fresh(0, shapes)
    write_model(tmp_path / "a", parent)
    write_model(tmp_path / "b", trained(parent, 1, 0.1))
    one, other = (sample_weights(tmp_path / name, most=4800) for name in "ab")
    assert one.tensors.keys() == other.tensors.keys()
    assert {values.size for values in one.tensors.values()} == {100}
    assert distances([one, other])[0, 1] == pytest.approx(0.1, rel=0.1)


def test_several_files_are_one_model(tmp_path: Path) -> None:
    weights = fresh(0)
    write_model(tmp_path / "whole", weights)
    write_model(tmp_path / "split", {})
    (tmp_path / "split" / "model.safetensors").unlink()
    for number, name in enumerate(weights):
        write_weights(tmp_path / "split" / f"model-{number}.safetensors", {name: weights[name]})
    pair = [sample_weights(tmp_path / name) for name in ("whole", "split")]
    assert pair[0].shape == pair[1].shape
    assert distances(pair)[0, 1] == 0


def test_quantised_tensors_are_left_out_and_broken_offsets_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", fresh(0))
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content.replace(b'"F32"', b'"F8X"', 1))
    assert len(sample_weights(folder).tensors) == len(SHAPES) - 1
    (folder / "model.safetensors").write_bytes(content.replace(b'"dtype"', b'"dtypo"', 1))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        sample_weights(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    broken = {name: values.copy() for name, values in fresh(0).items()}
    broken["model.layers.0.mlp.weight"][0, 0] = value
    write_model(tmp_path / "diverged", broken)
    with pytest.raises(CheckpointError, match="holds NaN or infinite weights"):
        sample_weights(tmp_path / "diverged")


def test_a_student_cut_out_of_its_teacher_is_nearest_to_it(tmp_path: Path) -> None:
    teacher = fresh(0)
    student = {n: v for n, v in trained(teacher, 1, 0.2).items() if "layers.1" not in n}
    student["model.extra"] = fresh(1)["model.norm.weight"]
    write_model(tmp_path / "teacher", teacher)
    write_model(tmp_path / "student", student)
    write_model(tmp_path / "stranger", fresh(2))
    write_model(tmp_path / "alien", {"other.weight": fresh(3)["model.norm.weight"]})
    of = {name: sample_weights(tmp_path / name) for name in ("teacher", "stranger", "alien")}
    own = sample_weights(tmp_path / "student")
    near, far = shared_distance(own, of["teacher"]), shared_distance(own, of["stranger"])
    assert near is not None
    assert far is not None
    assert near < 0.3 < 1.2 < far
    assert shared_distance(own, of["alien"]) is None


def test_the_learning_rates_bound_how_far_adam_can_go(tmp_path: Path) -> None:
    """Plain Adam with bias correction, on gradients that never change sign: the worst case."""
    weights = fresh(0)
    write_model(tmp_path / "parent", weights)
    rate, steps = 1e-3, 50
    moved = {name: values - np.float32(rate * steps) for name, values in weights.items()}
    write_model(tmp_path / "child", moved)
    pair = [sample_weights(tmp_path / name) for name in ("parent", "child")]
    assert distances(pair)[0, 1] < reach(pair[1], rate * steps) < 3 * distances(pair)[0, 1]
    assert reach(pair[1], None) == math.inf


def test_a_quantised_copy_is_of_another_shape_and_an_empty_file_of_none(tmp_path: Path) -> None:
    write_model(tmp_path / "plain", fresh(0))
    folder = write_model(tmp_path / "quantised", fresh(0))
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content.replace(b'"F32"', b'"F8X"', 1))
    write_model(tmp_path / "empty", {})
    plain, quantised, empty = (
        sample_weights(tmp_path / name) for name in ("plain", "quantised", "empty")
    )
    assert plain.shape != quantised.shape
    assert empty.vector.size == 0
    assert distances([empty, empty]).tolist() == [[0, 0], [0, 0]]
    assert shared_distance(plain, empty) is None
    assert reach(empty, 1.0) == math.inf
