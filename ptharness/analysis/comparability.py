"""May two checkpoints' numbers on a task be compared?

same: the same prompts under the same protocol. native: each side asked as it is meant to be used
(a chat template on one side only, another tokenizer, other stop tokens); compared, and the reason
stands beside every result. no: other items, gold, scoring or sampling; refused.
Two independent runs are what a comparison needs. Seeds are made of weights, replicate and prompts,
so runs of the same weights may not be independent, whatever else differs between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Comparable = Literal["same", "native", "no"]

_NATIVE_KEYS = ("chat_template_used", "seed", "samples")
"""Parts of a protocol that may differ: how a side is meant to be used, how often it was asked."""


@dataclass(frozen=True)
class Asked:
    """How one checkpoint was asked on one task.

    `items`, `gold` and `prompts` are digests: of which items there were, of their right answers,
    and of the prompts' token ids. `scoring` covers filters and metrics.
    """

    items: str
    gold: str
    prompts: str
    scoring: str
    tokenizer: str
    stop_token_ids: tuple[int, ...]
    protocol: Mapping[str, Any] = field(default_factory=dict)


def comparability(source: Asked, target: Asked) -> tuple[Comparable, str | None]:
    """Whether the two may be compared, and why not, or what to know about it."""
    differing = [
        name
        for name, other in (
            ("items", source.items != target.items),
            ("gold answers", source.gold != target.gold),
            ("scoring", source.scoring != target.scoring),
        )
        if other
    ]
    keys = dict.fromkeys([*source.protocol, *target.protocol])
    differing += [
        f"{key} ({source.protocol.get(key)} / {target.protocol.get(key)})"
        for key in keys
        if key not in _NATIVE_KEYS and source.protocol.get(key) != target.protocol.get(key)
    ]
    if differing:
        return "no", f"not comparable: other {', '.join(differing)}"
    native = []
    used = [asked.protocol.get("chat_template_used") for asked in (source, target)]
    if used[0] != used[1]:
        native.append(f"chat template used by {'the source' if used[0] else 'the target'} only")
    if source.prompts != target.prompts and source.tokenizer != target.tokenizer:
        native.append("prompts differ, for tokenizers or chat templates do")
    elif source.prompts != target.prompts:
        native.append("prompts differ")
    if source.stop_token_ids != target.stop_token_ids:
        native.append("other end-of-sequence tokens")
    return ("native", "; ".join(native)) if native else ("same", None)


def seeds_are_shared(source: Asked, target: Asked) -> bool:
    """Whether the same weights in the same replicate drew their completions from the same seeds.

    Log-likelihoods and greedy completions draw nothing. Another root seed or other prompts give
    other seeds.
    """
    settings = [asked.protocol.get("sampling") or {} for asked in (source, target)]
    drawn = all(one.get("temperature") for one in settings)
    seeds = [asked.protocol.get("seed") for asked in (source, target)]
    return drawn and seeds[0] == seeds[1] and source.prompts == target.prompts
