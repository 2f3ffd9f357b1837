"""lm-eval's own evaluator on the same checkpoint, with what it asked the model written down."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptharness.prompts import PromptSet, Template
from ptharness.tasks.base import Aggregate, Document, LoadedTask

MADE_HERE = ("truncation_rate", "choice_probability")
"""Metrics that lm-eval does not have."""
ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "plugins" / "ptharness_zoo" / "checkpoints" / "sft"
TASKS = Path(__file__).parent / "data" / "tasks"


def recording_model(directory: Path = CHECKPOINT, **options: Any) -> Any:
    """An `hf` model that lists the token ids it computes: (prompt,) or (context, continuation)."""
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(1)  # in so small a model, threads wait for each other

    class Recording(HFLM):  # type: ignore[misc]
        seen: list[tuple[list[int], ...]]

        def _model_generate(self, context: Any, attention_mask: Any, **options: Any) -> Any:
            for row, mask in zip(context.tolist(), attention_mask.tolist(), strict=True):
                self.seen.append(([t for t, on in zip(row, mask, strict=True) if on],))
            return super()._model_generate(context, attention_mask=attention_mask, **options)

        def _loglikelihood_tokens(self, requests: Any, **options: Any) -> Any:
            self.seen += [(list(context), list(rest)) for _, context, rest in requests]
            return super()._loglikelihood_tokens(requests, **options)

    model = Recording(
        pretrained=str(directory), device="cpu", dtype="float32", batch_size=64, **options
    )
    model.seen = []
    return model


def evaluate(model: Any, yaml: Path, template: Template, **options: Any) -> dict[str, Any]:
    """`simple_evaluate` on one YAML, run in its folder because lm-eval looks for data there."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    folder = Path.cwd()
    os.chdir(yaml.parent)
    # Its bootstrap forks, which can hang in a process with threads; the draws are the same.
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        results = simple_evaluate(
            model=model,
            tasks=[str(yaml)],
            task_manager=TaskManager(include_defaults=False),
            apply_chat_template=template.chat_template != "none",
            system_instruction=template.system_prompt,
            **options,
        )
    finally:
        os.chdir(folder)
        del os.environ["DISABLE_MULTIPROC"]
    assert results is not None
    return dict(results)


def reported(results: dict[str, Any], task: str) -> dict[tuple[str, str], tuple[float, Any]]:
    """(value, standard error or None) under (metric, filter), as lm-eval reports them."""
    table = {}
    for key, value in results["results"][task].items():
        metric, comma, name = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            error = results["results"][task][f"{metric}_stderr,{name}"]
            table[metric, name] = (float(value), None if error == "N/A" else float(error))
    return table


def as_table(aggregates: Sequence[Aggregate]) -> dict[tuple[str, str], tuple[float, Any]]:
    """The same of ours, as far as lm-eval has it."""
    return {
        (a.metric, a.filter): (a.value, a.stderr) for a in aggregates if a.metric not in MADE_HERE
    }


def requests(prompts: PromptSet) -> list[tuple[Any, ...]]:
    """Document and texts of each row: (prompt,), (context, continuation) or (text,)."""
    rolling = prompts.header.kind == "loglikelihood_rolling"
    columns = ["document", "continuation"] if rolling else ["document", "prompt", "continuation"]
    rows = prompts.rows.select(columns).to_pylist()
    return [tuple(part for part in row.values() if part is not None) for row in rows]


def answers(model: Any, prompts: PromptSet) -> list[Document]:
    """Let the `hf` model answer the rows of a prompt set: one sample per document."""
    from lm_eval.api.instance import Instance

    rows = prompts.rows.to_pylist()
    settings = prompts.header.generation
    arguments: list[tuple[Any, ...]]
    if prompts.header.kind == "generate":
        arguments = [(row["prompt"], {**settings, "do_sample": False}) for row in rows]
        ask = model.generate_until
    elif prompts.header.kind == "loglikelihood":
        arguments = [(row["prompt"], row["continuation"]) for row in rows]
        ask = model.loglikelihood
    else:
        arguments = [(row["continuation"],) for row in rows]
        ask = model.loglikelihood_rolling
    responses = ask([Instance("", {}, a, 0) for a in arguments], disable_tqdm=True)
    if prompts.header.kind == "loglikelihood_rolling":
        responses = [(response, False) for response in responses]
    documents: dict[int, list[list[Any]]] = {}
    for row, response in zip(rows, responses, strict=True):
        documents.setdefault(row["document"], []).append([response])
    return [Document(index, requests) for index, requests in documents.items()]


def scored(task: LoadedTask, documents: Sequence[Document]) -> list[Any]:
    """Scores, with the documents that were begun checked to be all of them in order."""
    begun: list[int] = []
    scores = list(task.score(documents, begun.append))
    assert begun == [document.index for document in documents]
    return scores


@functools.cache
def shared_model() -> Any:
    """One model for all tests of a run."""
    return recording_model()
