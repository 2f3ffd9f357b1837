"""What fine-tuning on fixed targets leaves, and methods that make their targets leave too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ptharness.leftovers import Leftovers, read_leftovers
from ptharness.methods import Evidence
from ptharness.traces import LOG, by_name

SFT_TAGS = {"sft": "sft"}
SFT_ARGUMENTS = {"SFTConfig": "sft"}


def supervised(left: Leftovers) -> Evidence | None:
    """What any fine-tuning on fixed targets leaves, whoever wrote or filtered them."""
    by_trainer = by_name(left, SFT_TAGS, SFT_ARGUMENTS)
    if by_trainer:
        return by_trainer
    others = ("reward", "completions/", "objective/", "logps/")
    if "mean_token_accuracy" in left.logged and not any(
        key.startswith(others) for key in left.logged
    ):
        return Evidence("sft", LOG, "trainer_state.json logs mean_token_accuracy and no reward")
    return None


def like_supervised(directory: Path, method: str, tags: Mapping[str, str]) -> Evidence | None:
    """Evidence for a method that fine-tunes on targets of its own making.

    Unless the card names it, it leaves what `supervised` finds: equally strong evidence for
    either, so that whoever knows the data has to say which it was.
    """
    left = read_leftovers(directory)
    named = by_name(left, tags)
    plain = supervised(left)
    if plain and not (named and named.strength >= plain.strength):
        return Evidence(method, plain.strength, plain.found)
    return named
