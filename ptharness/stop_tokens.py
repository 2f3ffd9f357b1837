"""Which tokens end a completion of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptharness.errors import CheckpointError
from ptharness.regular_files import is_regular, read_object, short

MOST_VOCABULARY_BYTES = 64_000_000
"""Of a tokenizer.json that is parsed; the largest in use hold about 35 MB."""


def stop_token_ids(directory: Path, tokenizer_directory: Path | None = None) -> tuple[int, ...]:
    """End-of-sequence ids: those of generation_config (or config), and the tokenizer's own.

    A chat model may end its turns with a token that only its tokenizer names; lm-eval's `hf`
    model stops at either.
    """
    ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        path = directory / name
        if not is_regular(path):
            continue
        value = read_object(path).get("eos_token_id")
        if value is not None:
            listed = value if isinstance(value, list) else [value]
            # Some configurations write -1 for none.
            ids += [_token_id(path, "eos_token_id", value) for value in listed if value != -1]
            break
    ids += _tokenizer_end(tokenizer_directory or directory)
    return tuple(dict.fromkeys(ids))


def _tokenizer_end(directory: Path) -> list[int]:
    """The id of the tokenizer's `eos_token`; empty where its files do not tell."""
    named, vocabulary = directory / "tokenizer_config.json", directory / "tokenizer.json"
    if not (is_regular(named) and is_regular(vocabulary)):
        return []
    token = read_object(named).get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    if token is None:
        return []
    if not isinstance(token, str):
        raise CheckpointError(
            f"{named}: eos_token is {short(token)}; it must be text, or an object whose "
            "content is text"
        )
    content = read_object(vocabulary, MOST_VOCABULARY_BYTES)
    added_tokens = content.get("added_tokens") or []
    if not isinstance(added_tokens, list) or not all(isinstance(a, dict) for a in added_tokens):
        raise CheckpointError(f"{vocabulary}: added_tokens must be a list of objects")
    for added in added_tokens:
        if added.get("content") == token:
            return [_token_id(vocabulary, f"id of the added token {short(token)}", added.get("id"))]
    model = content.get("model") or {}
    if not isinstance(model, dict):
        raise CheckpointError(f"{vocabulary}: model is {short(model)}; it must be an object")
    known = model.get("vocab")
    if not isinstance(known, dict) or token not in known:
        return []
    return [_token_id(vocabulary, f"id of {short(token)}", known[token])]


def _token_id(path: Path, what: str, value: Any) -> int:
    if type(value) is int and 0 <= value < 2**31:
        return value
    raise CheckpointError(
        f"{path}: {what} is {short(value)}; a token's id is a whole number from 0 to 2147483647"
    )
