"""Are a checkpoint's files sound: one whole set of finite safetensors that fits its config?

Everything here reads files only. An engine that is handed a broken checkpoint may keep the old
weights without a word, or be spoilt for the checkpoints after it; so this comes before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptharness.errors import CheckpointError
from ptharness.fingerprint import architecture_config, read_config, weight_files
from ptharness.safetensors_header import tensor_shapes

INDEX = "model.safetensors.index.json"
HEAD = "lm_head.weight"
EMBEDDINGS = ("model.embed_tokens.weight", "transformer.wte.weight")
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Files:
    """The safetensors files of a checkpoint, as far as their headers tell.

    `shapes` and `file_of` are by tensor name; `config` is the part of config.json that
    decides what the weights compute; `stamp` changes when any weight file is replaced.
    """

    directory: Path
    shapes: Mapping[str, tuple[int, ...]]
    file_of: Mapping[str, Path]
    config: Mapping[str, Any]
    stamp: tuple[tuple[Any, ...], ...]

    @property
    def tied(self) -> bool:
        """Whether the output head is the input embeddings, which is the default of many."""
        default = self.config.get("tie_word_embeddings", False)
        return bool(self._text_config.get("tie_word_embeddings", default))

    @property
    def quantised(self) -> bool:
        """Whether the weights are stored quantised."""
        key = "quantization_config"
        return bool(self.config.get(key) or self._text_config.get(key))

    @property
    def _text_config(self) -> Mapping[str, Any]:
        inner = self.config.get("text_config")
        return inner if inner and isinstance(inner, dict) else self.config


def inspect_files(directory: Path) -> Files:
    """Read config and headers: names, shapes, whole files, one set of them; under 1 ms.

    Raises `CheckpointError` naming the file and the tensor where something is wrong.
    """
    files = _one_set(directory)
    shapes: dict[str, tuple[int, ...]] = {}
    file_of: dict[str, Path] = {}
    for path in files:
        for name, shape in tensor_shapes(path).items():
            if name in shapes:
                raise CheckpointError(
                    f"{directory}: tensor {name!r} is in {file_of[name].name} and in {path.name}; "
                    "keep one set of *.safetensors files"
                )
            shapes[name], file_of[name] = shape, path
    _check_index(directory, file_of)
    stamp = tuple(_stamp(path) for path in files)
    return Files(directory, shapes, file_of, architecture_config(directory), stamp)


def check_tensors(files: Files) -> None:
    """Read every tensor: each is finite, and a stored head of a tied model is its embeddings.

    Raises `CheckpointError` naming the file and the tensor.
    """
    import torch

    for name, tensor in read_tensors(files):
        if tensor.is_floating_point() and tensor.element_size() > 1:
            bad = int(tensor.numel() - torch.isfinite(tensor).sum())
            if bad:
                raise CheckpointError(
                    f"{files.file_of[name]}: tensor {name!r} holds {bad} values that are not "
                    "finite (NaN or infinite); the training run that wrote it diverged"
                )
    embeddings = next((name for name in EMBEDDINGS if name in files.shapes), HEAD)
    stored_head = files.tied and HEAD in files.shapes
    if stored_head and not torch.equal(read_tensor(files, HEAD), read_tensor(files, embeddings)):
        raise CheckpointError(
            f"{files.file_of[HEAD]}: tensor {HEAD!r} differs from {embeddings!r}, but "
            "config.json says tie_word_embeddings: true; set it to false or drop the tensor"
        )


def check_complete(files: Files) -> None:
    """Compare names and shapes with transformers' model of the same config, without weights.

    Says nothing about architectures whose tensors transformers renames on loading, or does
    not know; the probe after the load speaks for those. Raises `CheckpointError`.
    """
    expected = _expected_shapes(files.directory)
    if not expected or not set(expected) & set(files.shapes):
        return
    extra = sorted(set(files.shapes) - set(expected))
    for name, shape in sorted(expected.items()):
        if name not in files.shapes:
            hint = f"; it holds an unknown tensor {extra[0]!r} instead" if extra else ""
            raise CheckpointError(
                f"{files.directory}: tensor {name!r} is missing{hint}; save the checkpoint again"
            )
        check_shape(files, name, shape)


def check_shape(files: Files, name: str, shape: tuple[int, ...]) -> None:
    """Raise `CheckpointError` where a tensor does not have this shape."""
    if files.shapes[name] != shape:
        raise CheckpointError(
            f"{files.file_of[name]}: tensor {name!r} has shape {list(files.shapes[name])} where "
            f"the architecture in config.json has {list(shape)}"
        )


def read_tensors(files: Files) -> Any:
    """Yield (name, tensor) file by file, from memory maps."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(set(files.file_of.values())):
        try:
            with safe_open(path, framework="pt") as handle:
                for name in handle.keys():  # noqa: SIM118
                    yield name, handle.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: cannot be read as safetensors: {error}") from error


def read_tensor(files: Files, name: str) -> Any:
    """One tensor by its name."""
    from safetensors import safe_open

    with safe_open(files.file_of[name], framework="pt") as handle:
        return handle.get_tensor(name)


def stored_dtype(files: Files) -> str:
    """The dtype that most of the weights are stored in: float32, float16 or bfloat16."""
    from safetensors import safe_open

    counts: dict[str, int] = {}
    for path in set(files.file_of.values()):
        with safe_open(path, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118
                dtype = handle.get_slice(name).get_dtype()
                size = 1
                for length in files.shapes[name]:
                    size *= length
                counts[dtype] = counts.get(dtype, 0) + size
    known = {DTYPES[dtype]: size for dtype, size in counts.items() if dtype in DTYPES}
    return max(known, key=lambda name: known[name], default="bfloat16")


def _one_set(directory: Path) -> list[Path]:
    """The files of the index if there is one, else all safetensors files of the folder."""
    read_config(directory)
    files = weight_files(directory)
    index = directory / INDEX
    if not index.is_file():
        return files
    named = {directory / file for file in _weight_map(index).values()}
    missing = sorted(path.name for path in named - set(files))
    if missing:
        raise CheckpointError(f"{index}: names {missing[0]}, which is not in {directory}")
    if directory / "model.safetensors" in set(files) - named:
        raise CheckpointError(
            f"{directory}: holds model.safetensors and, by {INDEX}, another set of weights; "
            "keep one of the two"
        )
    return sorted(named)


def _weight_map(index: Path) -> dict[str, str]:
    try:
        mapping = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        for file in mapping.values():
            if Path(file).name != file:
                raise ValueError(f"names a file outside its folder: {file!r}")
        return dict(mapping)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index}: not a safetensors index: {error}") from error


def _check_index(directory: Path, file_of: Mapping[str, Path]) -> None:
    index = directory / INDEX
    if not index.is_file():
        return
    for name, file in _weight_map(index).items():
        if name not in file_of:
            raise CheckpointError(f"{directory / file}: tensor {name!r} of {INDEX} is missing")


def _stamp(path: Path) -> tuple[Any, ...]:
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino


def _expected_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of transformers' model on the meta device; empty where unknown."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.conversion_mapping import get_model_conversion_mapping

    try:
        config = AutoConfig.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, attn_implementation="eager"
            )
        if get_model_conversion_mapping(model, add_legacy=False):
            return {}
    # Whatever transformers raises means only that it cannot be asked about this architecture:
    # the engine may know it, and says so itself if it does not.
    except Exception:
        return {}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    return {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name not in tied
    }
