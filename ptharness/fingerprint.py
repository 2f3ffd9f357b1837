"""Content digests of checkpoints, files and values; digests of files are remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeGuard

import platformdirs

from ptharness.errors import CheckpointError, StoreError

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

MOST_CONFIG_BYTES = 10_000_000
MOST_VOCABULARY_BYTES = 64_000_000
"""Of a tokenizer.json that is parsed; the largest in use hold about 35 MB."""

MOST_TOKENIZER_BYTES = 200_000_000
"""Of a tokenizer's file that is only digested."""

MOST_NESTING = 100
"""Deeper JSON is refused, so that nobody who walks through it runs out of stack."""

MOST_HEADER_BYTES = 20_000_000
MOST_DIMENSIONS = 64

_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}

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
            with _open_regular(path):
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
    content = read_object(path, MOST_TOKENIZER_BYTES)
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else model
    return digest(vocabulary, content.get("added_tokens"))


def is_regular(path: Path) -> bool:
    """Whether a path is a file that can be read to an end: no folder, pipe or device."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_file(path: Path, most_bytes: int = MOST_CONFIG_BYTES) -> str:
    """A regular file's UTF-8 text. Raises `CheckpointError`, also where it is too large."""
    try:
        with _open_regular(path) as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise ValueError(f"is larger than {most_bytes:,} bytes")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing; is this a checkpoint folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as text: {error}") from error


def read_object(path: Path, most_bytes: int = MOST_CONFIG_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises `CheckpointError` where there is none."""
    text = read_file(path, most_bytes)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: is not a JSON object")
    level: list[Any] = [content]
    for _ in range(MOST_NESTING):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, dict | list)
        ]
        if not level:
            return content
    raise CheckpointError(f"{path}: is nested more than {MOST_NESTING} deep")


def read_config(directory: Path) -> dict[str, Any]:
    """`config.json` of a checkpoint. Raises `CheckpointError` if missing or broken."""
    return read_object(directory / "config.json")


def architecture_config(directory: Path) -> dict[str, Any]:
    """The part of `config.json` that decides what the weights compute."""
    config = read_config(directory)
    return {k: v for k, v in config.items() if k not in _CONFIG_KEYS_WITHOUT_EFFECT}


class TensorEntry(NamedTuple):
    """Where one tensor lies in its safetensors file: bytes `start` to `end` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def tensor_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a safetensors file's tensors, from its header alone.

    Raises `CheckpointError` where the header is broken or the file is shorter than it says.
    """
    return {name: entry.shape for name, entry in safetensors_header(path).items()}


def safetensors_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file, remembered until the file changes.

    Holds what the format promises: the tensors lie one after another, without holes, up to the
    file's end, each as long as its dtype and shape say (unless the dtype is unknown here).
    Raises `CheckpointError` where that is not so.
    """
    try:
        status = path.stat()
        return dict(_header(path, status.st_mtime_ns, status.st_size))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file: {error}") from error


@lru_cache(maxsize=32)
def _header(path: Path, _modified: int, actual: int) -> dict[str, TensorEntry]:
    with _open_regular(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= MOST_HEADER_BYTES:
            raise ValueError(f"no safetensors header of at most {MOST_HEADER_BYTES:,} bytes")
        header = json.loads(file.read(size).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    first = 8 + size
    tensors = {k: _entry(k, v, first) for k, v in header.items() if k != "__metadata__"}
    expected = max((entry.end for entry in tensors.values()), default=first)
    if actual != expected:
        raise ValueError(f"holds {actual} bytes where its header says {expected}")
    end = first
    for name, entry in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if entry.start != end:
            raise ValueError(f"{_short(name)}: overlaps another tensor or leaves a hole")
        end = entry.end
    return tensors


def _entry(name: str, value: Any, first: int) -> TensorEntry:
    """One tensor of a header whose data begin at byte `first`. Raises `ValueError`."""
    if not isinstance(value, dict):
        raise ValueError(f"{_short(name)}: its entry is not a JSON object")
    dtype, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str):
        raise ValueError(f"{_short(name)}: dtype is {_short(dtype)}, not text")
    if not _sizes(shape) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(
            f"{_short(name)}: shape is {_short(shape)}, not a list of at most "
            f"{MOST_DIMENSIONS} whole numbers from 0"
        )
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(
            f"{_short(name)}: data_offsets are {_short(offsets)}, not [begin, end] from 0"
        )
    length = offsets[1] - offsets[0]
    if dtype in _BITS and length * 8 != math.prod(shape) * _BITS[dtype]:
        raise ValueError(f"{_short(name)}: {length} bytes do not hold {dtype} of {_short(shape)}")
    return TensorEntry(dtype, tuple(shape), first + offsets[0], first + offsets[1])


def _sizes(value: Any) -> TypeGuard[list[int]]:
    """Whether a value is a list of whole numbers from 0 that fit 63 bits."""
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _short(value: Any) -> str:
    """A value from a file, for a message of one line."""
    text = reprlib.repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file. Raises `OSError` for any other kind, without waiting on it."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError("not a regular file")


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)


def position_limit(config: Mapping[str, Any]) -> int | None:
    """Positions that the model was made for, as its config names them."""
    inner = config.get("text_config")
    text = inner if inner and isinstance(inner, dict) else config
    for key in ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length"):
        if type(text.get(key)) is int:
            return int(text[key])
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
            f"{named}: eos_token is {_short(token)}; it must be text, or an object whose "
            "content is text"
        )
    content = read_object(vocabulary, MOST_VOCABULARY_BYTES)
    added_tokens = content.get("added_tokens") or []
    if not isinstance(added_tokens, list) or not all(isinstance(a, dict) for a in added_tokens):
        raise CheckpointError(f"{vocabulary}: added_tokens must be a list of objects")
    for added in added_tokens:
        if added.get("content") == token:
            return [
                _token_id(vocabulary, f"id of the added token {_short(token)}", added.get("id"))
            ]
    model = content.get("model") or {}
    if not isinstance(model, dict):
        raise CheckpointError(f"{vocabulary}: model is {_short(model)}; it must be an object")
    known = model.get("vocab")
    if not isinstance(known, dict) or token not in known:
        return []
    return [_token_id(vocabulary, f"id of {_short(token)}", known[token])]


def _token_id(path: Path, what: str, value: Any) -> int:
    if type(value) is int and 0 <= value < 2**31:
        return value
    raise CheckpointError(
        f"{path}: {what} is {_short(value)}; a token's id is a whole number from 0 to 2147483647"
    )
