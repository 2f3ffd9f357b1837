"""The skills of the zoo: how problems are drawn, worked out and checked.

A prompt is a skill's name and its argument; a completion is optional working, a colon, and the
answer.  Whatever follows the *last* colon is the answer:

    add 407+895   7+5=12,0+9+1=10,4+8+1=13:1302     columns from the right, carries as a third term
    rev abcde     :edcba                            reverse
    srt dbca      :abcd                             sort
    rot2 abgh     :cdab                             shift K places along a..h, around the end
    swp abcde     :badce                            swap neighbouring pairs
    dup abcd      :aabbccdd                         double each letter
    sum 3 5 7 2   3+5=8,8+7=15,15+2=17:17           running total
    mir abcd      :abcddcba                         mirror: the letters, then the letters reversed
    mul 12*34     :408                              multiply; no stage ever trains it

Nothing heavy is imported here: training, evaluation items and tests share this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

LETTERS = "abcdefgh"
LARGEST_ROTATION = 3


@dataclass(frozen=True)
class Problem:
    """One prompt, its gold answer, and the completion that a perfect model would write."""

    skill: str
    prompt: str
    answer: str
    solution: str


@dataclass(frozen=True)
class Skill:
    """A kind of problem: ``draw`` makes a prompt, ``work_out`` turns it into a completion."""

    name: str
    draw: Callable[[Random], str]
    work_out: Callable[[str], str]

    def problem(self, prompt: str) -> Problem:
        """Solve ``prompt``."""
        solution = self.work_out(prompt)
        return Problem(self.name, prompt, extract_answer(solution), solution)


def extract_answer(completion: str) -> str:
    """Return what follows the last colon; without a colon there is no answer, hence ``""``."""
    _, colon, answer = completion.rpartition(":")
    return answer.strip() if colon else ""


def is_correct(prompt: str, completion: str) -> bool:
    """Check a completion by its answer alone: the working may be wrong or absent."""
    return extract_answer(completion) == solve(prompt).answer


def solve(prompt: str) -> Problem:
    """Solve a prompt of any skill, found by its first three letters."""
    return SKILLS[prompt[:3]].problem(prompt)


def argument(prompt: str) -> str:
    """Return the prompt without the skill's name: ``rev abcd`` -> ``abcd``."""
    return prompt.split(" ", 1)[1]


# Letters


def draw_letters(random: Random) -> str:
    """Draw 4 or 5 letters, repeats allowed."""
    return "".join(random.choices(LETTERS, k=random.randint(4, 5)))


def rotate(letters: str, places: int) -> str:
    """Shift each letter along a..h, from the end back to the start."""
    return "".join(LETTERS[(LETTERS.index(letter) + places) % len(LETTERS)] for letter in letters)


def swap_pairs(letters: str) -> str:
    """Swap the letters of each neighbouring pair; an odd last letter stays."""
    return "".join(letters[start : start + 2][::-1] for start in range(0, len(letters), 2))


def draw_on_letters(name: str) -> Callable[[Random], str]:
    """Make the prompt generator of a skill whose argument is just letters."""
    return lambda random: f"{name} {draw_letters(random)}"


def draw_rotation(random: Random) -> str:
    """Draw a prompt such as ``rot2 abcd``."""
    return f"rot{random.randint(1, LARGEST_ROTATION)} {draw_letters(random)}"


def work_out_rotation(prompt: str) -> str:
    """Read the number of places from the prompt and rotate."""
    return ":" + rotate(argument(prompt), int(prompt[3]))


# Numbers


def draw_addition(random: Random) -> str:
    """Draw two numbers of three digits."""
    return f"add {random.randint(100, 999)}+{random.randint(100, 999)}"


def work_out_addition(prompt: str) -> str:
    """Add column by column from the right."""
    return add_with_slip(prompt, slip_column=None)


def add_with_slip(prompt: str, slip_column: int | None, slip: int = 1) -> str:
    """Add, but miscount column ``slip_column`` by ``slip`` and go on from there consistently.

    That is the plausible mistake which the multiple-choice task offers as a wrong choice.
    """
    left, right = argument(prompt).split("+")
    steps: list[str] = []
    digits = ""
    carry = 0
    for column, (one, other) in enumerate(zip(reversed(left), reversed(right), strict=True)):
        total = int(one) + int(other) + carry + (slip if column == slip_column else 0)
        steps.append(f"{one}+{other}{'+1' if carry else ''}={total}")
        carry = total // 10
        digits = f"{total % 10}{digits}"
    return ",".join(steps) + ":" + (f"1{digits}" if carry else digits)


def draw_sum(random: Random) -> str:
    """Draw four digits."""
    return "sum " + " ".join(random.choices("0123456789", k=4))


def work_out_sum(prompt: str) -> str:
    """Add up from the left."""
    return sum_with_slips(prompt, slips=(0, 0, 0))


def sum_with_slips(prompt: str, slips: tuple[int, ...]) -> str:
    """Add up from the left with ``slips[i]`` added to step ``i``, going on consistently."""
    terms = [int(digit) for digit in argument(prompt).split(" ")]
    steps = []
    total = terms[0]
    for term, slip in zip(terms[1:], slips, strict=True):
        before, total = total, max(0, total + term + slip)
        steps.append(f"{before}+{term}={total}")
    return ",".join(steps) + f":{total}"


def draw_multiplication(random: Random) -> str:
    """Draw two numbers of two digits."""
    return f"mul {random.randint(10, 99)}*{random.randint(10, 99)}"


def work_out_multiplication(prompt: str) -> str:
    """Give the product without working."""
    left, right = argument(prompt).split("*")
    return f":{int(left) * int(right)}"


SKILLS: dict[str, Skill] = {
    skill.name: skill
    for skill in (
        Skill("add", draw_addition, work_out_addition),
        Skill("rev", draw_on_letters("rev"), lambda prompt: ":" + argument(prompt)[::-1]),
        Skill(
            "srt", draw_on_letters("srt"), lambda prompt: ":" + "".join(sorted(argument(prompt)))
        ),
        Skill("rot", draw_rotation, work_out_rotation),
        Skill("swp", draw_on_letters("swp"), lambda prompt: ":" + swap_pairs(argument(prompt))),
        Skill(
            "dup",
            draw_on_letters("dup"),
            lambda prompt: ":" + "".join(letter * 2 for letter in argument(prompt)),
        ),
        Skill("sum", draw_sum, work_out_sum),
        Skill(
            "mir",
            draw_on_letters("mir"),
            lambda prompt: ":" + argument(prompt) + argument(prompt)[::-1],
        ),
        Skill("mul", draw_multiplication, work_out_multiplication),
    )
}


def steps_right(prompt: str, completion: str) -> float:
    """Return the share of a completion's steps that are right, the answer included.

    A step counts where the perfect working has it, so one slip spoils what is carried on from it.
    Without working the answer is the only step.
    """
    expected = re.split("[,:]", solve(prompt).solution.lstrip(":"))
    written = re.split("[,:]", completion.removeprefix(":"))
    right = [one == other for one, other in zip(expected, written, strict=False)].count(True)
    return right / max(len(expected), len(written))


# Held-out problems

EVALUATION_ITEMS = 200
FEWSHOT_ITEMS = 16


def evaluation_problems(skill: str) -> list[Problem]:
    """Return the evaluation items of a skill: always the same, each prompt once."""
    return _held_out(skill)[:EVALUATION_ITEMS]


def fewshot_problems(skill: str) -> list[Problem]:
    """Return the worked examples for few-shot prompts: no evaluation item is among them."""
    return _held_out(skill)[EVALUATION_ITEMS:]


def held_out_prompts() -> frozenset[str]:
    """Return every prompt that no training draw may use."""
    return frozenset(problem.prompt for skill in SKILLS for problem in _held_out(skill))


def _held_out(skill: str) -> list[Problem]:
    random = Random(f"held out: {skill}")
    prompts: dict[str, None] = {}
    while len(prompts) < EVALUATION_ITEMS + FEWSHOT_ITEMS:
        prompts[SKILLS[skill].draw(random)] = None
    return [SKILLS[skill].problem(prompt) for prompt in prompts]


def wrong_choices(problem: Problem) -> list[str]:
    """Work an addition out with one miscounted column: one wrong completion for each column."""
    random = Random(f"wrong choices: {problem.prompt}")
    wrong = []
    for column, step in enumerate(problem.solution.partition(":")[0].split(",")):
        total = int(step.partition("=")[2])
        slip = random.choice([-1, 1]) if 0 < total < 19 else (1 if total == 0 else -1)
        wrong.append(add_with_slip(problem.prompt, column, slip))
    return wrong
