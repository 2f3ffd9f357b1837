"""The numbers, prompts and token ids of lm-eval's own evaluator, with its `hf` model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ptharness.prompts import Template
from ptharness.tasks import lm_eval_aggregation
from ptharness.tasks.base import Document, TaskSettings
from ptharness.tasks.catalogue import PathTasks
from tests.tasks.reference import (
    CHECKPOINT,
    MADE_HERE,
    ROOT,
    TASKS,
    answers,
    as_table,
    evaluate,
    reported,
    scored,
    shared_model,
)

PLAIN, CHAT = Template("none"), Template("auto")
ARITH = ROOT / "tasks" / "ptharness_tasks" / "arith"


@pytest.fixture(scope="module")
def model() -> Any:
    return shared_model()


CASES = [
    (TASKS / "words.yaml", PLAIN),
    (TASKS / "words.yaml", CHAT),
    (TASKS / "words.yaml", Template("auto", system_prompt="be brief. ")),
    (TASKS / "words_fewshot.yaml", PLAIN),
    (TASKS / "words_fewshot.yaml", CHAT),
    (TASKS / "words_same_split.yaml", CHAT),
    (TASKS / "sums.yaml", PLAIN),
    (TASKS / "sums.yaml", CHAT),
    (TASKS / "pairs.yaml", PLAIN),
    (TASKS / "contexts.yaml", CHAT),
    (TASKS / "own_scorer.yaml", CHAT),
    (TASKS / "last_letter.yaml", PLAIN),
]


@pytest.mark.parametrize(
    ("yaml", "template"), CASES, ids=lambda v: v.stem if isinstance(v, Path) else v.chat_template
)
def test_prompts_and_metrics_equal_lm_evals(
    yaml: Path, template: Template, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval_aggregation, "BOOTSTRAP_ITERATIONS", 200)
    model.seen.clear()
    theirs = evaluate(model, yaml, template, bootstrap_iters=200)
    asked = sorted(model.seen)
    logged = theirs["samples"][yaml.stem]
    requests = [
        (sample["doc_id"], *(part for part in argument if isinstance(part, str)))
        for sample in logged
        if sample["filter"] == logged[0]["filter"]
        for argument in sample["arguments"]
    ]

    monkeypatch.chdir(tmp_path)
    (task,) = PathTasks().find(str(yaml), tmp_path)
    loaded = task.load(TaskSettings())
    prompts = loaded.prompts(CHECKPOINT, template)

    rows = prompts.rows.to_pylist()
    texts = [[row[c] for c in ("document", "prompt", "continuation")] for row in rows]
    assert [tuple(p for p in text if p is not None) for text in texts] == requests
    ids = [row["prompt_token_ids"] for row in rows]
    if prompts.header.kind == "generate":
        assert sorted((prompt,) for prompt in ids) == asked
    else:
        rest = [row["continuation_token_ids"] for row in rows]
        assert sorted(zip(ids, rest, strict=True)) == asked
    assert prompts.header.chat_template_used is (template.chat_template == "auto")

    aggregates = loaded.aggregate(scored(loaded, answers(model, prompts)))
    table = as_table(aggregates)
    assert table.keys() == reported(theirs, yaml.stem).keys()
    assert list(table) == [m for m in prompts.header.metrics if m[0] not in MADE_HERE]
    for pair, (value, error) in reported(theirs, yaml.stem).items():
        counted = pair[0] in ("f1", "mcc")  # the same draws, added up in another order
        expected = pytest.approx(error, rel=1e-9) if counted else error
        assert table[pair] == (value, expected), pair
    assert all(aggregate.samples == 1 for aggregate in aggregates)


def test_reference_is_worth_comparing_with(model: Any) -> None:
    """The tiny model gets some items right and some wrong, so equal numbers say something."""
    table = reported(evaluate(model, TASKS / "words.yaml", CHAT, bootstrap_iters=0), "words")
    assert 0.05 < table["exact_match", "strict"][0] < 0.95


@pytest.mark.parametrize("name", ["arith_add", "arith_add_choice"])
def test_bundled_tasks_with_few_shot_from_the_settings(name: str, model: Any) -> None:
    yaml = ARITH / f"{name}.yaml"
    model.seen.clear()
    theirs = evaluate(model, yaml, CHAT, num_fewshot=2, limit=12)
    asked = sorted(model.seen)
    (task,) = PathTasks().find(yaml.name, yaml.parent)
    loaded = task.load(TaskSettings(num_fewshot=2))
    prompts = loaded.prompts(CHECKPOINT, CHAT)
    first = prompts.slice_documents(0, 12)
    columns = ["prompt_token_ids"]
    if prompts.header.kind == "loglikelihood":
        columns.append("continuation_token_ids")
    assert sorted(zip(*(first[c].to_pylist() for c in columns), strict=True)) == asked
    prompts = type(prompts)(prompts.header, first)
    table = as_table(loaded.aggregate(scored(loaded, answers(model, prompts))))
    assert table == reported(theirs, name)


def test_few_shot_zero_in_the_yaml_is_overridden(model: Any, tmp_path: Path) -> None:
    """`simple_evaluate` would silently keep the YAML's 0."""
    text = (TASKS / "words.yaml").read_text().replace("task: words", "task: zero\nnum_fewshot: 0")
    (tmp_path / "zero.yaml").write_text(text.replace("items/", f"{TASKS}/items/"))
    (task,) = PathTasks().find("zero.yaml", tmp_path)
    none = task.load(TaskSettings()).prompts(CHECKPOINT, PLAIN).rows["prompt"][0].as_py()
    two = (
        task.load(TaskSettings(num_fewshot=2)).prompts(CHECKPOINT, PLAIN).rows["prompt"][0].as_py()
    )
    assert none.count("\n") == 0
    assert two.count("\n") == 2
    assert two.endswith(none)


def test_prompts_are_the_same_every_time() -> None:
    (task,) = PathTasks().find("words_fewshot.yaml", TASKS)
    loaded = task.load(TaskSettings())
    first, second = (loaded.prompts(CHECKPOINT, CHAT).to_table() for _ in range(2))
    again = task.load(TaskSettings()).prompts(CHECKPOINT, CHAT).to_table()
    assert first.equals(second, check_metadata=True)
    assert first.equals(again, check_metadata=True)


def test_filters_over_all_samples_equal_lm_evals_repeats(model: Any) -> None:
    """Four scripted samples per document: lm-eval's `repeats` against ours at n = 4."""
    from lm_eval.api.model import LM

    given = [row["answer"] for row in _documents("words.jsonl")]
    script = [
        [":x", gold, gold, f":{gold}"] if i % 3 else ["a", "b", "b", gold]
        for i, gold in enumerate(given)
    ]

    class Scripted(LM):  # type: ignore[misc]
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            assert len(requests) == 4 * len(script)
            return [text for texts in script for text in texts]

        def loglikelihood(self, *_: Any) -> Any:
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    theirs = reported(evaluate(Scripted(), TASKS / "votes.yaml", PLAIN), "votes")
    (task,) = PathTasks().find("votes.yaml", TASKS)
    loaded = task.load(TaskSettings())
    scores = scored(loaded, [Document(i, [texts]) for i, texts in enumerate(script)])
    assert {s.sample for s in scores} == {0, 1, 2, 3, None}
    table = {(a.metric, a.filter): a for a in loaded.aggregate(scores)}
    for name in ("maj@4", "maj@3"):
        ours = table["exact_match", name]
        assert (ours.value, ours.stderr) == theirs["exact_match", name]
        assert ours.samples == 1
    of_first = [s.values["exact_match", "first"] for s in scores if s.sample == 0]
    assert sum(of_first) / len(of_first) == theirs["exact_match", "first"][0]
    assert table["exact_match", "first"].samples == 4


def _documents(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TASKS / "items" / name).read_text().splitlines()]
