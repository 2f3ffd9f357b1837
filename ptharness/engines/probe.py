"""Are the weights in a running engine those of a checkpoint's files?

Digests of the engine's parameters cannot tell: on a CPU vLLM packs a linear layer's weight into
a kernel and leaves an empty parameter. So each layer is asked to *compute*: seeded random rows
go through the very kernel that serves requests, and the product is compared with the one from
the safetensors files. What is not packed is compared value by value as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ptharness.engines.preflight import Files, read_tensor

ROWS = 8
SEED = 20_260_717
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-4, "float16": 2e-4}
"""Largest relative error (root mean square) of a packed layer's product, by dtype.

Measured on a CPU: 6e-7 and 9e-5 for right weights in float32 and bfloat16; 2e-3 in float32 for
weights of which each was changed by a thousandth.
"""
LOOSE_TOLERANCE = 0.02
"""The same where the weight itself was compared, value by value, with the files."""


@dataclass
class Finding:
    """What the probe saw.

    `different`: module or parameter -> what is wrong. `missing`: tensors of a fused module
    that the files lack. `unknown`: parameters that it cannot relate to the files.
    `largest_error`: relative, over all products.
    """

    checked: int = 0
    largest_error: float = 0.0
    different: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def covers_all(self) -> bool:
        """Every parameter was compared, and found equal."""
        return not (self.different or self.missing or self.unknown)

    def __str__(self) -> str:
        """The first thing that is wrong, for a message."""
        if self.missing:
            return f"tensor {self.missing[0]!r} is missing"
        if self.different:
            name, what = next(iter(self.different.items()))
            return f"{name}: {what} ({len(self.different)} modules differ)"
        if self.unknown:
            return f"{self.unknown[0]} cannot be compared ({len(self.unknown)} such parameters)"
        return f"{self.checked} modules equal, largest error {self.largest_error:.1e}"


def probe(model: Any, files: Files) -> Finding:
    """Compare a vLLM model, running in this process on one device, with the files."""
    import torch

    finding = Finding()
    names = _names_in_files(model, files)
    seen: set[str] = set()
    with torch.inference_mode():
        for path, module in model.named_modules():
            if _computes(module):
                seen.update(_probe_module(model, path, module, names, files, finding))
        for path, parameter in model.named_parameters():
            if path not in seen:
                _compare_parameter(model, path, parameter, names, files, finding)
    return finding


def _names_in_files(model: Any, files: Files) -> dict[str, str]:
    """vLLM's name of a tensor -> its name in the files."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    if mapper is None:
        return {name: name for name in files.shapes}
    renames = mapper.get_rename_mapper()
    mapped = {name: renames.map_name(name) for name in files.shapes}
    return {new: name for name, new in mapped.items() if new is not None}


def _computes(module: Any) -> bool:
    method = type(getattr(module, "quant_method", None)).__name__
    return method in ("UnquantizedLinearMethod", "UnquantizedEmbeddingMethod")


def _probe_module(
    model: Any,
    path: str,
    module: Any,
    names: Mapping[str, str],
    files: Files,
    finding: Finding,
) -> Iterator[str]:
    """Ask one linear or embedding to compute; yield the parameter that this accounts for."""
    import torch

    sources = _sources(model, f"{path}.weight", names)
    if sources is None and files.tied and path.rsplit(".", 1)[-1] == "lm_head":
        sources = _embedding_sources(model, names)
    if sources is None:
        return
    found = [names[source] for source in sources if source in names]
    if len(found) < len(sources):
        finding.missing += [source for source in sources if source not in names]
        return
    yield f"{path}.weight"
    finding.checked += 1
    weight = torch.cat([read_tensor(files, name) for name in found]).to(module.weight.dtype)
    problem = _difference(module, weight, finding)
    if problem:
        finding.different[path] = problem


def _difference(module: Any, weight: Any, finding: Finding) -> str:
    """What is wrong with a module that should hold `weight` (rows: outputs), or ""."""
    import torch

    held = module.weight
    weight = weight.to(held.device)
    if held.numel():
        rows = held[: weight.shape[0]]
        if rows.shape != weight.shape:
            return f"has shape {list(held.shape)}, the files have {list(weight.shape)}"
        if not torch.equal(rows, weight):
            return f"{int((rows != weight).sum())} of {weight.numel()} values differ"
    if type(module).__name__ == "VocabParallelEmbedding":
        return ""
    generator = torch.Generator().manual_seed(SEED)
    inputs = torch.randn(ROWS, weight.shape[1], generator=generator).to(weight)
    outputs = module.quant_method.apply(module, inputs, None)[:, : weight.shape[0]].float()
    expected = (inputs.float() @ weight.float().T).to(weight.dtype).float()
    if outputs.shape != expected.shape:
        return f"computes {outputs.shape[1]} outputs, the files have {expected.shape[1]}"
    error = float((outputs - expected).norm() / expected.norm().clamp_min(1e-30))
    finding.largest_error = max(finding.largest_error, error)
    packed = not held.numel() or hasattr(module, "cpu_linear")
    limit = TOLERANCE[str(weight.dtype).removeprefix("torch.")] if packed else LOOSE_TOLERANCE
    # Written so that an error which is not a number is a difference too.
    return "" if error <= limit else f"computes with other weights: error {error:.1e}"


def _compare_parameter(
    model: Any,
    path: str,
    parameter: Any,
    names: Mapping[str, str],
    files: Files,
    finding: Finding,
) -> None:
    """Compare a parameter (a norm, a bias) with its tensors, value by value."""
    import torch

    sources = _sources(model, path, names)
    if sources is None:
        finding.unknown.append(path)
        return
    if any(source not in names for source in sources):
        finding.missing += [source for source in sources if source not in names]
        return
    finding.checked += 1
    stored = torch.cat([read_tensor(files, names[source]) for source in sources])
    if stored.shape != parameter.shape:
        finding.unknown.append(path)
        return
    held = parameter.detach().cpu()
    # A kernel may keep in float32 what was first rounded to the engine's dtype.
    rounded = stored.to(next(model.parameters()).dtype).to(held.dtype)
    if not torch.equal(held, stored.to(held.dtype)) and not torch.equal(held, rounded):
        finding.different[path] = f"{int((held != rounded).sum())} of {held.numel()} values differ"


def _sources(model: Any, parameter: str, names: Mapping[str, str]) -> list[str] | None:
    """The tensors, by vLLM's names, that make up a parameter; None where none is known."""
    # A layer that adapters may be laid over keeps its own weights under this name.
    parameter = parameter.replace(".base_layer.", ".")
    if parameter in names:
        return [parameter]
    path, _, last = parameter.rpartition(".")
    parent, _, leaf = path.rpartition(".")
    parts = (getattr(model, "packed_modules_mapping", None) or {}).get(leaf)
    if not parts:
        return None
    sources = [f"{parent}.{part}.{last}" if parent else f"{part}.{last}" for part in parts]
    return sources if any(source in names for source in sources) else None


def _embedding_sources(model: Any, names: Mapping[str, str]) -> list[str] | None:
    """The input embeddings' tensor, which a tied head shares."""
    for path, module in model.named_modules():
        if type(module).__name__ == "VocabParallelEmbedding" and f"{path}.weight" in names:
            return [f"{path}.weight"]
    return None
