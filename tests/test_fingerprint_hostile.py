"""A checkpoint's files are written by strangers: each of these is one error, at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ptharness.errors import CheckpointError
from ptharness.fingerprint import (
    MOST_TOKENIZER_BYTES,
    position_limit,
    read_config,
    tokenizer_digest,
    weight_files,
)
from ptharness.regular_files import MOST_CONFIG_BYTES
from ptharness.safetensors_header import (
    MOST_HEADER_BYTES,
    TensorEntry,
    safetensors_header,
    tensor_shapes,
)
from ptharness.stop_tokens import stop_token_ids


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


def test_a_shard_that_is_no_file_is_refused(tmp_path: Path) -> None:
    write_weights(tmp_path / "model.safetensors", "{}", 0)
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(CheckpointError, match=r"pipe\.safetensors: no file that can be read"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 200 + b"1" + b"}" * 200,
        b"{}" + b" " * MOST_CONFIG_BYTES,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_hostile_config_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(tmp_path)


@pytest.mark.timeout(20)
def test_a_config_that_is_a_pipe_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_config(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_config(tmp_path) == {"a": 1}


@pytest.mark.parametrize("inner", [[1], "text", 7, None])
def test_a_text_config_that_is_no_object_is_passed_over(inner: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": inner, "n_positions": 8}))
    assert position_limit(tmp_path) == 8


@pytest.mark.parametrize(
    "config",
    [{"max_position_embeddings": 0}, {"text_config": {"max_position_embeddings": -5}}],
)
def test_a_model_without_a_position_is_an_error(config: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json: max_position_embeddings is (0|-5);"):
        position_limit(tmp_path)


@pytest.mark.parametrize(
    "value", ['"abc"', '"7"', "[[1]]", "1e999", "NaN", '{"a": 1}', "true", "[2, null]"]
)
def test_an_end_that_is_no_id_is_an_error(value: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"eos_token_id": {value}}}')
    with pytest.raises(CheckpointError, match=r"config\.json: eos_token_id .* from 0"):
        stop_token_ids(tmp_path)


@pytest.mark.parametrize(
    ("named", "vocabulary", "file"),
    [
        ('{"eos_token": ["a"]}', "{}", "tokenizer_config.json"),
        ('{"eos_token": {"content": 1}}', "{}", "tokenizer_config.json"),
        ("[]", "{}", "tokenizer_config.json"),
        *(
            ('{"eos_token": "a"}', content, "tokenizer.json")
            for content in [
                "[]",
                '{"added_tokens": [1]}',
                '{"added_tokens": 1}',
                '{"added_tokens": [{"content": "a"}]}',
                '{"added_tokens": [{"content": "a", "id": "x"}]}',
                '{"model": [1]}',
                '{"model": {"vocab": {"a": [1]}}}',
            ]
        ),
    ],
)
def test_a_hostile_tokenizer_is_an_error(
    named: str, vocabulary: str, file: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(named)
    (tmp_path / "tokenizer.json").write_text(vocabulary)
    with pytest.raises(CheckpointError, match=f"{file}: .*(must|is not|from 0)"):
        stop_token_ids(tmp_path)


@pytest.mark.timeout(20)
def test_only_regular_files_of_bounded_size_are_a_tokenizer(tmp_path: Path) -> None:
    empty = tokenizer_digest(tmp_path)
    templates = tmp_path / "additional_chat_templates"
    (templates / "folder.jinja").mkdir(parents=True)
    os.mkfifo(templates / "pipe.jinja")
    os.mkfifo(tmp_path / "vocab.json")
    assert tokenizer_digest(tmp_path) == empty
    (templates / "x.jinja").write_text("x")
    assert tokenizer_digest(tmp_path) != empty
    with (tmp_path / "merges.txt").open("wb") as file:
        file.truncate(MOST_TOKENIZER_BYTES + 1)
    with pytest.raises(CheckpointError, match=r"merges\.txt: holds 200,000,001 bytes"):
        tokenizer_digest(tmp_path)


def test_an_end_of_minus_one_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": [-1, 2]}')
    assert stop_token_ids(tmp_path) == (2,)
