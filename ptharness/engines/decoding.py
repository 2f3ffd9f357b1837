"""Turn token ids into text with a checkpoint's own tokenizer, as lm-eval's `hf` model does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ptharness.errors import CheckpointError
from ptharness.lineage import Checkpoint


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's transformers tokenizer, from its folder and without running its code.

    Raises `CheckpointError` where there is none, or where it comes with code of its own.
    """
    from transformers import AutoTokenizer

    directory = checkpoint.tokenizer_directory
    try:
        return AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{directory}: its tokenizer cannot be loaded: {reason or type(error).__name__}"
        ) from error


def decode(
    tokenizer: Any, sequences: Sequence[Sequence[int]], *, skip_special_tokens: bool
) -> list[str]:
    """The text of each sequence of token ids, not cut at stop strings."""
    texts: list[str] = tokenizer.batch_decode(
        [list(ids) for ids in sequences], skip_special_tokens=skip_special_tokens
    )
    return texts
