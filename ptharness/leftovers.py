"""What a training framework leaves beside weights: model card, trainer state, adapter config.

For method plugins, which recognise their stages by it, and for `ptharness discover`. The folder
is anybody's: every read is bounded, what is broken counts as absent, and nothing is ever
unpickled (of `training_args.bin`, a pickle, only the name of its class is read, from the
opcodes, without running them).
"""

from __future__ import annotations

import json
import os
import pickletools
import zipfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

MOST_CARD_BYTES = 1_000_000
MOST_FRONT_MATTER = 100_000
"""Characters; YAML is slow to read, and a card's results make it long but not this long."""

MOST_STATE_BYTES = 50_000_000
MOST_CONFIG_BYTES = 10_000_000
MOST_ADAPTER_BYTES = 1_000_000
MOST_ARGUMENTS_BYTES = 1_000_000
MOST_FOLDER_ENTRIES = 10_000
MOST_STEPS = 2**53
FEWEST_RATES = 3
"""Fewer logged learning rates do not tell how far a run can have moved the weights."""

CARD, STATE, ADAPTER = "README.md", "trainer_state.json", "adapter_config.json"
ARGUMENTS = "training_args.bin"
MERGE_RECIPE = "mergekit_config.yml"


@dataclass(frozen=True)
class Leftovers:
    """What was found in one folder; a field is empty where its file is absent or broken.

    `card` is the front matter of the model card, `merged` what mergekit's recipe names, `logged`
    the names of the quantities in the trainer's log (of the folder, or of its latest
    `checkpoint-N`). `step` is the trainer's
    global step. `learning_rate_sum` adds up the logged learning rates over all steps: about as
    far as one weight can have moved under Adam. `trainer_arguments` is the class of the
    trainer's settings, such as `GRPOConfig`. `adapter` is PEFT's `adapter_config.json`.
    """

    card: Mapping[str, Any] = field(default_factory=dict)
    logged: frozenset[str] = frozenset()
    step: int | None = None
    learning_rate_sum: float | None = None
    trainer_arguments: str = ""
    adapter: Mapping[str, Any] = field(default_factory=dict)
    merged: tuple[str, ...] = ()

    @property
    def tags(self) -> frozenset[str]:
        """The card's tags, in lower case."""
        tags = self.card.get("tags")
        listed = tags if isinstance(tags, list) else []
        return frozenset(tag.lower() for tag in listed if isinstance(tag, str))

    @property
    def base_models(self) -> tuple[str, ...]:
        """What the adapter config and the card call the parent: paths or hub ids."""
        named = [self.adapter.get("base_model_name_or_path")]
        of_card = self.card.get("base_model")
        named += of_card if isinstance(of_card, list) else [of_card]
        texts = [name.strip() for name in named if isinstance(name, str)]
        return tuple(dict.fromkeys(text for text in texts if text and text != "None"))

    @property
    def is_trained(self) -> bool:
        """Whether anything here says that a training run made this folder."""
        return bool(
            self.logged
            or self.adapter
            or self.trainer_arguments
            or self.merged
            or self.base_models
            or self.tags & {"trl", "generated_from_trainer"}
        )


def read_leftovers(directory: Path) -> Leftovers:
    """What a training framework left in this folder. Raises nothing; remembers the last 1,024."""
    files = (CARD, STATE, ADAPTER, ARGUMENTS, MERGE_RECIPE)
    return _read(directory, tuple(_stamp(directory / name) for name in ("", *files)))


def step_folders(directory: Path) -> dict[int, Path]:
    """The `checkpoint-N` folders within, by their step in rising order; links are left out."""
    try:
        with os.scandir(directory) as entries:
            names = [
                entry.name
                for entry in islice(entries, MOST_FOLDER_ENTRIES)
                if entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return {}
    steps = {step: directory / name for name in names if (step := step_of(name)) is not None}
    return dict(sorted(steps.items()))


def step_of(name: str) -> int | None:
    """The step that a folder's name gives: 400 of `checkpoint-400`; None of any other name."""
    number = name.removeprefix("checkpoint-")
    is_number = number != name and number.isascii() and number.isdigit() and len(number) < 12
    return int(number) if is_number else None


def read_json(path: Path, most_bytes: int = MOST_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object from a regular file; empty if it is missing, too large or broken."""
    # Here, not above: every command loads the plugins, and few of them read YAML.
    from ptharness.safe_yaml import YamlError, read_text

    try:
        content = json.loads(read_text(path, most_bytes))
    except (YamlError, ValueError, ArithmeticError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@lru_cache(maxsize=1024)
def _read(directory: Path, _stamps: tuple[object, ...]) -> Leftovers:
    state = read_json(directory / STATE, MOST_STATE_BYTES)
    if not isinstance(state.get("log_history"), list):
        for folder in list(reversed(step_folders(directory).values()))[:3]:
            state = read_json(folder / STATE, MOST_STATE_BYTES)
            if isinstance(state.get("log_history"), list):
                break
    history = state.get("log_history")
    entries = [e for e in history if isinstance(e, dict)] if isinstance(history, list) else []
    step = state.get("global_step")
    step = step if type(step) is int and 0 < step < MOST_STEPS else None
    return Leftovers(
        card=_front_matter(directory / CARD),
        logged=frozenset(key for entry in entries for key in entry if key.isprintable()),
        step=step,
        learning_rate_sum=_learning_rate_sum(entries, step),
        trainer_arguments=_class_of_pickle(directory / ARGUMENTS),
        adapter=read_json(directory / ADAPTER, MOST_ADAPTER_BYTES),
        merged=_merged(directory / MERGE_RECIPE),
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def _merged(path: Path) -> tuple[str, ...]:
    """The models that a mergekit recipe names, wherever in it they stand."""
    from ptharness.safe_yaml import YamlError, parse_yaml, read_text

    try:
        content = parse_yaml(read_text(path, MOST_FRONT_MATTER))
    except YamlError:
        return ()
    names: list[str] = []
    waiting = deque([content])
    while waiting:
        value = waiting.popleft()
        if isinstance(value, dict):
            named = (value.get("model"), value.get("base_model"))
            names += [name for name in named if isinstance(name, str)]
        waiting += (
            list(value.values())
            if isinstance(value, dict)
            else value
            if isinstance(value, list)
            else []
        )
    return tuple(dict.fromkeys(names))


def _front_matter(path: Path) -> dict[str, Any]:
    from ptharness.safe_yaml import YamlError, parse_yaml, read_text

    try:
        text = read_text(path, MOST_CARD_BYTES).replace("\r\n", "\n")
        start, _, rest = text.partition("---\n")
        front, end, _ = rest.partition("\n---")
        is_there = not start.strip() and end and len(front) <= MOST_FRONT_MATTER
        content = parse_yaml(front) if is_there else None
    except YamlError:
        return {}
    return content if isinstance(content, dict) else {}


def _learning_rate_sum(entries: list[dict[str, Any]], step: int | None) -> float | None:
    """The mean of the logged learning rates times the steps; None where they tell too little.

    The last entry of a schedule that ends at 0 says nothing of what came before it.
    """
    rates = [
        float(rate)
        for entry in entries
        if isinstance(rate := entry.get("learning_rate"), int | float) and 0 <= rate < 10
    ]
    if len(rates) < FEWEST_RATES or not any(rates) or step is None:
        return None
    return sum(rates) / len(rates) * step


def _class_of_pickle(path: Path) -> str:
    """The class that a file of `torch.save` would make first; the pickle is not run."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_ARGUMENTS_BYTES:
            return ""
        with zipfile.ZipFile(path) as archive:
            member = next(m for m in archive.infolist() if m.filename.endswith("data.pkl"))
            if member.compress_type != zipfile.ZIP_STORED:
                return ""  # torch.save does not compress; what expands is a bomb
            with archive.open(member) as file:
                content = file.read(MOST_ARGUMENTS_BYTES)
        strings: list[str] = []
        for opcode, argument, _ in islice(pickletools.genops(content), 1000):
            if opcode.name == "GLOBAL":
                return str(argument).split(" ")[-1]
            if opcode.name == "STACK_GLOBAL":
                return strings[-1] if strings else ""
            if isinstance(argument, str):
                strings.append(argument)
    except Exception:
        # Hostile bytes make zipfile and pickletools raise almost anything; it is then no trace.
        return ""
    return ""
