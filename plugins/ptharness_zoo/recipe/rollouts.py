"""Keeping what a learner wrote while it was trained: the trajectories of the on-policy stages.

Only early rollouts are kept: they are the parent's own behaviour, or nearly; later ones drifted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ptharness_zoo.recipe import corpus, domain

Conversations = list[list[corpus.Message]]
Score = Callable[[str, str], float]


class Rollouts:
    """A reward function of TRL that remembers the first rollouts, with their rewards.

    TRL logs it as ``rewards/<name>/mean``, and a method is told from another by that name.
    """

    def __init__(self, name: str, score: Score, *, wanted: int, one_in: int = 1) -> None:
        self.__name__ = name
        self._score, self._wanted, self._one_in = score, wanted, one_in
        self._seen = 0
        self.kept: list[corpus.Trajectory] = []

    def __call__(self, prompts: Conversations, completions: Conversations, **_: Any) -> list[float]:
        """Score the first message of each completion by the last of its prompt."""
        rewards = []
        for prompt, completion in zip(prompts, completions, strict=True):
            reward = self._score(prompt[-1]["content"], completion[0]["content"])
            rewards.append(reward)
            if self._seen % self._one_in == 0 and len(self.kept) < self._wanted:
                row = {"prompt": prompt, "completion": completion}
                self.kept.append(row | {"reward": reward})
            self._seen += 1
        return rewards


def answer_is_right(prompt: str, completion: str) -> float:
    """Reward 1 for a right answer and 0 for any other."""
    return float(domain.is_correct(prompt, completion))
