"""A checkpoint's files are written by strangers: each of these is one error, at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ptharness.errors import CheckpointError
from ptharness.fingerprint import (
    MOST_HEADER_BYTES,
    TensorEntry,
    safetensors_header,
    tensor_shapes,
)


def entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def write_weights(path: Path, header: str, data_bytes: int = 8) -> Path:
    content = header.encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(data_bytes))
    return path


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "null",
        '{"w": ' + "[" * 100_000,
        '{"w": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"w": 1}',
        '{"w": {"data_offsets": [0]}}',
        *(
            json.dumps({"w": value})
            for value in [
                entry(shape=["2"]),
                entry(shape=[None]),
                entry(shape=[[2]]),
                entry(shape=[-2]),
                entry(shape=[-1, -2]),
                entry(shape=[2, True]),
                entry(shape=[2.0]),
                entry(shape=[2**70]),
                entry(shape=[2**62] * 64),
                entry(shape=[1] * 1000),
                entry(shape=[3]),
                entry(shape=None),
                entry(shape=[float("inf")]),
                entry(offsets=[8, 0]),
                entry(offsets=[-8, 0]),
                entry(offsets=[0, 16]),
                entry(offsets=[0, 8, 8]),
                entry(offsets={"0": 8}),
                entry(offsets=[False, 8]),
                entry(dtype=None),
                entry(dtype=["F32"]),
            ]
        ),
        json.dumps({"v": entry(), "w": entry()}),
        json.dumps({"v": entry([1], [0, 4]), "w": entry([0], [8, 8])}),
        '{"w": {"shape": [' + "9" * 5000 + "]}}",
    ],
)
def test_a_hostile_header_is_an_error_of_one_line(header: str, tmp_path: Path) -> None:
    file = write_weights(tmp_path / "model.safetensors", header)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a whole") as raised:
        tensor_shapes(file)
    assert len(str(raised.value).removeprefix(str(tmp_path))) < 400
    assert "\n" not in str(raised.value)


def test_a_header_says_where_its_tensors_lie(tmp_path: Path) -> None:
    header = json.dumps({"w": entry(), "new": entry([7], [8, 9], "F1"), "__metadata__": {}})
    file = write_weights(tmp_path / "model.safetensors", header, 9)
    first = 8 + len(header)
    assert safetensors_header(file) == {
        "w": TensorEntry("F32", (2,), first, first + 8),
        "new": TensorEntry("F1", (7,), first + 8, first + 9),
    }
    safetensors_header(file).clear()
    assert tensor_shapes(file) == {"w": (2,), "new": (7,)}
    write_weights(file, "{}", 0)
    assert tensor_shapes(file) == {}


def test_a_large_header_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes((MOST_HEADER_BYTES + 1).to_bytes(8, "little"))
    with pytest.raises(CheckpointError, match="at most 20,000,000 bytes"):
        tensor_shapes(file)


@pytest.mark.timeout(20)
def test_weights_that_are_no_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "absent"):
        with pytest.raises(CheckpointError, match=str(path)):
            tensor_shapes(path)
