"""The contract of a task, as a class of tests for its author to subclass.

A clause is a test. Its message says what is wrong and what to do. The task is built once, with a
tokenizer of single characters; no model is needed.
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from ptharness.cli import main
from ptharness.manifest import NAME_PATTERN
from ptharness.prompts import PromptSet, Template
from ptharness.tasks.base import Document, Group, LoadedTask, Task, TaskSettings
from ptharness.testing.checks import is_loaded, with_plugin
from ptharness.testing.task_checks import (
    HOSTILE_LIKELIHOODS,
    HOSTILE_TEXTS,
    SETTINGS,
    changed,
    check_aggregates,
    check_prompts,
    check_score,
    documents_with,
    imported_for_digest,
    score_all,
    tokenizer_folder,
    usual_response,
)

_NO_SUCH_NAME = "no-such-task-9e107d9d372bb682"


class TaskContract:
    """Subclass it, name the subclass `Test...`, and set `reference` and `plugin`."""

    reference: ClassVar[str]
    """What a manifest calls the task: its name, or a path. A group or tag: its first task."""

    plugin: ClassVar[ModuleType]
    """The module whose `ptharness_register_tasks` adds what finds it."""

    folder: ClassVar[Path] = Path()
    """The folder of the manifest, where `reference` is a path."""

    settings: ClassVar[TaskSettings] = TaskSettings()
    """What a manifest sets on it."""

    def right(self, row: dict[str, Any]) -> str | None:
        """A completion for a row of `schema.PROMPTS` that scores full marks; None to skip.

        Override it: then gold answers go through the real scorer.
        """
        del row
        return None

    # --- finding it ---------------------------------------------------------------------------

    def test_its_plugin_finds_it(self, task: Task) -> None:
        assert isinstance(task, Task), f"{self.reference!r} finds {task!r}, no Task"
        assert re.fullmatch(NAME_PATTERN, task.name), (
            f"{task.name!r} names no folder: letters, digits, '.', '-', '_', not leading"
        )

    def test_what_it_does_not_know_is_empty(self, tmp_path: Path) -> None:
        for provider, origin in with_plugin(self.plugin).registry(["tasks"]).tasks:
            found = provider.find(_NO_SUCH_NAME, tmp_path)
            assert not found, f"a provider of {origin} finds {found} under {_NO_SUCH_NAME!r}"
            assert not provider.groups(_NO_SUCH_NAME, tmp_path)

    def test_its_groups_are_of_its_tasks(self) -> None:
        catalogue = with_plugin(self.plugin).registry(["tasks"]).tasks
        names = {task.name for task in catalogue.find(self.reference, self.folder)}
        for group in catalogue.groups(self.reference, self.folder):
            assert isinstance(group, Group)
            assert names >= set(group.tasks), (
                f"group {group.name!r} has tasks that {self.reference!r} does not mean: "
                f"{set(group.tasks) - names}"
            )

    def test_it_is_listed(self, capsys: pytest.CaptureFixture[str]) -> None:
        if self.reference.endswith((".yaml", ".yml")):
            pytest.skip("a path is not listed")
        options = [] if is_loaded(self.plugin) else ["--plugin", self.plugin.__name__]
        assert main([*options, "tasks", self.reference, "--json"]) == 0
        listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
        assert self.reference in listed, (
            f"`ptharness tasks {self.reference}` does not list it; let `listings` give it"
        )
        assert listed[self.reference]["kind"] in ("task", "group", "tag")

    # --- before it is loaded ------------------------------------------------------------------

    def test_it_can_be_sent_to_another_process(self, task: Task) -> None:
        sent = pickle.loads(pickle.dumps(task))
        assert sent.name == task.name
        assert sent.inputs_digest(self.settings) == task.inputs_digest(self.settings), (
            "its digest is another one in another process"
        )

    def test_its_digest_is_the_same_each_time(self, task: Task) -> None:
        digests = {task.inputs_digest(self.settings) for _ in range(2)}
        again = self._found().inputs_digest(self.settings)
        assert digests == {again}, "inputs_digest changes though nothing did"
        assert isinstance(again, str)
        assert again

    def test_its_digest_covers_the_settings(self, task: Task) -> None:
        before = task.inputs_digest(self.settings)
        for other in SETTINGS:
            settings = changed(self.settings, other)
            if settings != self.settings:
                assert task.inputs_digest(settings) != before, (
                    f"the digest is the same with {other}: prompts and scores of before would be "
                    "taken for those of now; put the settings into it"
                )

    def test_its_digest_imports_nothing_heavy(self, task: Task) -> None:
        found = imported_for_digest(task, self.settings)
        assert found == "[]", (
            f"inputs_digest imports {found}; import heavy libraries in `load`, for every command "
            "asks for the digest"
        )

    def test_its_labels_are_plain(self, task: Task) -> None:
        assert all(isinstance(path, Path) for path in task.foreign_code)
        assert all(isinstance(tag, str) and tag for tag in task.tags)

    # --- prompts ------------------------------------------------------------------------------

    def test_its_prompts_are_whole(self, task: Task, prompts: PromptSet) -> None:
        check_prompts(prompts, task)

    def test_its_prompts_are_the_same_each_time(
        self, task: Task, loaded: LoadedTask, prompts: PromptSet, tokenizer: Path
    ) -> None:
        expected = prompts.to_table()
        for again in (loaded, task.load(self.settings)):
            table = again.prompts(tokenizer, Template()).to_table()
            assert table.equals(expected, check_metadata=True), (
                "building the prompts again gives others; seed what is drawn"
            )

    # --- scores -------------------------------------------------------------------------------

    def test_each_sample_has_a_score(self, loaded: LoadedTask, prompts: PromptSet) -> None:
        samples = 3 if prompts.header.kind == "generate" else 1
        documents = documents_with(prompts, usual_response(prompts), samples=samples)
        for score in score_all(loaded, documents, "usual responses"):
            assert not score.error, f"a usual response could not be scored: {score.error}"
            check_score(score, prompts.header.metrics)

    def test_scores_do_not_depend_on_what_was_scored_before(
        self, task: Task, loaded: LoadedTask, prompts: PromptSet
    ) -> None:
        documents = documents_with(prompts, usual_response(prompts))
        first = score_all(loaded, documents, "usual responses")
        again = [score for d in reversed(documents) for score in score_all(loaded, [d], "one")]
        assert sorted(again, key=lambda score: score.document) == first
        assert score_all(task.load(self.settings), documents, "usual responses") == first

    def test_hostile_responses_are_scored(self, loaded: LoadedTask, prompts: PromptSet) -> None:
        generating = prompts.header.kind == "generate"
        hostile: dict[str, Any] = dict(HOSTILE_TEXTS if generating else HOSTILE_LIKELIHOODS)
        for what, response in hostile.items():
            for score in score_all(loaded, documents_with(prompts, response, count=1), what):
                check_score(score, prompts.header.metrics)

    def test_right_answers_score_full_marks(self, loaded: LoadedTask, prompts: PromptSet) -> None:
        rows = [row for row in prompts.rows.to_pylist() if row["request"] == 0]
        answers = [(row, text) for row in rows if (text := self.right(row)) is not None]
        if not answers:
            pytest.skip("override `right` to send gold answers through the scorer")
        documents = [Document(row["document"], [[text]]) for row, text in answers]
        primary = tuple(prompts.header.primary)
        for score in score_all(loaded, documents, "right answers"):
            value = score.values.get((primary[0], primary[1]))
            assert value == 1.0, f"document {score.document}: its right answer scores {value}"

    # --- aggregates ---------------------------------------------------------------------------

    def test_its_metrics_are_aggregated(self, loaded: LoadedTask, prompts: PromptSet) -> None:
        documents = documents_with(prompts, usual_response(prompts))
        aggregates = loaded.aggregate(score_all(loaded, documents, "usual responses"))
        check_aggregates(aggregates, prompts.header.metrics)
        primary = tuple(prompts.header.primary)
        assert primary in {(a.metric, a.filter) for a in aggregates}, (
            f"the primary metric {primary} is not aggregated"
        )

    def test_one_document_is_enough(self, loaded: LoadedTask, prompts: PromptSet) -> None:
        documents = documents_with(prompts, usual_response(prompts), count=1)
        aggregates = loaded.aggregate(score_all(loaded, documents, "one document"))
        check_aggregates(aggregates, prompts.header.metrics)

    # --- what the clauses share ---------------------------------------------------------------

    @classmethod
    def _found(cls) -> Task:
        catalogue = with_plugin(cls.plugin).registry(["tasks"]).tasks
        return catalogue.find(cls.reference, cls.folder)[0]

    @pytest.fixture(scope="class")
    @classmethod
    def task(cls) -> Task:
        """The task as a manifest finds it."""
        return cls._found()

    @pytest.fixture(scope="class")
    @classmethod
    def loaded(cls, task: Task) -> LoadedTask:
        """Its heavy half."""
        return task.load(cls.settings)

    @pytest.fixture(scope="class")
    @classmethod
    def tokenizer(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder with a tokenizer."""
        return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))

    @pytest.fixture(scope="class")
    @classmethod
    def prompts(cls, loaded: LoadedTask, tokenizer: Path) -> PromptSet:
        """Its prompts."""
        return loaded.prompts(tokenizer, Template())
