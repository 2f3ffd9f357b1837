"""Tasks of every kind pass the contract that authors are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ptharness import builtin
from ptharness.tasks.base import TaskSettings
from ptharness.testing import TaskContract
from tests.contracts import task_folder
from tests.tasks.reference import TASKS


class TestBundled(TaskContract):
    reference = "arith_add"
    plugin = builtin

    def right(self, row: dict[str, Any]) -> str | None:
        return f"working:{row['gold']}"


class TestBundledThatThinks(TestBundled):
    settings = TaskSettings(num_fewshot=2, think_end_token="=")

    def right(self, row: dict[str, Any]) -> str | None:
        return f"1+1=2=\n:{row['gold']}\nand more"


class TestPath(TaskContract):
    reference = "words.yaml"
    plugin = builtin
    folder: ClassVar[Path] = TASKS

    def right(self, row: dict[str, Any]) -> str | None:
        return f":{row['gold']}"


class TestGroup(TaskContract):
    reference = "weighted"
    plugin = task_folder


class TestOwnClass(TaskContract):
    reference = "own_class"
    plugin = task_folder


class TestChoices(TaskContract):
    reference = "choices"
    plugin = task_folder


class TestTexts(TaskContract):
    reference = "texts"
    plugin = task_folder
