from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ptharness.edges import chat_template, native_differences, shape_differences
from ptharness.errors import CheckpointError
from ptharness.lineage import Checkpoint
from ptharness.regular_files import MOST_CONFIG_BYTES
from tests.conftest import write_checkpoint


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Checkpoint, Checkpoint]:
    """Two checkpoints that differ in nothing."""
    folders = [write_checkpoint(tmp_path / name) for name in ("parent", "child")]
    parent, child = (Checkpoint(folder.name, folder, folder.name) for folder in folders)
    return parent, child


def test_equal_folders_do_not_differ(pair: tuple[Checkpoint, Checkpoint]) -> None:
    assert native_differences(*pair) == []
    assert shape_differences(*pair) == []


def test_another_vocabulary_is_said(pair: tuple[Checkpoint, Checkpoint]) -> None:
    other = {"model": {"vocab": {"a": 0, "b": 1}}}
    (pair[1].directory / "tokenizer.json").write_text(json.dumps(other))
    assert native_differences(*pair) == ["tokenizers differ"]


def test_padding_is_no_difference_of_tokenizers(pair: tuple[Checkpoint, Checkpoint]) -> None:
    padded = {"model": {"vocab": {"a": 0}}, "padding": {"strategy": "longest"}}
    (pair[1].directory / "tokenizer.json").write_text(json.dumps(padded))
    assert native_differences(*pair) == []


def test_tokenizers_that_cannot_be_parsed_differ_where_their_bytes_do(
    pair: tuple[Checkpoint, Checkpoint],
) -> None:
    for checkpoint, depth in zip(pair, (200, 300), strict=True):
        nested = '{"a":' * depth + "1" + "}" * depth
        (checkpoint.directory / "tokenizer.json").write_text(nested)
    assert native_differences(*pair) == ["tokenizers differ"]


def test_tokenizers_of_other_files_are_compared_too(pair: tuple[Checkpoint, Checkpoint]) -> None:
    for checkpoint in pair:
        (checkpoint.directory / "tokenizer.json").unlink()
        (checkpoint.directory / "tokenizer.model").write_text("same")
    assert native_differences(*pair) == []
    (pair[1].directory / "tokenizer.model").write_text("other")
    assert native_differences(*pair) == ["tokenizers differ"]


def test_chat_templates_are_compared_wherever_they_stand(
    pair: tuple[Checkpoint, Checkpoint],
) -> None:
    parent, child = pair
    (child.directory / "chat_template.jinja").write_text("{{ x }}")
    assert native_differences(*pair) == ["chat template: parent has none, child has one"]
    old_place = {"chat_template": "{{ x }}"}
    (parent.directory / "tokenizer_config.json").write_text(json.dumps(old_place))
    assert native_differences(*pair) == []
    (parent.directory / "tokenizer_config.json").write_text('{"chat_template": "{{ y }}"}')
    assert native_differences(*pair) == ["chat templates differ"]


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"chat_template": null}'])
def test_a_broken_tokenizer_config_is_no_template(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    assert chat_template(tmp_path) is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_template_that_cannot_be_read_to_an_end_is_none(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    assert chat_template(tmp_path) is None
    (tmp_path / name).unlink()
    with (tmp_path / name).open("wb") as file:
        file.truncate(MOST_CONFIG_BYTES + 1)
    assert chat_template(tmp_path) is None
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert chat_template(tmp_path) is None


@pytest.mark.timeout(60)
def test_a_tokenizer_that_is_a_pipe_is_absent(pair: tuple[Checkpoint, Checkpoint]) -> None:
    for checkpoint in pair:
        (checkpoint.directory / "tokenizer.json").unlink()
    os.mkfifo(pair[1].directory / "tokenizer.json")
    assert native_differences(*pair) == []


def test_other_stop_tokens_are_said(pair: tuple[Checkpoint, Checkpoint]) -> None:
    (pair[1].directory / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    assert native_differences(*pair) == ["end-of-sequence tokens differ"]


def test_another_architecture_names_the_sizes(tmp_path: Path) -> None:
    folders = [write_checkpoint(tmp_path / f"w{w}", hidden_size=w) for w in (8, 16)]
    pair = [Checkpoint(folder.name, folder, "") for folder in folders]
    assert shape_differences(*pair) == ["hidden_size 8 / 16"]


def test_a_checkpoint_that_cannot_be_read_is_an_error(
    pair: tuple[Checkpoint, Checkpoint],
) -> None:
    (pair[1].directory / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        native_differences(*pair)
