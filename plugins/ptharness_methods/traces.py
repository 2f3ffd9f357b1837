"""From what a training framework left to evidence: tags of model cards, classes of settings.

How strong a trace is, from the mark of one trainer down to a word that anybody may write:
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ptharness.leftovers import Leftovers, read_leftovers
from ptharness.methods import Evidence

COMPOUND = 0.95
"""Two marks together that one trainer of another family would not leave."""

CARD = 0.9
"""TRL writes its trainer's name into the card; people copy cards, so not 1."""

ARGUMENTS = 0.8
"""The class of the trainer's settings; subclasses may do something else with them."""

LOG = 0.7
"""Names of logged quantities: telling, but shared by trainers of one family."""

LOOSE_TAG = 0.5
"""A tag on a card that no trainer signed: anybody may write it."""

LOOK_ALIKE = 0.3
"""What another method leaves by itself: no contradiction, and no sign either."""

TRAINER_TAGS = ("sft", "dpo", "kto", "orpo", "cpo", "grpo", "rloo", "ppo", "online-dpo", "gkd")

SFT_TAGS = {"sft": "sft"}
SFT_ARGUMENTS = {"SFTConfig": "sft"}


def trainers_of(left: Leftovers) -> list[str]:
    """The trainers of TRL whose tags a signed card carries; more than one is a hybrid's mark."""
    return [tag for tag in TRAINER_TAGS if tag in left.tags and "trl" in left.tags]


def by_name(
    left: Leftovers, tags: Mapping[str, str], arguments: Mapping[str, str] | None = None
) -> Evidence | None:
    """Evidence from the names that a trainer left, the strongest kind first.

    `tags` and `arguments` map a tag of the card, or a class of settings, to a method's name. A
    card that names two trainers speaks for neither alone.
    """
    if len(trainers_of(left)) > 1:
        return None
    named = sorted(tag for tag in tags if tag in left.tags)
    if named and "trl" in left.tags:
        return Evidence(tags[named[0]], CARD, f"README.md is tagged trl and {named[0]}")
    if left.trainer_arguments in (arguments or {}):
        method = (arguments or {})[left.trainer_arguments]
        return Evidence(method, ARGUMENTS, f"training_args.bin holds {left.trainer_arguments}")
    if named:
        return Evidence(tags[named[0]], LOOSE_TAG, f"README.md is tagged {named[0]}")
    return None


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
