"""The evaluation data of the tasks in ``ptharness_tasks/arith/data``, derived from the domain.

``python -m ptharness_zoo.recipe.items`` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from random import Random

from ptharness_zoo.recipe import corpus, domain

Document = dict[str, object]


def data_folder() -> Path:
    """Return where the tasks' YAML files look for their data."""
    import ptharness_tasks

    return Path(ptharness_tasks.__file__).parent / "arith" / "data"


def data_files() -> dict[str, str]:
    """Return every data file as name -> content."""
    files = {
        f"{skill}.jsonl": [document(problem) for problem in domain.evaluation_problems(skill)]
        for skill in domain.SKILLS
    }
    files["add_fewshot.jsonl"] = [document(problem) for problem in domain.fewshot_problems("add")]
    for skill in WRONG_CHOICES:
        problems = domain.evaluation_problems(skill)
        files[f"{skill}_choice.jsonl"] = [choice_document(problem) for problem in problems]
    files["add_choice_fewshot.jsonl"] = [
        choice_document(problem) for problem in domain.fewshot_problems("add")
    ]
    return {
        name: "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in documents)
        for name, documents in files.items()
    }


def document(problem: domain.Problem) -> Document:
    """Return the fields that the tasks refer to."""
    return {"prompt": problem.prompt, "answer": problem.answer, "solution": problem.solution}


def choice_document(problem: domain.Problem) -> Document:
    """Return a problem with its right completion among three wrong ones."""
    choices = [problem.solution, *WRONG_CHOICES[problem.skill](problem)]
    Random(f"order of choices: {problem.prompt}").shuffle(choices)
    return {
        "prompt": problem.prompt,
        "choices": choices,
        "label": choices.index(problem.solution),
    }


def wrong_sorts(problem: domain.Problem) -> list[str]:
    """Sort by the wrong strategies of the base corpus; other orders stand in where they agree."""
    wrong: dict[str, None] = {}
    for candidate in _sorts(domain.argument(problem.prompt)):
        if candidate != problem.answer:
            wrong[f":{candidate}"] = None
    return list(wrong)[:3]


def _sorts(letters: str) -> Iterator[str]:
    yield from (strategy(letters) for strategy in corpus.WRONG_SORTS)
    yield from ("".join(order) for order in permutations(sorted(letters)))


WRONG_CHOICES: dict[str, Callable[[domain.Problem], list[str]]] = {
    "add": domain.wrong_choices,
    "srt": wrong_sorts,
}


def write() -> None:
    """Write all data files."""
    for name, content in data_files().items():
        (data_folder() / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write()
