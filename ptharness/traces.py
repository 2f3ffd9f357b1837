"""From what a training framework left to evidence: how strong a trace is, and reading its names.

For method plugins. The strengths go from two marks that agree down to no sign at all; all plugins
use the same ones, so that their evidence can be ranked.
"""

from __future__ import annotations

from collections.abc import Mapping

from ptharness.leftovers import Leftovers
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
