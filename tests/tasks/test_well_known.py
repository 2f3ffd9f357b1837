"""Tasks of lm-eval's own, by name, on a few documents in the form of their data sets.

Prompts and numbers against lm-eval's evaluator; the data sets themselves are not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptharness.prompts import Template
from ptharness.tasks import hub, lm_eval_aggregation
from ptharness.tasks.base import TaskSettings
from ptharness.tasks.catalogue import LmEvalCatalogue, lm_eval_tasks_folder
from tests.tasks.reference import (
    CHECKPOINT,
    MADE_HERE,
    answers,
    as_table,
    reported,
    requests,
    scored,
    shared_model,
)

_WORDS = ["a cat sat on the mat", "a dog ran to the hill", "my hen hid in a den"]
STAND_INS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "openai/gsm8k": {
        "train": [
            {"question": f"what is {n} + 1?", "answer": f"{n} + 1 = {n + 1}\n#### {n + 1}"}
            for n in range(6)
        ],
        "test": [
            {"question": "what is 1,000 + 5?", "answer": "that is\n#### 1,005"},
            {"question": "what is 7 - 4?", "answer": "7 - 4 = 3\n#### 3"},
        ],
    },
    "cais/mmlu": {
        split: [
            {"question": f" {w}? ", "subject": "anatomy", "choices": w.split()[:4], "answer": n % 4}
            for n, w in enumerate(_WORDS * 2)
        ]
        for split in ("dev", "test")
    },
    "allenai/ai2_arc": {
        "test": [
            {
                "question": word,
                "choices": {"text": word.split(), "label": list("ABCDEF")},
                "answerKey": "BDF"[n],
            }
            for n, word in enumerate(_WORDS)
        ]
    },
    "Rowan/hellaswag": {
        "validation": [
            {
                "activity_label": "pets",
                "ctx_a": f"{word}.",
                "ctx_b": "then it [step]",
                "endings": ["went home.", "ran off.", "slept [title] well.", "ate."],
                "label": str(n),
            }
            for n, word in enumerate(_WORDS)
        ]
    },
    "allenai/winogrande": {
        "validation": [
            {
                "sentence": "the cat bit the dog as _ was mad.",
                "option1": o,
                "option2": t,
                "answer": a,
            }
            for o, t, a in (("the cat", "the dog", "1"), ("a dog", "a cat", "2"))
        ]
    },
    "EleutherAI/lambada_openai": {"test": [{"text": word} for word in _WORDS]},
    "EleutherAI/wikitext_document_level": {
        "test": [{"page": f" = {word} = \n\n it 's {word} , 1 @,@ 000 ."} for word in _WORDS]
    },
    "truthfulqa/truthful_qa": {
        "validation": [
            {
                "question": f"is it so that {word}?",
                "mc1_targets": {"choices": ["yes", "no", word], "labels": [1, 0, 0]},
                "mc2_targets": {"choices": ["yes", "no", word, "so"], "labels": [1, 1, 0, 0]},
            }
            for word in _WORDS[:2]
        ]
    },
    "hazyresearch/based-squad": {
        "validation": [{"text": f" rev {word} ", "value": word} for word in ("ab", "dcb")]
    },
    "nyu-mll/blimp": {
        "train": [{"sentence_good": word, "sentence_bad": word[::-1]} for word in _WORDS]
    },
}
NAMES = {
    "gsm8k": "gsm8k",
    "mmlu_anatomy": "mmlu/default",
    "arc_easy": "arc",
    "hellaswag": "hellaswag",
    "winogrande": "winogrande",
    "lambada_openai": "lambada",
    "wikitext": "wikitext",
    "truthfulqa_mc2": "truthfulqa",
    "blimp_adjunct_island": "blimp",
    "squad_completion": "squad_completion",
}
"""A task, and where lm-eval has it."""


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(path: str, name: str | None = None, **_: Any) -> Any:
        given = STAND_INS[path]
        any_of_them = next(iter(given.values()))
        splits = dict.fromkeys(("train", "validation", "test"), any_of_them) | given
        return datasets.DatasetDict({s: datasets.Dataset.from_list(r) for s, r in splits.items()})

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    monkeypatch.setattr(lm_eval_aggregation, "BOOTSTRAP_ITERATIONS", 100)
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_numbers_are_lm_evals(name: str) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    own = lm_eval_tasks_folder()
    assert own is not None
    manager = TaskManager(include_path=str(own / NAMES[name]), include_defaults=False)
    theirs = simple_evaluate(
        model=shared_model(),
        tasks=[name],
        task_manager=manager,
        apply_chat_template=True,
        bootstrap_iters=100,
    )
    (task,) = LmEvalCatalogue().find(name, Path())
    loaded = task.load(TaskSettings())
    prompts = loaded.prompts(CHECKPOINT, Template())
    assert requests(prompts) == requests_logged(theirs["samples"][name])
    table = as_table(loaded.aggregate(scored(loaded, answers(shared_model(), prompts))))
    assert list(table) == [m for m in prompts.header.metrics if m[0] not in MADE_HERE]
    expected = reported(theirs, name)
    assert table.keys() == expected.keys()
    for pair, (value, error) in expected.items():
        assert table[pair] == (pytest.approx(value), error and pytest.approx(error)), pair


def requests_logged(samples: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What lm-eval wrote down of its requests: document and texts."""
    return [
        (sample["doc_id"], *(part for part in argument if isinstance(part, str)))
        for sample in samples
        if sample["filter"] == samples[0]["filter"]
        for argument in sample["arguments"]
    ]
