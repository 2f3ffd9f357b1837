"""What was scored under a parent: a stage's trajectories, and the parent's own samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptharness.planner import Work
from ptharness.store import UnitStore
from ptharness.tasks.trajectories import are_spelled, by_prompt
from ptharness.trajectories import Trajectory


@dataclass(frozen=True)
class Text:
    """A scored text: log-probabilities in nats of its tokens, and what is known of it.

    `of` is the trajectory that it is, or for a sample of the parent one of the same prompt. `side`
    is own for such a sample. `cut` says whether that was cut off, `spelled` whether the tokens are
    the text and not one with unknown characters or otherwise changed.
    """

    document: int
    of: Trajectory
    text: str
    logprobs: np.ndarray[Any, np.dtype[np.float64]]
    side: str = "own"
    reward: float = math.nan
    cut: bool = False
    spelled: bool = True

    @property
    def nll(self) -> float:
        """Nats per token."""
        return float(-self.logprobs.mean())


def given_texts(work: Work, store: UnitStore, trajectories: Sequence[Trajectory]) -> list[Text]:
    """The trajectories, but for those that do not fit the parent's context."""
    rows, known = work.planned.prompts.rows, by_prompt(trajectories)
    documents, requests = rows["document"].to_pylist(), rows["request"].to_pylist()
    spelled = are_spelled(rows)
    found = []
    for unit in work.generation:
        first = int(work.planned.prompts.document_starts[unit.first_document])
        table = store.read("generation", unit.key, ["row", "token_logprobs_nats"])
        for row, logprobs in zip(*(column.to_pylist() for column in table), strict=True):
            at = first + row
            of = known[documents[at]][requests[at]]
            found.append(
                Text(
                    documents[at],
                    of,
                    of.completion,
                    np.asarray(logprobs or (), np.float64),
                    of.side,
                    math.nan if of.reward is None else of.reward,
                    spelled=spelled[at],
                )
            )
    return [text for text in found if len(text.logprobs)]


def own_texts(work: Work, store: UnitStore, trajectories: Sequence[Trajectory]) -> list[Text]:
    """The parent's own samples for the same prompts."""
    documents = work.planned.prompts.rows["document"].to_pylist()
    known = by_prompt(trajectories)
    columns = ["row", "text", "token_logprobs_nats", "finish_reason"]
    found = []
    for unit in work.generation:
        first = int(work.planned.prompts.document_starts[unit.first_document])
        table = store.read("generation", unit.key, columns)
        for row, text, logprobs, reason in zip(*(c.to_pylist() for c in table), strict=True):
            document = documents[first + row]
            array = np.asarray(logprobs or (), np.float64)
            cut = reason == "length"
            found.append(Text(document, known[document][0], text or "", array, cut=cut))
    return [text for text in found if len(text.logprobs)]
