"""The single checks that the contract is made of; each says what is wrong and what to do."""

from __future__ import annotations

import copy
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from ptharness.method_problems import declaration_problem, evidence_problem
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.plugins import Plugins, load_plugins
from ptharness.testing.folders import (
    DISTILLATION_KEYS,
    DPO_KEYS,
    GRPO_KEYS,
    SFT_KEYS,
    leave_adapter_config,
    leave_card,
    leave_trainer_state,
)

ODD_VALUES: tuple[Any, ...] = ("no such value", ["no such value"], {"no": "such"}, None, -2.5)
"""Values that hardly any option means; all can be written in a manifest."""

PATIENCE = 5
"""How much longer than it may compute a look may take in all."""

FEWEST_WORDS = 5
"""A reason of fewer words says nothing."""


def names_of(method: Method) -> tuple[str, ...]:
    """The method's name and its aliases."""
    return (method.name, *method.aliases)


def stages(method: Method) -> list[StageSettings]:
    """Stages without options, one for each name and each of the other settings."""
    return [
        StageSettings(name, **settings, options={})
        for name in names_of(method)
        for settings in ({}, {"teacher": "large"}, {"trajectories": "data/train.jsonl"})
    ]


def odd_stages(method: Method) -> list[StageSettings]:
    """Stages with one option each, set to something that it hardly means."""
    return [
        StageSettings(name, options={option: copy.deepcopy(value)})
        for name in names_of(method)
        for option in method.options
        for value in ODD_VALUES
    ]


def try_to_declare(method: Method, stage: StageSettings) -> Exception | None:
    """The exception that `declare` raises, None if it declares something."""
    try:
        method.declare(stage)
    except Exception as error:  # whatever a plugin raises is the finding here
        return error
    return None


def check_declaration(declared: object, name: str) -> None:
    """Assert that what is declared for `name` is whole."""
    problem = declaration_problem(declared)
    assert not problem, f"what {name!r} declares: {problem}"
    assert isinstance(declared, Declaration)
    assert len(set(declared.roles)) == len(declared.roles), f"{name!r} declares a role twice"
    assert len(declared.reason.split()) >= FEWEST_WORDS, (
        f"{name!r}: {declared.reason!r} is no reason; give half a sentence"
    )
    assert declared.sources, f"{name!r} names no source; a note of your own is one"


def check_evidence(found: object, method: Method) -> None:
    """Assert that what `detect` answered is evidence for this very method."""
    problem = evidence_problem(found, names_of(method))
    assert not problem, f"what detect answered: {problem}"


def framework_folders(method: Method, parent: Path) -> list[Path]:
    """Folders as TRL and PEFT leave them, some of them tagged with the method's names."""
    names = names_of(method)
    tags = dict.fromkeys([*names, *(name.replace("_", "-") for name in names), "sft", "dpo"])
    logs = (SFT_KEYS, DPO_KEYS, GRPO_KEYS, DISTILLATION_KEYS)
    return [
        *(leave_card(parent / f"card-{index}", tag) for index, tag in enumerate(tags)),
        *(leave_trainer_state(parent / f"log-{index}", keys) for index, keys in enumerate(logs)),
        leave_adapter_config(leave_card(parent / "adapter", "lora")),
    ]


def detect_in_time(method: Method, folder: Path, seconds: float) -> Evidence | None:
    """What `detect` answers. A look that takes too long, or raises, fails the test.

    `seconds` are of computing, so that a busy machine fails nobody; waiting may take
    `PATIENCE` times as long.
    """
    answers: list[Evidence | BaseException | None] = []

    computed: list[float] = []

    def look() -> None:
        try:
            answers.append(method.detect(folder))
        except BaseException as error:
            answers.append(error)
        computed.append(time.thread_time())

    # A thread can be waited for with a limit; one that hangs dies with the test run.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(PATIENCE * seconds)
    assert not thread.is_alive(), f"detect still waits or looks after {PATIENCE * seconds:g} s"
    [taken] = computed
    assert taken <= seconds, f"detect computed for {taken:.1f} s; at most {seconds:g} s are fine"
    [answer] = answers
    if isinstance(answer, BaseException):
        raise AssertionError(f"detect raised {type(answer).__name__}: {answer}") from answer
    return answer


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder within with its kind, size and time; links are not followed."""
    seen = {}
    for path in (folder, *folder.rglob("*")) if folder.exists() else ():
        status = path.lstat()
        seen[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return seen


def is_loaded(plugin: ModuleType) -> bool:
    """Whether it is loaded without being asked for: installed, or one of ptharness's own."""
    return any(loaded.content is plugin for loaded in load_plugins().loaded)


def with_plugin(plugin: ModuleType) -> Plugins:
    """All plugins as the program loads them, this one among them."""
    return load_plugins(() if is_loaded(plugin) else (plugin.__name__,))
