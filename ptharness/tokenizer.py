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
