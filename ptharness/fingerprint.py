"""Content digests of checkpoints, files and values; digests of files are remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import platformdirs

from ptharness.errors import CheckpointError, StoreError
from ptharness.regular_files import is_regular, open_regular, read_object
from ptharness.safetensors_header import tensor_shapes
from ptharness.stop_tokens import MOST_VOCABULARY_BYTES

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "tiktoken.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
)
WEIGHT_SUFFIXES = (".safetensors",)
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

MOST_TOKENIZER_BYTES = 200_000_000
"""Of a tokenizer's file that is only digested."""

_CONFIG_KEYS_WITHOUT_EFFECT = frozenset(
    # The engine's dtype is pinned, end-of-sequence ids and lengths go with each request,
    # and the others are notes of the library that wrote the file.
    {
        "_name_or_path",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "name_or_path",
        "pad_token_id",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


def cache_directory() -> Path:
    """Where things that can be rebuilt are remembered between runs, per user.

    `PTHARNESS_CACHE` moves it.
    """
    return Path(os.environ.get("PTHARNESS_CACHE") or platformdirs.user_cache_dir("ptharness"))


def digest(*values: Any) -> str:
    """32 hexadecimal digits of the SHA-256 of values, independent of mapping order."""
    text = json.dumps(values, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, remembered by its size, modification time and inode."""
    status = path.stat()
    remembered = (
        cache_directory()
        / "digests"
        / digest(str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino)
    )
    with contextlib.suppress(OSError, UnicodeDecodeError):
        content = remembered.read_text()
        if re.fullmatch("[0-9a-f]{64}", content):
            return content
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    # A cache that cannot be written only costs time.
    with contextlib.suppress(StoreError):
        write_atomically(remembered, content.encode())
    return content


def files_digest(paths: Iterable[Path]) -> str:
    """One digest of several files' names and contents, read in parallel."""
    ordered = sorted(paths)
    with ThreadPoolExecutor() as pool:
        return digest(
            [
                [path.name, content]
                for path, content in zip(ordered, pool.map(file_digest, ordered), strict=True)
            ]
        )


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a small file in one step: a reader sees the old content or the new.

    Raises `StoreError` where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint. Raises `CheckpointError` where there are none."""
    files = sorted(path for path in directory.glob("*") if path.suffix in WEIGHT_SUFFIXES)
    for file in files:
        if not is_regular(file):
            # Left out, it would be a shard too few.
            raise CheckpointError(f"{file}: no file that can be read (a broken link, a pipe?)")
    if files:
        return files
    pickles = sorted(p.name for p in directory.glob("*") if p.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"{directory}: only pickled weights ({', '.join(pickles[:3])}); a pickle can run "
            "code when it is read: convert it to safetensors"
        )
    raise CheckpointError(f"{directory}: no *.safetensors file; is this a checkpoint folder?")


def weights_digest(directory: Path) -> str:
    """Digest of the weights alone."""
    return files_digest(weight_files(directory))


def tokenizer_digest(directory: Path) -> str:
    """Digest of the tokenizer's files and chat templates, and of the class that reads them.

    Raises `CheckpointError` where one of them is too large or cannot be read.
    """
    files = [directory / name for name in TOKENIZER_FILES]
    files += sorted((directory / "additional_chat_templates").glob("*.jinja"))
    files = [path for path in files if is_regular(path)]
    has_config = is_regular(directory / "config.json")
    model_type = read_config(directory).get("model_type") if has_config else None
    for path in files:
        try:
            size = path.stat().st_size
            with open_regular(path):
                pass
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
        if size > MOST_TOKENIZER_BYTES:
            raise CheckpointError(
                f"{path}: holds {size:,} bytes; a tokenizer's file has at most "
                f"{MOST_TOKENIZER_BYTES:,}"
            )
    try:
        return digest(model_type, files_digest(files))
    except OSError as error:
        raise CheckpointError(f"{directory}: its tokenizer cannot be read: {error}") from error


def vocabulary_digest(directory: Path) -> str:
    """Equal for tokenizers that give the same ids to the same tokens, whatever their templates.

    Raises `CheckpointError` where the tokenizer cannot be read.
    """
    path = directory / "tokenizer.json"
    if not is_regular(path):
        return tokenizer_digest(directory)
    content = read_object(path, MOST_VOCABULARY_BYTES)
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else model
    added = content.get("added_tokens")
    if isinstance(added, list) and all(isinstance(token, dict) for token in added):
        # How a token is found in a text has no part in what it is.
        added = [(token.get("id"), token.get("content")) for token in added]
    return digest(vocabulary, added)


def read_config(directory: Path) -> dict[str, Any]:
    """`config.json` of a checkpoint. Raises `CheckpointError` if missing or broken."""
    return read_object(directory / "config.json")


def architecture_config(directory: Path) -> dict[str, Any]:
    """The part of `config.json` that decides what the weights compute."""
    config = read_config(directory)
    return {k: v for k, v in config.items() if k not in _CONFIG_KEYS_WITHOUT_EFFECT}


def position_limit(directory: Path) -> int | None:
    """Positions that the model was made for, as its config names them; None where it does not.

    Raises `CheckpointError` where there would be none.
    """
    config = read_config(directory)
    inner = config.get("text_config")
    text = inner if inner and isinstance(inner, dict) else config
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length"):
        positions = text.get(key)
        if type(positions) is not int:
            continue
        if positions < 1:
            raise CheckpointError(
                f"{directory / 'config.json'}: {key} is {positions}; a model takes one token at "
                "least: write the context that it was trained with"
            )
        return positions
    return None


def parameter_count(directory: Path) -> int:
    """Number of stored weights."""
    return sum(
        math.prod(shape)
        for path in weight_files(directory)
        for shape in tensor_shapes(path).values()
    )


def architecture_digest(directory: Path) -> str:
    """Equal for checkpoints whose weights fit each other's place in a running engine."""
    shapes = {
        name: shape
        for path in weight_files(directory)
        for name, shape in tensor_shapes(path).items()
    }
    return digest(architecture_config(directory), sorted(shapes.items()))
