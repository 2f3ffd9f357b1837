"""Stage ``items``: write the evaluation data of the tasks in ``ptharness_tasks/arith/data``."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from ptharness_zoo.recipe import domain

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
    files["add_choice.jsonl"] = [
        choice_document(problem) for problem in domain.evaluation_problems("add")
    ]
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
    """Return an addition with the right working among three that miscount one column."""
    choices = [problem.solution, *domain.wrong_choices(problem)]
    Random(f"order of choices: {problem.prompt}").shuffle(choices)
    return {
        "prompt": problem.prompt,
        "choices": choices,
        "label": choices.index(problem.solution),
    }


def write() -> None:
    """Write all data files."""
    for name, content in data_files().items():
        (data_folder() / name).write_text(content, encoding="utf-8")
