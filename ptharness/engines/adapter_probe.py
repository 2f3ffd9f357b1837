"""Is an adapter in a running engine the one in the files, and does it compute what they say?

vLLM leaves out factors whose layer it does not wrap and keeps old or empty ones in their place
without a word. So both factors of each layer are compared with the files, value by value and
scaling included, and each layer's kernel is asked to compute seeded random rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ptharness.engines.adapters import Adapter, Factors, read_factors
from ptharness.engines.probe import ROWS, SEED

TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
"""Largest relative error (root mean square) of a layer's product, by dtype.

The factors themselves are compared exactly; this one finds a kernel that skips or scales.
"""


@dataclass
class AdapterFinding:
    """What the probe saw.

    `wrong`: module -> what is wrong. `unknown`: modules whose layout it does not know.
    `largest_error`: relative, over all products.
    """

    checked: int = 0
    largest_error: float = 0.0
    wrong: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The first thing that is wrong, for a message."""
        if self.wrong:
            name, what = next(iter(self.wrong.items()))
            return f"{name}: {what} ({len(self.wrong)} modules differ)"
        if self.unknown:
            return f"{self.unknown[0]} cannot be compared ({len(self.unknown)} such modules)"
        return f"{self.checked} modules equal, largest error {self.largest_error:.1e}"


def probe_adapter(model: Any, number: int, adapter: Adapter) -> AdapterFinding:
    """Compare the adapter that vLLM knows under `number`, and has active, with its files."""
    import torch

    finding = AdapterFinding()
    manager = model.lora_manager
    if number not in manager.lora_index_to_id:
        finding.wrong["adapter"] = "is not active in the engine"
        return finding
    slot = manager.lora_index_to_id.index(number)
    tensors = dict(read_factors(adapter))
    waiting = _by_vllm_name(model, adapter.factors)
    with torch.inference_mode():
        _point_all_rows_at(manager, number)
        for path, module in manager.modules.items():
            parts = manager.packed_modules.get(path, [path])
            held = [waiting.pop(part, None) for part in parts]
            fused = waiting.pop(path, None) if parts != [path] else None
            if fused is not None or len(held) != _slices(module):
                if fused is not None or any(held):
                    finding.unknown.append(path)
                continue
            finding.checked += 1
            problem = _problem(module, slot, [_pair(tensors, factors) for factors in held], finding)
            if problem:
                finding.wrong[path] = problem
    finding.wrong |= dict.fromkeys(waiting, "vLLM does not apply adapters to this layer")
    return finding


def _by_vllm_name(model: Any, factors: Mapping[str, Factors]) -> dict[str, Factors]:
    """The factors by vLLM's names of their layers."""
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    if mapper is None:
        return dict(factors)
    renames = mapper.get_rename_mapper()
    named = {renames.map_name(f"{module}.weight"): its for module, its in factors.items()}
    return {name.removesuffix(".weight"): its for name, its in named.items() if name}


def _slices(module: Any) -> int:
    """How many layers of the files this module computes at once; 0 where that is not known."""
    stacked = getattr(module, "lora_a_stacked", None)
    is_linear = isinstance(stacked, tuple) and stacked[0].dim() == 4 and stacked[0].shape[1] == 1
    return len(stacked) if is_linear and stacked is not None else 0


def _pair(tensors: Mapping[str, Any], factors: Factors | None) -> tuple[Any, Any] | None:
    """lora_A as stored and lora_B with its scaling still to be applied; None without factors."""
    if factors is None:
        return None
    return tensors[factors.down], (tensors[factors.up], factors.scaling)


def _problem(module: Any, slot: int, pairs: list[Any], finding: AdapterFinding) -> str:
    """What is wrong with one module's factors in `slot`, or ""."""
    import torch

    stacked_downs, stacked_ups = module.lora_a_stacked, module.lora_b_stacked
    dtype, device = stacked_downs[0].dtype, stacked_downs[0].device
    expected = []
    for index, pair in enumerate(pairs):
        down = torch.zeros_like(stacked_downs[index][slot, 0])
        up = torch.zeros_like(stacked_ups[index][slot, 0])
        if pair is not None:
            stored_down, (stored_up, scaling) = pair
            rank = stored_down.shape[0]
            if stored_down.shape[1] != down.shape[1] or stored_up.shape[0] != up.shape[0]:
                return (
                    f"has {up.shape[0]} outputs and {down.shape[1]} inputs, the adapter "
                    f"{stored_up.shape[0]} and {stored_down.shape[1]}"
                )
            down[:rank] = stored_down.to(device, dtype)
            up[:, :rank] = stored_up.to(device, dtype) * scaling
        for held, wanted, name in (
            (stacked_downs[index][slot, 0], down, "lora_A"),
            (stacked_ups[index][slot, 0], up, "lora_B"),
        ):
            if not torch.equal(held, wanted):
                return f"{int((held != wanted).sum())} values of {name} differ"
        expected.append((down, up))
    error = _error(module, expected)
    finding.largest_error = max(finding.largest_error, error)
    # Written so that an error which is not a number is a problem too.
    limit = TOLERANCE[str(dtype).removeprefix("torch.")]
    return "" if error <= limit else f"computes something else: error {error:.1e}"


def _error(module: Any, expected: list[tuple[Any, Any]]) -> float:
    """Relative error of what the adapter's kernel adds to the outputs, for random rows."""
    import torch

    down = expected[0][0]
    generator = torch.Generator().manual_seed(SEED)
    rows = torch.randn(ROWS, down.shape[1], generator=generator).to(down.device, down.dtype)
    outputs = torch.zeros(ROWS, sum(module.output_slices), device=down.device, dtype=down.dtype)
    added = module.punica_wrapper.add_lora_linear(
        outputs, rows, module.lora_a_stacked, module.lora_b_stacked, 1.0, module.output_slices
    )
    found = (outputs if added is None else added).float()
    wanted = torch.cat([rows.float() @ a.float().T @ b.float().T for a, b in expected], dim=1)
    if not bool(wanted.any()):
        return float(found.norm())
    return float((found - wanted).norm() / wanted.norm())


def _point_all_rows_at(manager: Any, number: int) -> None:
    """Make vLLM's kernels take each row for one of this adapter's; its next step does so anew."""
    from vllm.lora.layers import LoRAMapping

    manager.set_adapter_mapping(LoRAMapping((number,) * ROWS, (number,) * ROWS, is_prefill=True))
