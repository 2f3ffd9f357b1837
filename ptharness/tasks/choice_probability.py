"""How much of a model's belief lies on the right choice: a continuous companion of accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ptharness.tasks.lm_eval_prompts import choices_of

CHOICE_PROBABILITY = "choice_probability"


def choice_probability(task: Any, document: Any, log_likelihoods: Sequence[float]) -> float | None:
    """Softmax of the choices' log-likelihoods, summed over the right ones; no length
    normalisation, as in lm-eval's `acc`.

    None where the task does not say which choice is right by its place or its text.
    """
    choices = choices_of(task, document)
    if not choices or len(log_likelihoods) < len(choices):
        return None
    asked = log_likelihoods[: len(choices)]
    right = [place for place in _right(task, document, choices) if 0 <= place < len(choices)]
    top = max(asked)
    if not right or not math.isfinite(top):
        return None
    weights = [math.exp(value - top) for value in asked]
    return math.fsum(weights[place] for place in dict.fromkeys(right)) / math.fsum(weights)


def _right(task: Any, document: Any, choices: Sequence[str]) -> list[int]:
    """Places of the right choices; source: `process_results` of lm_eval/api/task.py, 0.4.13."""
    several_inputs = getattr(task, "multiple_input", 0)
    gold = task.doc_to_text(document) if several_inputs else task.doc_to_target(document)
    found = []
    for one in gold if isinstance(gold, list | tuple) else [gold]:
        if isinstance(one, int) and not isinstance(one, bool):
            found.append(one)
        elif isinstance(one, str) and one in choices:
            found.append(choices.index(one))
    return found
