"""What a training framework leaves in a checkpoint's folder: model card, trainer state.

The folder is anybody's: reads are bounded, broken files are passed over, and nothing is ever
unpickled (`training_args.bin` is a pickle).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from ptharness.methods import Evidence

MOST_CARD_BYTES = 1_000_000
MOST_STATE_BYTES = 50_000_000
MOST_FOLDER_ENTRIES = 10_000

CARD_STRENGTH = 0.9
"""TRL writes its trainer's name into the card; people copy cards, so not 1."""

LOG_STRENGTH = 0.7
"""Names of logged quantities: telling, but shared by trainers of one family."""


def card_tags(directory: Path) -> frozenset[str]:
    """The tags in the front matter of `README.md`; empty if there is none that can be read."""
    # Here, not above: every command loads the plugins, and few of them read YAML.
    from ptharness.safe_yaml import YamlError, parse_yaml, read_text

    try:
        text = read_text(directory / "README.md", MOST_CARD_BYTES)
    except YamlError:
        return frozenset()
    start, _, rest = text.partition("---\n")
    front, end, _ = rest.partition("\n---")
    if start.strip() or not end:
        return frozenset()
    try:
        content = parse_yaml(front)
    except YamlError:
        return frozenset()
    tags = content.get("tags") if isinstance(content, dict) else None
    if not isinstance(tags, list):
        return frozenset()
    return frozenset(tag for tag in tags if isinstance(tag, str))


def logged_keys(directory: Path) -> frozenset[str]:
    """Names of what the trainer logged, from the latest `trainer_state.json`."""
    from ptharness.safe_yaml import YamlError, read_text

    for folder in (directory, *_steps(directory)):
        try:
            state = json.loads(read_text(folder / "trainer_state.json", MOST_STATE_BYTES))
        except (YamlError, ValueError, RecursionError):
            continue
        history = state.get("log_history") if isinstance(state, dict) else None
        if isinstance(history, list):
            return frozenset(key for entry in history if isinstance(entry, dict) for key in entry)
    return frozenset()


def _steps(directory: Path) -> Iterable[Path]:
    """The `checkpoint-N` folders within, latest first, at most three."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in islice(entries, MOST_FOLDER_ENTRIES)]
    except OSError:
        return []
    steps = {
        int(number): directory / name
        for name in names
        if (number := name.removeprefix("checkpoint-")) != name
        and number.isascii()
        and number.isdigit()
        and len(number) < 12
    }
    return [steps[step] for step in sorted(steps, reverse=True)[:3]]


def from_card(directory: Path, tags: Mapping[str, str]) -> Evidence | None:
    """Evidence from TRL's model card: `tags` maps one of its tags to a method's name."""
    found = card_tags(directory)
    named = sorted(tag for tag in tags if tag in found)
    if "trl" not in found or not named:
        return None
    return Evidence(tags[named[0]], CARD_STRENGTH, f"README.md is tagged trl and {named[0]}")
