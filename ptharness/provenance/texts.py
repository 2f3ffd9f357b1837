"""What was scored under a parent: a stage's trajectories, and the parent's own samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptharness.planner import Work
from ptharness.store import UnitStore
from ptharness.tasks.trajectories import read_about


@dataclass(frozen=True)
class Text:
    """A scored text: log-probabilities in nats of its tokens, and what is known of it.

    `side` is own for a sample of the parent. `cut` says whether that was cut off, `spelled` whether
    the tokens are the text and not one with unknown characters or otherwise changed.
    """

    document: int
    about: Mapping[str, Any]
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


def given_texts(work: Work, store: UnitStore) -> list[Text]:
    """The trajectories, but for those that do not fit the parent's context."""
    rows = work.planned.prompts.rows
    about = read_about(rows)
    documents, texts = rows["document"].to_pylist(), rows["continuation"].to_pylist()
    found = []
    for unit in work.generation:
        first = int(work.planned.prompts.document_starts[unit.first_document])
        table = store.read("generation", unit.key, ["row", "token_logprobs_nats"])
        for row, logprobs in zip(*(column.to_pylist() for column in table), strict=True):
            at = first + row
            known = about[at]
            reward = math.nan if known["reward"] is None else float(known["reward"])
            array = np.asarray(logprobs or (), np.float64)
            found.append(
                Text(
                    documents[at],
                    known,
                    texts[at],
                    array,
                    known["side"],
                    reward,
                    spelled=known["spelled"],
                )
            )
    return [text for text in found if len(text.logprobs)]


def own_texts(work: Work, store: UnitStore) -> list[Text]:
    """The parent's own samples for the same prompts."""
    rows = work.planned.prompts.rows
    about, documents = read_about(rows), rows["document"].to_pylist()
    columns = ["row", "text", "token_logprobs_nats", "finish_reason"]
    found = []
    for unit in work.generation:
        first = int(work.planned.prompts.document_starts[unit.first_document])
        table = store.read("generation", unit.key, columns)
        for row, text, logprobs, reason in zip(*(c.to_pylist() for c in table), strict=True):
            at = first + row
            array = np.asarray(logprobs or (), np.float64)
            cut = reason == "length"
            found.append(Text(documents[at], about[at], text or "", array, cut=cut))
    return [text for text in found if len(text.logprobs)]
