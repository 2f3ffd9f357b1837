"""The single checks that the contract of a task is made of, and the answers it is given."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ptharness.prompts import Kind, PromptSet
from ptharness.schema import PROMPTS
from ptharness.tasks.base import Aggregate, Document, LoadedTask, Score, Task, TaskSettings

HEAVY = ("torch", "vllm", "lm_eval", "datasets", "transformers", "pandas")

HOSTILE_TEXTS = {
    "empty": "",
    "blank": " \n\t ",
    "long": "7" * 200_000,
    "half a surrogate pair": "\ud800",
    "control characters": "\x00\x1b[2J\x07",
    "markup": "<script>alert(1)</script>[b]{{ 7 * 7 }}{% raw %}",
    "a huge number": "1e999999999",
    "digits of another script": "٣٤٥",
    "brackets": "[" * 5_000 + "\\boxed{" * 500,
    "an answer in a list": "[None, {'a': 1}]",
}
HOSTILE_LIKELIHOODS = {
    "certain": (0.0, True),
    "impossible": (-math.inf, False),
    "hardly": (-1e300, False),
}

SETTINGS = (
    TaskSettings(num_fewshot=1),
    TaskSettings(metric="no such metric"),
    TaskSettings(filter="no such filter"),
    TaskSettings(think_end_token="</think>"),
    TaskSettings(fewshot_seed=7),
    TaskSettings(fewshot_as_multiturn=False),
)
"""Settings that differ in one thing each from those of a manifest that sets nothing."""

_LIGHT = """
import pickle, sys
task, settings = pickle.loads(sys.stdin.buffer.read())
digest = task.inputs_digest(settings)
print([name for name in sys.argv[1:] if name in sys.modules])
"""


def imported_for_digest(task: Task, settings: TaskSettings) -> str:
    """Heavy libraries that unpickling a task and `inputs_digest` import, as a list in text.

    Tried in a process of its own; what that says instead where it fails.
    """
    ran = subprocess.run(
        [sys.executable, "-c", _LIGHT, *HEAVY],
        input=pickle.dumps((task, settings)),
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    return (ran.stdout if ran.returncode == 0 else ran.stderr).decode().strip()


def changed(settings: TaskSettings, by: TaskSettings) -> TaskSettings:
    """Settings with what `by` sets beside its defaults."""
    default = TaskSettings()
    names = [name for name in vars(by) if getattr(by, name) != getattr(default, name)]
    return replace(settings, **{name: getattr(by, name) for name in names})


def check_prompts(prompts: PromptSet, task: Task) -> None:
    """Assert that a prompt set is whole, and holds to `schema.PROMPTS`."""
    header = prompts.header
    assert header.task == task.name, f"the header names {header.task!r}, the task is {task.name!r}"
    assert header.kind in get_args(Kind), f"{header.kind!r} is none of {', '.join(get_args(Kind))}"
    missing = [name for name in PROMPTS.names if name not in prompts.rows.column_names]
    assert not missing, f"the rows lack the columns {', '.join(missing)} of schema.PROMPTS"
    rows = prompts.rows.select(PROMPTS.names).cast(PROMPTS).to_pylist()
    assert rows, "there is no document"
    _check_order(rows, header.documents)
    for row in rows:
        where = f"document {row['document']}, request {row['request']}"
        assert row["item"], f"{where}: has no item"
        assert row["document_digest"], f"{where}: has no document_digest, by which gold is compared"
        assert row["prompt_token_ids"], (
            f"{where}: has no token; begin with one that stands for none"
        )
        continued = row["continuation_token_ids"] is not None
        assert continued == (header.kind != "generate"), (
            f"{where}: a {header.kind} request and continuation_token_ids "
            f"{'' if continued else 'not '}given"
        )
    assert header.metrics, "the header lists no metric"
    assert tuple(header.primary) in header.metrics, (
        f"the primary metric {header.primary} is none of {header.metrics}"
    )
    assert header.score_digest, "no score_digest: a changed scorer would not be noticed"
    again = PromptSet.from_table(prompts.to_table()).header
    assert again == header, f"the header is another one once it was stored: {again}"


def _check_order(rows: Sequence[Mapping[str, Any]], documents: int) -> None:
    places = [(row["document"], row["request"]) for row in rows]
    assert places == sorted(set(places)), (
        "rows are not in the order of documents, then requests, each once"
    )
    numbers = list(dict.fromkeys(document for document, _ in places))
    assert numbers == list(range(documents)), (
        f"documents are numbered {numbers[:5]} ..., the header says that there are {documents}"
    )
    items: dict[int, str] = {row["document"]: row["item"] for row in rows}
    assert len(set(items.values())) == documents, "two documents have the same item"


def documents_with(
    prompts: PromptSet, response: Any, *, samples: int = 1, count: int = 3
) -> list[Document]:
    """The first documents, every request of each answered alike in every sample."""
    requests: dict[int, int] = {}
    for number in prompts.rows["document"].to_pylist():
        requests[number] = requests.get(number, 0) + 1
    return [
        Document(number, [[response] * samples for _ in range(requests[number])])
        for number in sorted(requests)[:count]
    ]


def usual_response(prompts: PromptSet) -> Any:
    """A response that nobody minds: a text, or a log-likelihood."""
    return "7" if prompts.header.kind == "generate" else (-1.5, False)


def score_all(task: LoadedTask, documents: Sequence[Document], what: str) -> list[Score]:
    """Scores of documents; fails where scoring raises or leaves out a document or a sample."""
    begun: list[int] = []
    try:
        scores = list(task.score(documents, begun.append))
    except Exception as error:
        raise AssertionError(
            f"scoring {what} raised {type(error).__name__}: {error}; yield a Score with `error` set"
        ) from error
    expected = [document.index for document in documents]
    assert begun == expected, (
        f"on_document was called for {begun}, documents are {expected}: by it a scorer that hangs "
        "is noticed"
    )
    for document in documents:
        found = [s.sample for s in scores if s.document == document.index and s.sample is not None]
        samples = list(range(len(document.responses[0])))
        assert sorted(found) == samples, (
            f"{what}: document {document.index} has scores of samples {found}, not of {samples}"
        )
    return scores


def check_score(score: Score, metrics: Sequence[tuple[str, str]]) -> None:
    """Assert that a score can be stored and belongs to the task."""
    where = f"document {score.document}, sample {score.sample}"
    for pair, value in score.values.items():
        assert pair in metrics, f"{where}: {pair} is none of the header's metrics {metrics}"
        assert isinstance(value, int | float), f"{where}: {pair} is {value!r}, no number; use `raw`"
    for pair, text in score.raw.items():
        assert pair in metrics, f"{where}: {pair} is none of the header's metrics {metrics}"
        json.loads(text)
    assert score.answer is None or isinstance(score.answer, str), f"{where}: {score.answer!r}"


def check_aggregates(aggregates: Sequence[Aggregate], metrics: Sequence[tuple[str, str]]) -> None:
    """Assert that aggregates are numbers of the header's metrics, each once."""
    pairs = [(aggregate.metric, aggregate.filter) for aggregate in aggregates]
    assert len(set(pairs)) == len(pairs), f"a metric is aggregated twice: {pairs}"
    for aggregate in aggregates:
        pair = (aggregate.metric, aggregate.filter)
        assert pair in metrics, f"{pair} is none of the header's metrics {metrics}"
        float(aggregate.value)
        error = aggregate.stderr
        assert error is None or error >= 0, f"{pair}: a standard error of {error!r}"
        assert aggregate.samples >= 1, f"{pair}: of {aggregate.samples} samples"


def tokenizer_folder(folder: Path) -> Path:
    """A small tokenizer to build prompts with."""
    from ptharness.testing.tiny_models import write_tokenizer

    write_tokenizer(folder)
    return folder
