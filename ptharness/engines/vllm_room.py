"""How much room vLLM is started with for LoRA adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptharness.engines.adapters import Adapter

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as its largest rank."""

SLOTS = 8
"""Adapters in one batch, unless the manifest says otherwise: each takes memory beside the base."""

BYTES_GATHERED_ON_CPU = 256 << 20
"""vLLM's kernels for a CPU copy a layer's factors once per token of a step. This bounds it."""

FEWEST_TOKENS_ON_CPU = 64
VLLMS_TOKENS_ON_CPU, VLLMS_SEQUENCES_ON_CPU = 4096, 256
"""What vLLM computes in one step on a CPU where nothing is set."""


@dataclass(frozen=True)
class Room:
    """What a running vLLM has room for.

    `rank`: the largest. `slots`: adapters in one batch. `held`: adapters at all. `targets`: the
    linear layers that may be adapted, by the last words of their names.
    """

    rank: int
    slots: int
    held: int
    targets: frozenset[str]

    def holds(self, needed: Room) -> bool:
        """Whether adapters that need this much room find it here."""
        return (
            self.rank >= needed.rank
            and self.slots >= needed.slots
            and self.held >= needed.held
            and self.targets >= needed.targets
        )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `vllm.LLM`.

        Other layers than the targets are left as they are: wrapping them costs time and memory,
        and a wrapped output head cannot give the log-probabilities of a prompt.
        """
        return {
            "enable_lora": True,
            "max_lora_rank": self.rank,
            "max_loras": self.slots,
            "max_cpu_loras": self.held,
            "lora_target_modules": sorted(self.targets),
        }


def room_for(adapters: Sequence[Adapter], options: Mapping[str, Any]) -> Room:
    """The room that these adapters need side by side; the manifest may bound the slots."""
    rank = max(adapter.rank for adapter in adapters)
    return Room(
        rank=next(legal for legal in RANKS if legal >= rank),
        slots=min(len(adapters), int(options.get("max_loras", SLOTS))),
        held=len(adapters),
        targets=frozenset().union(*(adapter.targets for adapter in adapters)),
    )


def batch_on_cpu(room: Room, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Arguments of `vllm.LLM` that keep the copied factors within bounds; {} where they are."""
    widest = max(
        (max(shape) for name, shape in shapes.items() if _is_target(name, room)), default=1
    )
    tokens = BYTES_GATHERED_ON_CPU // (4 * room.rank * widest)
    if tokens >= VLLMS_TOKENS_ON_CPU:
        return {}
    tokens = max(FEWEST_TOKENS_ON_CPU, tokens)
    return {
        "max_num_batched_tokens": tokens,
        "max_num_seqs": min(tokens, VLLMS_SEQUENCES_ON_CPU),
    }


def _is_target(name: str, room: Room) -> bool:
    return name.removesuffix(".weight").rsplit(".", 1)[-1] in room.targets
