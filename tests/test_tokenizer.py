"""Tokenizers: the short way gives what `AutoTokenizer` gives, and bad folders are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ptharness import tokenizer
from ptharness.errors import CheckpointError

CHECKPOINT = Path(__file__).parents[1] / "plugins" / "ptharness_zoo" / "checkpoints" / "sft"


@pytest.mark.parametrize("named", tokenizer._PLAIN_CLASSES)
def test_the_short_way_equals_auto_tokenizer(named: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = shutil.copytree(CHECKPOINT, tmp_path / "copy")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": named}))
    assert tokenizer._is_plain(folder)
    ours = tokenizer.load_tokenizer(folder)
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert type(ours) is type(theirs)
    assert ours.chat_template == theirs.chat_template
    assert ours.special_tokens_map == theirs.special_tokens_map
    text = "<user>add 12+34<bot>\n??<eos>"
    assert ours(text) == theirs(text)
    ids = list(range(52))
    assert ours.decode(ids) == theirs.decode(ids)


def test_model_types_of_the_short_way_are_not_special_to_auto_tokenizer() -> None:
    from transformers.models.auto import tokenization_auto

    special = tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
    assert not special & set(tokenizer._PLAIN_MODELS)


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path}: its tokenizer cannot be loaded"):
        tokenizer.load_tokenizer(tmp_path)


def test_code_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKPOINT, tmp_path / "copy")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": ["own.Own", None]}}
    config["tokenizer_class"] = "Own"
    path.write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: ...\n")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        tokenizer.load_tokenizer(folder)
    assert not (tmp_path / "ran").exists()
