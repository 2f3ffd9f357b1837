"""Tokenizers: the short way gives what `AutoTokenizer` gives, and bad folders are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

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


def made(kind: str) -> Any:
    """A tokenizer of bytes, or one with a space of its own before the first word."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if kind == "bytes":
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    else:
        words = ["<unk>", "a", "\u2581a", "b", "\u2581b", "\u2581"]
        core = Tokenizer(
            models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>")
        )
        core.normalizer = normalizers.Lowercase()
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
        core.decoder = decoders.Metaspace(prepend_scheme="first")
        core.add_special_tokens(["<unk>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def ids_of(made_tokenizer: Any, text: str) -> list[int]:
    found: list[int] = made_tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def test_tokens_have_the_text_that_they_have_within_a_text() -> None:
    of_bytes = made("bytes")
    sequences = [ids_of(of_bytes, text) for text in ("\u00e9a", "a\U0001f600b", "")]
    assert tokenizer.token_texts(of_bytes, sequences) == [
        ["\u00e9", "", "a"],
        ["a", "\U0001f600", "", "", "", "b"],
        [],
    ]
    assert tokenizer.token_texts(of_bytes, []) == []
    assert tokenizer.token_texts(of_bytes, [[]]) == [[]]
    # A character that is cut off stays broken, and what follows it is whole.
    assert tokenizer.token_texts(of_bytes, [sequences[1][:3]]) == [["a", "\ufffd", "\ufffd"]]
    cut = [*sequences[1][:3], *ids_of(of_bytes, "b\u00e9")]
    assert tokenizer.token_texts(of_bytes, [cut]) == [["a", "\ufffd", "\ufffd", "b", "\u00e9", ""]]


def test_the_space_before_a_word_is_part_of_its_token() -> None:
    spaced = made("spaces")
    ids = spaced.convert_tokens_to_ids(["\u2581", "a", "\u2581", "b"])
    assert spaced.decode(ids[2:]) == "b", "decoded alone, the space is lost"
    assert tokenizer.token_texts(spaced, [ids]) == [[" ", "a", " ", "b"]]


def test_what_a_tokenizer_cannot_spell() -> None:
    of_bytes, spaced = made("bytes"), made("spaces")
    for text in ("a b", "\u00e9 \U0001f600", "", "\n"):
        assert tokenizer.spells(of_bytes, ids_of(of_bytes, text), text)
    assert tokenizer.spells(spaced, ids_of(spaced, "a b"), "a b")
    assert not tokenizer.spells(spaced, ids_of(spaced, "a c"), "a c"), "an unknown character"
    assert not tokenizer.spells(spaced, ids_of(spaced, "A b"), "A b"), "lower-cased"
    assert not tokenizer.spells(of_bytes, ids_of(of_bytes, "ab"), "a b"), "a space is lost"


def test_special_tokens_are_those_that_decoding_leaves_out() -> None:
    zoo = tokenizer.load_tokenizer(CHECKPOINT)
    special = tokenizer.special_token_ids(zoo)
    assert special == {
        token
        for token in range(52)
        if not tokenizer.decode(zoo, [[token]], skip_special_tokens=True)[0]
        and tokenizer.decode(zoo, [[token]], skip_special_tokens=False)[0]
    }
    assert len(special) == 5
