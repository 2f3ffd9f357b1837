"""Multiple choice: which tasks are it, and what their stages show in place of a decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHOICE_COLUMNS = (
    ("delta", "accuracy"),
    ("choice_probability", "choice probability"),
    ("forgetting", "forgetting"),
    ("backward_transfer", "backward transfer"),
)
UNITS = (
    "Accuracy and choice probability: changes in percentage points. Forgetting and backward "
    "transfer: in % of the items, beyond what guessing shows."
)
WHY = (
    "Expansion and reshaping are not defined on multiple choice: they compare what several "
    "attempts at an item reach, and a choice is made once. No role is measured on it."
)
UNKNOWN = "-: not comparable, too few items, or the choices of the items are not known"
NO_ATTEMPTS = "multiple choice has no attempts"


def choice_tasks(run: Mapping[str, Any]) -> frozenset[str]:
    """Tasks that are right or wrong by likelihoods, as run.json describes them."""
    return frozenset(task for task, about in described(run).items() if _is_choice(about))


def has_choices_only(run: Mapping[str, Any]) -> bool:
    """Whether there is no task with attempts or a score of another kind."""
    tasks = described(run)
    return bool(tasks) and len(choice_tasks(run)) == len(tasks)


def choice_tags(run: Mapping[str, Any]) -> frozenset[str]:
    """Tags all of whose tasks are multiple choice."""
    tags: dict[bool, set[str]] = {True: set(), False: set()}
    for about in described(run).values():
        tags[_is_choice(about)].update(about.get("tags") or ())
    return frozenset(tags[True] - tags[False])


def described(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What run.json says of each task."""
    tasks = run.get("tasks")
    return tasks if isinstance(tasks, dict) else {}


def _is_choice(about: Mapping[str, Any]) -> bool:
    return about.get("kind") == "loglikelihood" and bool(about.get("binary"))
