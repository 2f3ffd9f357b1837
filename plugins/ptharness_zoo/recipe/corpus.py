"""What is drawn for training: mixtures of skills, and the base model's deliberate mistakes.

The base corpus plants *latent* abilities: it works ``rev`` out rightly 35 % of the time and
``srt`` 40 %, otherwise by a wrong but consistent strategy (which may hit the answer by luck), and
miscounts one step in five of ``sum``.  A model trained on it is right now and then on every item,
which is what reinforcement learning can sharpen.  Prompts held out for evaluation are never drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from random import Random
from typing import Any

from ptharness_zoo.recipe import domain

Message = dict[str, str]
Row = dict[str, list[Message]]
Trajectory = dict[str, Any]
"""What a stage trained on, in TRL's form: a `Row`, a preference pair, or a rollout with reward."""

REV_RIGHT = 0.35
SRT_RIGHT = 0.40
SUM_SLIP = 0.20

WRONG_REVERSALS: tuple[Callable[[str], str], ...] = (
    lambda letters: letters,
    lambda letters: letters[1:] + letters[0],
    lambda letters: letters[-1] + letters[1:-1] + letters[0],
)
WRONG_SORTS: tuple[Callable[[str], str], ...] = (
    lambda letters: "".join(sorted(letters, reverse=True)),
    lambda letters: letters,
    lambda letters: "".join(sorted(letters[:-1])) + letters[-1],
)


def draw_prompts(random: Random, mixture: Mapping[str, float]) -> Iterator[str]:
    """Yield prompts for ever, skills in the proportions of ``mixture``, none of them held out."""
    held_out = domain.held_out_prompts()
    skills, weights = list(mixture), list(mixture.values())
    while True:
        prompt = domain.SKILLS[random.choices(skills, weights)[0]].draw(random)
        if prompt not in held_out:
            yield prompt


def imperfect_completion(prompt: str, random: Random) -> str:
    """Complete as the base corpus does: with planted mistakes in ``rev``, ``srt`` and ``sum``."""
    match prompt[:3]:
        case "rev" if random.random() > REV_RIGHT:
            return ":" + random.choice(WRONG_REVERSALS)(domain.argument(prompt))
        case "srt" if random.random() > SRT_RIGHT:
            return ":" + random.choice(WRONG_SORTS)(domain.argument(prompt))
        case "sum":
            slips = (random.choice([-1, 1]) if random.random() < SUM_SLIP else 0 for _ in range(3))
            return domain.sum_with_slips(prompt, tuple(slips))
        case _:
            return domain.solve(prompt).solution


def user_message(prompt: str) -> list[Message]:
    """Wrap a prompt as a conversation of one message."""
    return [{"role": "user", "content": prompt}]


def assistant_message(completion: str) -> list[Message]:
    """Wrap a completion as a conversation of one message."""
    return [{"role": "assistant", "content": completion}]


def row(prompt: str, completion: str) -> Row:
    """Make a training row in TRL's conversational prompt-completion form."""
    return {"prompt": user_message(prompt), "completion": assistant_message(completion)}


def prompt_rows(seed: int, mixture: Mapping[str, float], count: int) -> list[Row]:
    """Draw ``count`` prompts alone, for stages whose model writes the completions."""
    prompts = islice(draw_prompts(Random(seed), mixture), count)
    return [{"prompt": user_message(prompt)} for prompt in prompts]


def imperfect_rows(seed: int, mixture: Mapping[str, float], count: int) -> list[Row]:
    """Draw ``count`` training rows with the base corpus' mistakes."""
    random = Random(seed)
    prompts = islice(draw_prompts(random, mixture), count)
    return [row(prompt, imperfect_completion(prompt, random)) for prompt in prompts]
