"""Requests of an lm-eval task as a prompt set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.errors import TaskError
from ptharness.fingerprint import digest
from ptharness.prompts import Template
from ptharness.schema import PROMPTS
from ptharness.tasks.encoding import PromptEncoder, chat_renderer
from ptharness.tasks.lm_eval_build import one_line, quiet
from ptharness.tokenizer import load_tokenizer

FEWSHOT_SEED = 1234
"""`fewshot_random_seed` of `lm_eval.simple_evaluate`."""

_LONGEST_FIELD, _LONGEST_METADATA = 200, 1000
_TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_DEFAULT_TOKENS = 256


def item_name(index: int, document: Any) -> str:
    """A document's place in the evaluation split and a digest of its content."""
    return f"{index}-{digest(document)[:8]}"


def build_rows(
    name: str, task: Any, documents: Sequence[Any], directory: Path, template: Template
) -> tuple[pa.Table, Mapping[str, Any], bool, bool]:
    """Rows of `schema.PROMPTS`, generation settings, chat template used, BOS added.

    Raises `TaskError` where the task cannot make its prompts.
    """
    tokenizer = load_tokenizer(directory)
    render = chat_renderer(tokenizer, template)
    instances = _instances(name, task, render, template.system_prompt)
    encoder = PromptEncoder(tokenizer)
    arguments = [instance.args for instance in instances]
    generating = instances[0].request_type == "generate_until"
    texts = [str(argument[0]) for argument in arguments]
    continuations: list[str] | None = None
    continuation_ids: list[list[int]] | None = None
    if generating:
        prompt_ids = encoder.prompts(texts)
    else:
        continuations = [str(argument[1]) for argument in arguments]
        pairs = encoder.pairs(list(zip(texts, continuations, strict=True)))
        prompt_ids = [context for context, _ in pairs]
        continuation_ids = [continuation for _, continuation in pairs]
    indices = dict.fromkeys(int(i.doc_id) for i in instances)
    described = {index: _describe(name, task, index, documents[index]) for index in indices}
    nothing = [None] * len(texts)
    rows = pa.table(
        {
            "document": [i.doc_id for i in instances],
            "request": [i.idx for i in instances],
            **{
                column: [described[i.doc_id][column] for i in instances]
                for column in ("item", "cluster", "document_digest", "gold", "metadata")
            },
            "prompt": texts,
            "continuation": continuations or nothing,
            "prompt_token_ids": prompt_ids,
            "continuation_token_ids": continuation_ids or nothing,
        },
        schema=PROMPTS,
    )
    generation = _generation(name, task, arguments) if generating else {}
    bos = tokenizer.bos_token_id
    added = bos is not None and any(ids[:1] == [bos] for ids in prompt_ids)
    return rows, generation, render is not None, added


def _instances(name: str, task: Any, render: Any, system_prompt: str | None) -> list[Any]:
    try:
        with quiet():
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
            task.build_all_requests(
                system_instruction=system_prompt,
                apply_chat_template=render is not None,
                fewshot_as_multiturn=render is not None,
                chat_template=render,
            )
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"task {name!r}: its prompts cannot be built: {one_line(error)}") from error
    kinds = {instance.request_type for instance in task.instances}
    if len(kinds) > 1 or not kinds <= {"generate_until", "loglikelihood"}:
        raise TaskError(
            f"task {name!r}: makes requests of kinds {', '.join(sorted(kinds))}; supported is one "
            "of generate_until and loglikelihood"
        )
    return sorted(task.instances, key=lambda instance: (instance.doc_id, instance.idx))


def _generation(name: str, task: Any, arguments: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    """The task's generation settings with lm-eval's defaults, and `repeats` where above 1."""
    settings = dict(arguments[0][1])
    if any(argument[1] != arguments[0][1] for argument in arguments):
        raise TaskError(f"task {name!r}: its documents differ in generation_kwargs")
    until = settings.pop("until", None) or []
    limits = [settings.pop(key, None) for key in _TOKEN_LIMITS]
    sampled = settings.pop("do_sample", None)
    temperature = float(settings.pop("temperature", None) or 0.0)
    repeats = int(getattr(task.config, "repeats", None) or 1)
    return {
        **settings,
        "until": [until] if isinstance(until, str) else [str(stop) for stop in until],
        "max_gen_toks": int(next((limit for limit in limits if limit), _DEFAULT_TOKENS)),
        "temperature": 0.0 if sampled is False else temperature,
        **({"repeats": repeats} if repeats > 1 else {}),
    }


def _describe(name: str, task: Any, index: int, document: Any) -> dict[str, str]:
    item = item_name(index, document)
    try:
        gold = task.doc_to_target(document)
        options = choices_of(task, document)
        text = _gold_text(task, document, gold, options)
    except Exception as error:
        raise TaskError(
            f"task {name!r}, item {item}: has no right answer: {one_line(error)}"
        ) from error
    return {
        "item": item,
        "cluster": _cluster(name, task, document) or item,
        "document_digest": digest(document, gold, options),
        "gold": text,
        "metadata": _small_fields(document),
    }


def choices_of(task: Any, document: Any) -> list[str]:
    """The texts of a document's choices, empty for a task without choices."""
    config = getattr(task, "config", None)
    if getattr(config, "doc_to_choice", None) is not None:
        return [str(choice) for choice in task.doc_to_choice(document)]
    if task.OUTPUT_TYPE == "multiple_choice" and isinstance(document, Mapping):
        return [str(choice) for choice in document.get("choices", ())]
    return []


def _gold_text(task: Any, document: Any, gold: Any, options: Sequence[str]) -> str:
    if getattr(task, "multiple_input", 0):
        gold = task.doc_to_text(document)

    def text(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(options):
            return options[value]
        return str(value)

    if isinstance(gold, list | tuple):
        return json.dumps([text(value) for value in gold], ensure_ascii=False)
    return text(gold)


def _cluster(name: str, task: Any, document: Any) -> str:
    metadata = getattr(task.config, "metadata", None)
    cluster_by = metadata.get("cluster_by") if isinstance(metadata, Mapping) else None
    if cluster_by is None:
        return ""
    if not isinstance(document, Mapping) or cluster_by not in document:
        fields = ", ".join(document) if isinstance(document, Mapping) else "none"
        raise TaskError(
            f"task {name!r}: metadata.cluster_by: {cluster_by!r} is not a field of its documents "
            f"(fields: {fields})"
        )
    return str(document[cluster_by])


def _small_fields(document: Any) -> str:
    """The short scalar fields of a document as JSON, as many as fit."""
    kept: dict[str, Any] = {}
    for key, value in document.items() if isinstance(document, Mapping) else ():
        if isinstance(value, str | int | float | bool) and len(str(value)) <= _LONGEST_FIELD:
            longer = {**kept, str(key): value}
            if len(json.dumps(longer, ensure_ascii=False)) <= _LONGEST_METADATA:
                kept = longer
    return json.dumps(kept, ensure_ascii=False)
