"""The tasks of a manifest: names, groups, tags and paths looked up, with what is set on them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptharness.errors import ManifestError, PluginError, PtharnessError, near_misses
from ptharness.locations import find_file
from ptharness.manifest import NAME_PATTERN, Manifest, SamplingEntry, TaskEntry
from ptharness.prompts import Template
from ptharness.registry import Registry
from ptharness.safe_yaml import YamlError, read_text
from ptharness.tasks.base import Group, Task, TaskSettings

SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "max_tokens",
    "stop",
)
"""Keys of the manifest that are laid over a task's own generation settings."""


@dataclass(frozen=True)
class Overrides:
    """What the command line says beside the manifest; it beats the manifest.

    `tasks` keeps only these of the manifest's tasks, `checkpoints` (patterns of names) only these
    of its checkpoints. `engine` replaces the manifest's, whose options are then not used.
    """

    tasks: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    samples: int | None = None
    engine: str | None = None


@dataclass(frozen=True)
class ResolvedTask:
    """A task with what the manifest sets on it.

    `samples` is None where neither manifest nor command line sets it; `overrides` holds the
    sampling settings that the manifest sets and nothing else.
    """

    task: Task
    settings: TaskSettings
    template: Template
    samples: int | None
    overrides: Mapping[str, Any]
    seed: int


@contextmanager
def at(manifest: Manifest, key: str) -> Iterator[None]:
    """Give an error from below the file and key where the user can repair it."""
    try:
        yield
    except PluginError:
        raise
    except ManifestError as error:
        raise ManifestError(error.problem, path=manifest.path, key=error.key or key) from error
    except PtharnessError as error:
        raise ManifestError(str(error), path=manifest.path, key=key) from error


def resolve_tasks(
    manifest: Manifest, registry: Registry, overrides: Overrides
) -> tuple[tuple[ResolvedTask, ...], tuple[Group, ...]]:
    """The tasks to evaluate, and the groups of which all tasks are among them.

    Raises `ManifestError` naming the entry of the manifest.
    """
    resolved: dict[str, ResolvedTask] = {}
    references: dict[str, str] = {}
    groups: list[Group] = []
    for position, entry in enumerate(manifest.evaluate.tasks):
        key = f"evaluate.tasks[{position}]"
        with at(manifest, key):
            tasks = registry.tasks.find(entry.task, manifest.folder)
            groups += registry.tasks.groups(entry.task, manifest.folder)
        for task in tasks:
            _check_task_name(task.name, entry.task, references, manifest, key)
            references[task.name] = entry.task
            resolved[task.name] = _resolve_task(task, entry, manifest, overrides, key)
    chosen = _chosen(resolved, references, manifest, overrides)
    names = {task.task.name for task in chosen}
    whole = {group.name: group for group in groups if group.tasks and names.issuperset(group.tasks)}
    return chosen, tuple(group for name, group in whole.items() if name not in names)


def _chosen(
    resolved: Mapping[str, ResolvedTask],
    references: Mapping[str, str],
    manifest: Manifest,
    overrides: Overrides,
) -> tuple[ResolvedTask, ...]:
    """Those of the tasks that the command line names, all where it names none."""
    if not overrides.tasks:
        return tuple(resolved.values())
    legal = {*resolved, *references.values()}
    for wanted in overrides.tasks:
        if wanted not in legal:
            raise ManifestError(
                f"{wanted!r} is not a task of this manifest{near_misses(wanted, legal)}",
                path=manifest.path,
                key="--tasks",
            )
    wanted_names = set(overrides.tasks)
    return tuple(
        task
        for name, task in resolved.items()
        if name in wanted_names or references[name] in wanted_names
    )


def _check_task_name(
    name: str, reference: str, references: Mapping[str, str], manifest: Manifest, key: str
) -> None:
    if not re.fullmatch(NAME_PATTERN, name) or name.endswith("\n"):
        raise ManifestError(
            f"task {name!r} cannot name a folder (letters, digits, '.', '-', '_'); write a YAML "
            "that includes it and gives it another `task:` name",
            path=manifest.path,
            key=key,
        )
    if name in references:
        raise ManifestError(
            f"task {name!r} is named twice, by {references[name]!r} and {reference!r}; remove one, "
            "or write a YAML that includes it and gives it another `task:` name",
            path=manifest.path,
            key=key,
        )


def _resolve_task(
    task: Task, entry: TaskEntry, manifest: Manifest, overrides: Overrides, key: str
) -> ResolvedTask:
    settings = _merged(manifest.evaluate, entry)
    template_key = f"{key}.chat_template" if entry.chat_template else "evaluate.chat_template"
    with at(manifest, template_key):
        chat_template = _chat_template(settings.get("chat_template"), manifest.folder)
    sampling = {name: settings[name] for name in SAMPLING_FIELDS if name in settings}
    if "stop" in sampling:
        sampling["stop"] = tuple(sampling["stop"])
    think_end_token = settings.get("think_end_token")
    return ResolvedTask(
        task=task,
        settings=TaskSettings(
            num_fewshot=settings.get("num_fewshot"),
            metric=entry.metric,
            filter=entry.filter,
            think_end_token=think_end_token,
            # Thoughts are not stopped; the scorer cuts the answer after them.
            stop=sampling.pop("stop", None) if think_end_token else None,
            fewshot_seed=settings.get("fewshot_seed"),
            fewshot_as_multiturn=settings.get("fewshot_as_multiturn"),
        ),
        template=Template(chat_template, settings.get("system_prompt")),
        samples=overrides.samples or settings.get("samples"),
        overrides=sampling,
        seed=settings.get("seed") or 0,
    )


def _merged(evaluate: SamplingEntry, entry: TaskEntry) -> dict[str, Any]:
    """What is set: the task's entry over `evaluate`; a null in it takes a setting back."""
    fields = SamplingEntry.model_fields
    values = {name: getattr(evaluate, name) for name in fields}
    values |= {name: getattr(entry, name) for name in fields if name in entry.model_fields_set}
    return {name: value for name, value in values.items() if value is not None}


def default_chat_template(manifest: Manifest) -> str:
    """What `evaluate.chat_template` says: auto, none, or the text of a file."""
    with at(manifest, "evaluate.chat_template"):
        return _chat_template(manifest.evaluate.chat_template, manifest.folder)


def _chat_template(value: str | None, folder: Path) -> str:
    """auto, none, or the text of the file that `value` names."""
    if value in (None, "auto", "none"):
        return value or "auto"
    path = find_file(str(value), folder)
    try:
        return read_text(path)
    except YamlError as error:
        raise ManifestError(f"{path} {error.problem}") from None


def check_samples(manifest: Manifest, overrides: Overrides) -> None:
    """Refuse samples that a set support budget or temperature makes pointless."""
    evaluate = manifest.evaluate
    if overrides.samples is not None and overrides.samples < 1:
        raise ManifestError(
            f"must be at least 1, not {overrides.samples}", path=manifest.path, key="--samples"
        )
    for position, entry in enumerate(evaluate.tasks):
        settings = _merged(evaluate, entry)
        samples = overrides.samples or settings.get("samples")
        of_entry = "samples" in entry.model_fields_set and overrides.samples is None
        budget = evaluate.support_budget
        if budget is not None and (samples or 1) < budget + 1:
            given = f"{samples} samples" if samples else "samples not set"
            raise ManifestError(
                f"a support budget of {budget} needs at least {budget + 1} samples, and task "
                f"{entry.task!r} has {given}; set samples: {budget + 1} or more, lower "
                "support_budget, or remove it",
                path=manifest.path,
                key=f"evaluate.tasks[{position}].samples"
                if of_entry
                else "evaluate.support_budget",
            )
        if settings.get("temperature") == 0 and (samples or 1) > 1:
            own = "temperature" in entry.model_fields_set
            raise ManifestError(
                f"{samples} samples at temperature 0 would all be equal; set a temperature above "
                "0, or samples: 1",
                path=manifest.path,
                key=f"evaluate.tasks[{position}].temperature" if own else "evaluate.temperature",
            )
