"""Requests of an lm-eval task as a prompt set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.errors import TaskError
from ptharness.fingerprint import digest
from ptharness.prompts import Kind, Template
from ptharness.schema import PROMPTS
from ptharness.tasks.base import TaskSettings
from ptharness.tasks.encoding import PromptEncoder, chat_renderer
from ptharness.tasks.lm_eval_build import one_line, quiet
from ptharness.tokenizer import load_tokenizer

FEWSHOT_SEED = 1234
"""`fewshot_random_seed` of `lm_eval.simple_evaluate`."""
_KINDS: Mapping[str, Kind] = {
    "generate_until": "generate",
    "loglikelihood": "loglikelihood",
    "loglikelihood_rolling": "loglikelihood_rolling",
}
"""Kinds of lm-eval's requests, and what they are called here."""

_LONGEST_FIELD, _LONGEST_METADATA = 200, 1000
_TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_DEFAULT_TOKENS = 256


def item_name(index: int, document: Any) -> str:
    """A document's place in the evaluation split and a digest of its content."""
    return f"{index}-{digest(document)[:8]}"


@dataclass(frozen=True)
class BuiltPrompts:
    """Rows of `schema.PROMPTS`, and what is to be known about all of them."""

    rows: pa.Table
    kind: Kind
    generation: Mapping[str, Any]
    chat_template_used: bool
    add_bos: bool


def build_prompts(
    name: str,
    task: Any,
    documents: Sequence[Any],
    directory: Path,
    template: Template,
    settings: TaskSettings,
) -> BuiltPrompts:
    """Every request of a task. Raises `TaskError` where the task cannot make its prompts."""
    tokenizer = load_tokenizer(directory)
    render = chat_renderer(tokenizer, template)
    instances = _instances(name, task, render, template.system_prompt, settings)
    kind = _KINDS[instances[0].request_type]
    arguments = [instance.args for instance in instances]
    requests = _encoded(PromptEncoder(tokenizer), kind, arguments)
    indices = dict.fromkeys(int(i.doc_id) for i in instances)
    described = {index: _describe(name, task, index, documents[index]) for index in indices}
    rows = pa.table(
        {
            "document": [i.doc_id for i in instances],
            "request": [i.idx for i in instances],
            **{
                column: [described[i.doc_id][column] for i in instances]
                for column in ("item", "cluster", "document_digest", "gold", "metadata")
            },
            **requests,
        },
        schema=PROMPTS,
    )
    generation: Mapping[str, Any] = {}
    if kind == "generate":
        _check_thinking(name, tokenizer, settings.think_end_token)
        generation = _generation(name, task, arguments, settings)
    bos = tokenizer.bos_token_id
    added = bos is not None and any(ids[:1] == [bos] for ids in requests["prompt_token_ids"])
    return BuiltPrompts(rows, kind, generation, render is not None, added)


def _check_thinking(name: str, tokenizer: Any, think_end_token: str | None) -> None:
    """Special tokens are left out as completions are decoded, so none could be found there."""
    if think_end_token in tokenizer.all_special_tokens:
        raise TaskError(
            f"task {name!r}: think_end_token: {think_end_token!r} is a special token of the "
            "tokenizer, which completions are written without; name the text that ends the "
            "thoughts, or have the tokenizer list it as no special token"
        )


def _encoded(
    encoder: PromptEncoder, kind: Kind, arguments: Sequence[tuple[Any, ...]]
) -> dict[str, list[Any]]:
    """Texts and token ids of the requests, as columns."""
    texts = [str(argument[0]) for argument in arguments]
    continuations: list[Any] = [None] * len(texts)
    if kind == "generate":
        prompt_ids, continuation_ids = encoder.prompts(texts), continuations
    elif kind == "loglikelihood":
        continuations = [str(argument[1]) for argument in arguments]
        pairs = encoder.pairs(list(zip(texts, continuations, strict=True)))
        prompt_ids, continuation_ids = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    else:
        pairs = encoder.whole(texts)
        prompt_ids, continuation_ids = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        texts, continuations = [""] * len(texts), texts
    return {
        "prompt": texts,
        "continuation": continuations,
        "prompt_token_ids": prompt_ids,
        "continuation_token_ids": continuation_ids,
    }


def _instances(
    name: str, task: Any, render: Any, system_prompt: str | None, settings: TaskSettings
) -> list[Any]:
    seed, multiturn = settings.fewshot_seed, settings.fewshot_as_multiturn
    try:
        with quiet():
            task.set_fewshot_seed(seed=FEWSHOT_SEED if seed is None else seed)
            task.build_all_requests(
                system_instruction=system_prompt,
                apply_chat_template=render is not None,
                fewshot_as_multiturn=render is not None and multiturn is not False,
                chat_template=render,
            )
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"task {name!r}: its prompts cannot be built: {one_line(error)}") from error
    kinds = {instance.request_type for instance in task.instances}
    if len(kinds) != 1 or not kinds <= _KINDS.keys():
        raise TaskError(
            f"task {name!r}: makes requests of kinds {', '.join(sorted(kinds)) or 'none'}; "
            f"supported is one of {', '.join(_KINDS)}"
        )
    return sorted(task.instances, key=lambda instance: (instance.doc_id, instance.idx))


def _generation(
    name: str, task: Any, arguments: Sequence[tuple[Any, ...]], chosen: TaskSettings
) -> dict[str, Any]:
    """The task's generation settings with lm-eval's defaults, and `repeats` where above 1.

    A model that thinks first is not stopped by a stop string of the answer, which the thoughts
    often hold: `Scorer` cuts there.
    """
    settings = dict(arguments[0][1])
    if any(argument[1] != arguments[0][1] for argument in arguments):
        raise TaskError(f"task {name!r}: its documents differ in generation_kwargs")
    until = stops_of(settings.pop("until", None))
    limits = [settings.pop(key, None) for key in _TOKEN_LIMITS]
    sampled = settings.pop("do_sample", None)
    temperature = float(settings.pop("temperature", None) or 0.0)
    repeats = int(getattr(task.config, "repeats", None) or 1)
    return {
        **settings,
        "until": [] if chosen.think_end_token else list(until),
        "max_gen_toks": int(next((limit for limit in limits if limit), _DEFAULT_TOKENS)),
        "temperature": 0.0 if sampled is False else temperature,
        **({"repeats": repeats} if repeats > 1 else {}),
    }


def stops_of(until: Any) -> tuple[str, ...]:
    """Stop strings as lm-eval's `until` gives them: none, one or several."""
    return (until,) if isinstance(until, str) else tuple(str(stop) for stop in until or ())


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
