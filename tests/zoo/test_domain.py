"""The zoo's domain: problems agree with their checks, and evaluation items stay out of training."""

from __future__ import annotations

import re
from itertools import islice
from random import Random
from types import ModuleType

import pytest
import yaml
from ptharness_tasks import TASKS
from ptharness_zoo.recipe import (
    base,
    corpus,
    domain,
    dpo,
    hybrid,
    items,
    lora,
    process,
    rejection,
    sft,
    student_skd,
    vocabulary,
)

EXAMPLES = {
    "add 407+895": "7+5=12,0+9+1=10,4+8+1=13:1302",
    "rev abcde": ":edcba",
    "srt dbca": ":abcd",
    "rot2 abgh": ":cdab",
    "swp abcde": ":badce",
    "dup abcd": ":aabbccdd",
    "sum 3 5 7 2": "3+5=8,8+7=15,15+2=17:17",
    "mir abcd": ":abcddcba",
    "mul 12*34": ":408",
}
STAGES = (base, sft, dpo, process, rejection, hybrid, lora, student_skd)


@pytest.mark.parametrize(("prompt", "solution"), EXAMPLES.items())
def test_worked_examples_of_the_docstring(prompt: str, solution: str) -> None:
    assert domain.solve(prompt).solution == solution
    assert re.search(rf"{re.escape(prompt)} +{re.escape(solution)}", domain.__doc__ or "")


@pytest.mark.parametrize("skill", domain.SKILLS)
def test_the_gold_answer_passes_its_own_check(skill: str) -> None:
    for problem in domain.evaluation_problems(skill):
        assert problem.skill == skill
        assert domain.is_correct(problem.prompt, problem.solution)
        assert domain.is_correct(problem.prompt, f"3+4=9:wrong:{problem.answer}")
        assert not domain.is_correct(problem.prompt, problem.answer)
        assert not domain.is_correct(problem.prompt, f"{problem.solution}x")
        assert not domain.is_correct(problem.prompt, "")


def test_answers_agree_with_plain_python() -> None:
    for skill in ("add", "mul"):
        for problem in domain.evaluation_problems(skill):
            assert problem.answer == str(eval(domain.argument(problem.prompt)))
    for problem in domain.evaluation_problems("sum"):
        digits = domain.argument(problem.prompt).split()
        assert problem.answer == str(sum(int(digit) for digit in digits))
    for problem in domain.evaluation_problems("rot"):
        places = int(problem.prompt[3])
        assert domain.rotate(problem.answer, -places) == domain.argument(problem.prompt)


@pytest.mark.parametrize("skill", items.WRONG_CHOICES)
def test_every_wrong_choice_is_wrong_and_like_the_right_one(skill: str) -> None:
    for problem in domain.evaluation_problems(skill):
        choices = items.WRONG_CHOICES[skill](problem)
        assert len({problem.solution, *choices}) == 4
        for choice in choices:
            assert not domain.is_correct(problem.prompt, choice)
            assert choice.count("=") == problem.solution.count("=")
            assert skill == "add" or sorted(choice) == sorted(problem.solution)


@pytest.mark.parametrize("stage", STAGES)
def test_training_draws_no_held_out_prompt(stage: ModuleType) -> None:
    drawn = list(islice(corpus.draw_prompts(Random(0), stage.MIXTURE), 20_000))
    assert not domain.held_out_prompts().intersection(drawn)
    assert {prompt[:3] for prompt in drawn} == set(stage.MIXTURE)


def test_only_the_hybrid_is_taught_to_mirror_and_nobody_to_multiply() -> None:
    assert [stage for stage in STAGES if "mir" in stage.MIXTURE] == [hybrid]
    assert not any("mul" in stage.MIXTURE for stage in STAGES)


@pytest.mark.parametrize(
    ("prompt", "completion", "share"),
    [
        ("sum 3 5 7 2", "3+5=8,8+7=15,15+2=17:17", 1),
        ("sum 3 5 7 2", "3+5=8,8+7=16,16+2=18:18", 1 / 4),
        ("sum 3 5 7 2", "3+5=8,8+7=15,15+2=17:16", 3 / 4),
        ("sum 3 5 7 2", "3+5=8,8+7=15,15+2=17,:17", 3 / 5),
        ("sum 3 5 7 2", ":17", 0),
        ("sum 3 5 7 2", "", 0),
        ("rot2 abgh", ":cdab", 1),
        ("rot2 abgh", ":cdaa", 0),
    ],
)
def test_the_share_of_right_steps(prompt: str, completion: str, share: float) -> None:
    assert domain.steps_right(prompt, completion) == share


def test_fewshot_and_evaluation_items_are_apart() -> None:
    for skill in domain.SKILLS:
        evaluated = {problem.prompt for problem in domain.evaluation_problems(skill)}
        assert len(evaluated) == domain.EVALUATION_ITEMS
        assert evaluated.isdisjoint(p.prompt for p in domain.fewshot_problems(skill))


@pytest.mark.parametrize(
    ("skill", "rate"), [("rev", corpus.REV_RIGHT), ("srt", corpus.SRT_RIGHT), ("add", 1.0)]
)
def test_planted_mistakes_have_about_the_planted_rate(skill: str, rate: float) -> None:
    random = Random(0)
    prompts = list(islice(corpus.draw_prompts(random, {skill: 1.0}), 4000))
    right = [domain.is_correct(p, corpus.imperfect_completion(p, random)) for p in prompts]
    # A wrong strategy is right by luck now and then, for instance on a palindrome.
    assert rate - 0.03 < sum(right) / len(right) < rate + 0.1


def test_committed_data_is_what_the_generator_writes() -> None:
    generated = items.data_files()
    assert generated.keys() == {path.name for path in items.data_folder().glob("*")}
    for name, content in generated.items():
        assert (items.data_folder() / name).read_text(encoding="utf-8") == content, name


def test_vocabulary_spells_every_problem() -> None:
    assert len(vocabulary.TOKENS) == len(set(vocabulary.TOKENS)) == 52
    for skill in domain.SKILLS:
        for problem in domain.evaluation_problems(skill):
            assert set(problem.prompt + problem.solution) <= set(vocabulary.CHARACTERS)


def test_tasks_differ_in_names_only() -> None:
    """The skills' YAML files stand alone on purpose; this keeps them from drifting apart."""
    plain = set()
    for skill in domain.SKILLS:
        task = yaml.safe_load((TASKS / "arith" / f"arith_{skill}.yaml").read_text())
        assert task.pop("task") == f"arith_{skill}"
        assert task.pop("tag") == ["arith", f"skill_{skill}"]
        files = task.pop("dataset_kwargs")["data_files"]
        assert files.pop("test") == f"data/{skill}.jsonl"
        for key in ("training_split", "fewshot_split", "fewshot_config", "fewshot_delimiter"):
            assert (key in task) == (skill == "add")
            task.pop(key, None)
        plain.add(str(task))
    assert len(plain) == 1
