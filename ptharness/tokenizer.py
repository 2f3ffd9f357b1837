"""The tokenizer of a checkpoint: loaded from its own folder, never running its code.

Texts come out as from lm-eval's `hf` model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptharness.errors import CheckpointError

_PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
_PLAIN_MODELS = ("llama",)
"""Model types for which `AutoTokenizer` takes a plain class as the folder names it. (For some
others it knows better.) Finding that out imports all of transformers and torch: half a minute
against four seconds on the smallest machines. A test compares the two."""

BROKEN = "\ufffd"
"""What stands for bytes that are no character."""
_MOST_BYTES = 4
"""Of a character in UTF-8."""


def load_tokenizer(directory: Path) -> Any:
    """The `transformers` tokenizer in a folder, as lm-eval's `hf` model loads it.

    Raises `CheckpointError` where the folder holds none that can be read without
    running code from it.
    """
    try:
        if _is_plain(directory):
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            str(directory), trust_remote_code=False, local_files_only=True
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{directory}: its tokenizer cannot be loaded ({type(error).__name__}: {reason}); "
            "a checkpoint folder needs tokenizer.json and tokenizer_config.json"
        ) from error


def decode(
    tokenizer: Any, sequences: Sequence[Sequence[int]], *, skip_special_tokens: bool
) -> list[str]:
    """The text of each sequence of token ids, not cut at stop strings."""
    texts: list[str] = tokenizer.batch_decode(
        [list(ids) for ids in sequences], skip_special_tokens=skip_special_tokens
    )
    return texts


def special_token_ids(tokenizer: Any) -> set[int]:
    """The tokens that `decode` leaves out with `skip_special_tokens`."""
    added = tokenizer.added_tokens_decoder.items()
    return {*tokenizer.all_special_ids, *(number for number, token in added if token.special)}


def texts_within(tokenizer: Any, sequences: Sequence[Sequence[int]]) -> list[str]:
    """The text of each sequence of token ids as it stands after another text.

    Alone, some tokenizers leave out the space before its first word.
    """
    if not sequences:
        return []
    anchor = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = [anchor, *([*anchor, *ids] for ids in sequences)]
    before, *texts = decode(tokenizer, whole, skip_special_tokens=False)
    return [text.removeprefix(before) for text in texts]


def spells(tokenizer: Any, ids: Sequence[int], text: str) -> bool:
    """Whether token ids are this text and not one with unknown characters, lower-cased or
    otherwise normalised: only then is their likelihood that of the text.

    The space that some tokenizers put before a text is no difference.
    """
    return texts_within(tokenizer, [ids])[0] in (text, f" {text}")


def token_texts(tokenizer: Any, sequences: Sequence[Sequence[int]]) -> list[list[str]]:
    """The text of every token of each sequence, as it stands within a text.

    A character that several tokens make up is the first one's; the others are empty.
    """
    distinct = sorted({token for ids in sequences for token in ids})
    alone = dict(
        zip(distinct, texts_within(tokenizer, [[token] for token in distinct]), strict=True)
    )
    made = []
    for ids in sequences:
        texts = [alone[token] for token in ids]
        place = 0
        while place < len(ids):
            end = place + 1
            while BROKEN in texts[place] and end < min(place + _MOST_BYTES, len(ids)):
                end += 1
                (whole,) = texts_within(tokenizer, [ids[place:end]])
                if BROKEN not in whole:
                    texts[place:end] = [whole, *[""] * (end - place - 1)]
            place = end if BROKEN not in texts[place] else place + 1
        made.append(texts)
    return made


def _is_plain(directory: Path) -> bool:
    try:
        model = json.loads((directory / "config.json").read_bytes())
        tokenizer = json.loads((directory / "tokenizer_config.json").read_bytes())
        named = (model["model_type"], tokenizer["tokenizer_class"])
        extra = "auto_map" in tokenizer or "auto_map" in model
        has_file = (directory / "tokenizer.json").is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return has_file and not extra and named[0] in _PLAIN_MODELS and named[1] in _PLAIN_CLASSES
