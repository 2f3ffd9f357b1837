"""Tasks of lm-eval: its task objects make the prompts and the scores, we drive them.

With its `lm_eval_*.py` siblings this is the only module besides engines/lm_eval.py that
imports lm_eval, always inside functions: it takes seconds and brings in datasets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from ptharness.errors import TaskError, near_misses
from ptharness.fingerprint import digest
from ptharness.prompts import PromptSet, PromptSetHeader, Template
from ptharness.tasks.base import Aggregate, Document, LoadedTask, Score, Task, TaskSettings
from ptharness.tasks.choice_probability import CHOICE_PROBABILITY, choice_probability
from ptharness.tasks.lm_eval_aggregation import aggregate
from ptharness.tasks.lm_eval_build import build, check_supported, quiet
from ptharness.tasks.lm_eval_prompts import build_prompts, choices_of
from ptharness.tasks.lm_eval_scoring import Scorer, after_thinking, as_number, own_stops
from ptharness.tasks.yaml_sources import (
    Source,
    assemble,
    check_size,
    code_digests,
    code_files,
    plain,
    read_config,
)

ADAPTER_VERSION = "2"
"""Raised whenever this adapter makes other prompts or scores from the same inputs."""

_LIBRARIES = ("lm_eval", "datasets", "transformers", "jinja2")
_SCORING_KEYS = ("output_type", "filter_list", "metric_list", "process_results", "repeats", "class")
_YES_OR_NO = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "em", "exact_match"})

Pair = tuple[str, str]


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that prompts and scores depend on, read without importing."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = ""
    return versions


def folder_name(name: str) -> str:
    """A task's or group's name in lm-eval, with what no folder name may have replaced.

    >>> folder_name("mmlu::other")
    'mmlu-other'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-_")


@dataclass(frozen=True)
class LmEvalTask(Task):
    """A task in lm-eval's YAML format, found but not yet built.

    `task` is its name in lm-eval, `name` the same with characters replaced that no folder
    name may have. `overrides` (from a group's YAML) are laid over the file's own settings;
    an `inline` task is written out in the group's file and has nothing but these.
    `trusted` are folders whose `!function` code is ours or lm-eval's.
    """

    task: str
    yaml: Path
    overrides: Mapping[str, Any] = field(default_factory=dict, hash=False)
    inline: bool = False
    trusted: tuple[Path, ...] = ()

    @property
    def name(self) -> str:  # type: ignore[override]
        return folder_name(self.task)

    @cached_property
    def _declared(self) -> tuple[Mapping[str, Any], tuple[Path, ...]]:
        config, files = read_config(self.yaml)
        merged = {**({} if self.inline else config), **self.overrides}
        check_size(merged, self.yaml)
        return merged, files

    def source(self) -> Source:
        """The merged configuration and its files. Raises `TaskError` where one is missing."""
        config, files = self._declared
        return assemble(config, files, self.task)

    @property
    def foreign_code(self) -> tuple[Path, ...]:
        """Python files from outside the trusted folders that loading this task runs."""
        files = code_files(self._declared[0])
        return tuple(f for f in files if not any(f.is_relative_to(t) for t in self.trusted))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of its YAML."""
        tags = self._declared[0].get("tag") or ()
        return (tags,) if isinstance(tags, str) else tuple(str(tag) for tag in tags)

    def inputs_digest(self, settings: TaskSettings) -> str:
        """A digest of all that prompts and scores depend on. Raises `TaskError`."""
        source = self.source()
        check_supported(self.task, source.config)
        return digest(ADAPTER_VERSION, library_versions(), self.task, source.digest(), settings)

    def load(self, settings: TaskSettings) -> LoadedLmEvalTask:
        """Build lm-eval's task object; runs the code that the YAML names. Raises `TaskError`."""
        source = self.source()
        task = build(self.task, source.config)
        if settings.num_fewshot is not None:
            task.set_config(key="num_fewshot", value=settings.num_fewshot)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        return LoadedLmEvalTask(self.name, task, source, settings)


class LoadedLmEvalTask(LoadedTask):
    """lm-eval's task object with its documents, in this process."""

    def __init__(self, name: str, task: Any, source: Source, settings: TaskSettings) -> None:
        self.name, self.task, self.source, self.settings = name, task, source, settings
        with quiet():
            # Asked for again, some tasks shuffle again; prompts and scores need the same ones.
            self.documents: list[Any] = list(getattr(task, "task_docs", None) or task.eval_docs)
        task.doc_iterator = lambda **_: iter(enumerate(self.documents))

    def prompts(self, tokenizer_directory: Path, template: Template) -> PromptSet:
        """Every request, tokenised as lm-eval's `hf` model does. Raises `TaskError`."""
        built = build_prompts(
            self.name, self.task, self.documents, tokenizer_directory, template, self.settings
        )
        header = PromptSetHeader(
            task=self.name,
            kind=built.kind,
            documents=len(self.documents),
            generation=built.generation,
            metrics=self.metrics,
            primary=self.primary,
            binary=self._is_binary(),
            score_digest=self.score_digest(),
            chat_template_used=built.chat_template_used,
            add_bos=built.add_bos,
            version=str(self.task.VERSION),
        )
        return PromptSet(header, built.rows)

    def score(
        self, documents: Sequence[Document], on_document: Callable[[int], None]
    ) -> Iterator[Score]:
        """Score each sample by itself; a failing scorer gives a score with `error` set."""
        scorer = Scorer(self.name, self.task, self.primary, self._answer_of)
        for document in documents:
            on_document(document.index)
            with quiet():
                scores = list(scorer.score(document, self.documents[document.index]))
            yield from scores

    @cached_property
    def _answer_of(self) -> Callable[[str], str]:
        """What of a completion is scored."""
        token = self.settings.think_end_token
        if token is None:
            return lambda text: text
        stops = self.settings.stop
        if stops is None:
            stops = own_stops(self.task, self.documents[0])
        return lambda text: after_thinking(text, token, stops)

    def aggregate(self, scores: Sequence[Score]) -> list[Aggregate]:
        """The task's metrics as lm-eval aggregates them. Raises `TaskError`."""
        # lm-eval learns how to aggregate some metrics only as it computes them for a document.
        order = {pair: position for position, pair in enumerate(self.metrics)}
        aggregates = aggregate(self.name, self.task, scores, self.metrics)
        return sorted(aggregates, key=lambda a: order.get((a.metric, a.filter), len(order)))

    def score_digest(self) -> str:
        """Covers filters, metrics, their code and versions; gold data is in the rows."""
        declared = {key: self.source.declared.get(key) for key in _SCORING_KEYS}
        versions = library_versions()["lm_eval"]
        chosen = (self.settings.metric, self.settings.filter)
        code = code_digests(code_files(declared))
        thinking: tuple[Any, ...] = ()
        if self.settings.think_end_token:
            stops = self.settings.stop, plain(self.source.declared.get("generation_kwargs"))
            thinking = (self.settings.think_end_token, *stops)
        return digest(ADAPTER_VERSION, versions, plain(declared), code, chosen, *thinking)

    @cached_property
    def metrics(self) -> tuple[Pair, ...]:
        """(metric, filter) in the order in which the task reports them; what is added, last."""
        filters = [ensemble.name for ensemble in self.task._filters]
        names = [*self._metric_probe]
        if self._tells_the_right_choice and CHOICE_PROBABILITY not in names:
            names.append(CHOICE_PROBABILITY)
        return tuple((metric, name) for name in filters for metric in names)

    @property
    def _tells_the_right_choice(self) -> bool:
        if self.task.OUTPUT_TYPE != "multiple_choice":
            return False
        document = self.documents[0]
        equal = [0.0] * len(choices_of(self.task, document))
        return choice_probability(self.task, document, equal) is not None

    @cached_property
    def _metric_probe(self) -> Mapping[str, Any]:
        """Metric names and a value of each, from scoring an empty answer to the first document.

        `metric_list` alone does not tell: a task's own process_results may report others.
        """
        listed = dict.fromkeys(getattr(self.task, "_metric_fn_list", None) or ())
        document = self.documents[0]
        choices = len(choices_of(self.task, document))
        response: list[Any] = [""]
        if self.task.OUTPUT_TYPE != "generate_until":
            twice = 2 if "acc_mutual_info" in listed else 1
            response = [(-1.0, False)] * (max(choices, 1) * twice)
        if self.task.OUTPUT_TYPE == "loglikelihood_rolling":
            response = [-1.0]
        try:
            with quiet():
                reported = dict(self.task.process_results(document, response))
        except Exception:
            reported = {}
        return {str(key): value for key, value in (reported or listed).items()}

    @cached_property
    def primary(self) -> Pair:
        """The metric and filter that the settings choose, else the first. Raises `TaskError`."""
        if not self.metrics:
            raise TaskError(f"task {self.name!r}: reports no metric; give it a metric_list")
        metric, name = self.metrics[0]
        wanted = self.settings
        if wanted.metric is not None:
            metric = self._one_of("metric", wanted.metric, [m for m, _ in self.metrics])
        if wanted.filter is not None:
            name = self._one_of("filter", wanted.filter, [f for _, f in self.metrics])
        return metric, name

    def _one_of(self, key: str, value: str, legal: Sequence[str]) -> str:
        if value in legal:
            return value
        names = ", ".join(dict.fromkeys(legal))
        hint = near_misses(value, legal) or f" (legal: {names})"
        raise TaskError(f"task {self.name!r}: {key}: {value!r} is none of its own{hint}")

    def _is_binary(self) -> bool:
        """Whether the primary metric is a yes/no; `metadata.binary` has the last word."""
        from lm_eval.api.metrics import mean

        said = self.task.config.metadata
        if isinstance(said, Mapping) and isinstance(said.get("binary"), bool):
            return bool(said["binary"])
        metric = self.primary[0]
        if self.task.aggregation().get(metric, mean) is not mean:
            return False
        value = self._metric_probe.get(metric)
        if metric in _YES_OR_NO:
            # A task's own scorer may call a share "acc" (truthfulqa_mc2 does).
            return value is None or as_number(value) in (0.0, 1.0)
        return isinstance(value, bool)
