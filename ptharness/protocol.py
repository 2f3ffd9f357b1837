"""A protocol: everything that fixes how samples are drawn for a task. Frozen, recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

SAMPLE_BLOCK = 16
"""Samples of one generation unit. Constant, so that more samples only add blocks."""

SHARD_DOCUMENTS = 64
"""Documents of one unit. Constant, so that a limit moves no boundary."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn: the part of a protocol that an engine sees.

    `temperature` 0 is greedy decoding. `top_k` 0 and `min_p` 0 mean "not used".
    `stop` are strings that end a completion and are cut off; end-of-sequence tokens are
    a checkpoint's own and are handed over beside these.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    skip_special_tokens: bool = True


_NAMES_IN_TASKS = {"until": "stop", "max_gen_toks": "max_tokens", "max_new_tokens": "max_tokens"}


def resolve_sampling(task_generation: Mapping[str, Any], overrides: Mapping[str, Any]) -> Sampling:
    """A task's own generation settings with the manifest's laid over them.

    `task_generation` speaks lm-eval's names (`until`, `max_gen_toks`, `do_sample`);
    `do_sample: false` there means temperature 0 unless the manifest sets a temperature.
    """
    values = {_NAMES_IN_TASKS.get(name, name): value for name, value in task_generation.items()}
    if values.get("do_sample") is False:
        values["temperature"] = 0.0
    elif values.get("do_sample") and "temperature" not in values:
        values["temperature"] = 1.0
    values |= {name: value for name, value in overrides.items() if value is not None}
    stop = values.get("stop") or ()
    values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    kinds = {field.name: type(getattr(Sampling(), field.name)) for field in fields(Sampling)}
    return Sampling(**{n: kinds[n](v) for n, v in values.items() if n in kinds and v is not None})


def derive_seed(*parts: str | int) -> int:
    """A seed of 63 bits from everything that should make it different.

    vLLM gives the j-th completion of a request `seed + j`, so neighbouring seeds would share
    samples between requests; hashed ones practically never do.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def cut_at_stop(text: str, stops: tuple[str, ...]) -> str:
    """The text before the first stop string, as lm-eval's reference `hf` model cuts it."""
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return text
