"""In what a child's folder differs from its parent's, as far as an evaluation shows it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ptharness.errors import CheckpointError
from ptharness.fingerprint import MOST_TOKENIZER_BYTES, file_digest, read_config
from ptharness.lineage import Checkpoint
from ptharness.regular_files import MOST_CONFIG_BYTES, is_regular, read_file, read_object
from ptharness.stop_tokens import MOST_VOCABULARY_BYTES, stop_token_ids

_TOKENIZER_NOTES = ("padding", "truncation", "version")
"""Parts of tokenizer.json that decide how batches are made, not how text is cut."""

_SHAPE_KEYS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)


def native_differences(parent: Checkpoint, child: Checkpoint) -> list[str]:
    """Why the two are comparable only as each is meant to be used; empty if nothing differs.

    Raises `CheckpointError` where a configuration cannot be read.
    """
    differences = []
    here, there = parent.tokenizer_directory, child.tokenizer_directory
    if not _same_tokenizer(here, there):
        differences.append("tokenizers differ")
    templates = [chat_template(directory) for directory in (here, there)]
    if templates[0] != templates[1]:
        described = ["has none" if text is None else "has one" for text in templates]
        both = None not in templates
        differences.append(
            "chat templates differ"
            if both
            else f"chat template: {parent.name} {described[0]}, {child.name} {described[1]}"
        )
    if stop_token_ids(parent.directory) != stop_token_ids(child.directory):
        differences.append("end-of-sequence tokens differ")
    return differences


def shape_differences(parent: Checkpoint, child: Checkpoint) -> list[str]:
    """In which sizes the architectures differ, as `hidden_size 128 / 64`."""
    configs = [read_config(parent.directory), read_config(child.directory)]
    return [
        f"{key} {configs[0].get(key)} / {configs[1].get(key)}"
        for key in _SHAPE_KEYS
        if configs[0].get(key) != configs[1].get(key)
    ]


def chat_template(directory: Path) -> str | None:
    """The text of a checkpoint's chat template; None if it has none or it cannot be read."""
    with contextlib.suppress(CheckpointError):
        return read_file(directory / "chat_template.jinja")
    template = _read_object(directory / "tokenizer_config.json").get("chat_template")
    return (
        None
        if template is None
        else json.dumps(template)
        if isinstance(template, list)
        else str(template)
    )


def _same_tokenizer(here: Path, there: Path) -> bool:
    files = [folder / "tokenizer.json" for folder in (here, there)]
    digests = [_digest(file) for file in files]
    if "" in digests:
        names = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.json")
        return [_digest(here / name) for name in names] == [_digest(there / name) for name in names]
    if digests[0] == digests[1]:
        return True
    contents = [
        {key: value for key, value in content.items() if key not in _TOKENIZER_NOTES}
        for file in files
        if (content := _read_object(file, MOST_VOCABULARY_BYTES))
    ]
    return len(contents) == 2 and contents[0] == contents[1]


def _digest(file: Path) -> str:
    """A file's digest; empty where it is absent, no regular file or too large."""
    try:
        small = is_regular(file) and file.stat().st_size <= MOST_TOKENIZER_BYTES
        return file_digest(file) if small else ""
    except OSError:
        return ""


def _read_object(file: Path, most_bytes: int = MOST_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object; empty if missing, too large or broken."""
    try:
        return read_object(file, most_bytes)
    except CheckpointError:
        return {}
