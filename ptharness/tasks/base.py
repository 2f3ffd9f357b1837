"""What a task is: it makes prompts for a tokenizer, and scores the responses.

A `Task` is a small picklable value with a light half (`inputs_digest`), which runs in every
command, and `load`, which returns the heavy half. The heavy half lives in scoring processes;
it is rebuilt there and never pickled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ptharness.prompts import PromptSet, Template


@dataclass(frozen=True)
class TaskSettings:
    """What the manifest sets on a task and the task itself must know.

    None leaves the task's own value. `metric` and `filter` choose the primary metric. What
    stands up to the last `think_end_token` of a completion is not scored, and `stop` cuts what
    follows it. `fewshot_seed` draws the worked examples; `fewshot_as_multiturn` says whether
    each is a turn of its own in a chat.
    """

    num_fewshot: int | None = None
    metric: str | None = None
    filter: str | None = None
    think_end_token: str | None = None
    stop: tuple[str, ...] | None = None
    fewshot_seed: int | None = None
    fewshot_as_multiturn: bool | None = None


@dataclass(frozen=True)
class Listing:
    """One line of `ptharness tasks`: a task, a group or a tag, and where it comes from."""

    name: str
    kind: str
    origin: str
    path: str = ""


@dataclass(frozen=True)
class Document:
    """Where a document's responses are, for scoring.

    `responses[r][j]` is the response to request r of the document in sample j: text for
    generation; (log-likelihood in nats, is greedy) for log-likelihoods, rolling ones too, where
    there is one j.
    """

    index: int
    responses: Sequence[Sequence[str | tuple[float, bool]]]


@dataclass(frozen=True)
class Score:
    """What one sample of one document scored.

    `sample` is None where a filter needs all samples together (majority vote). `values`
    maps (metric, filter) to a number, `raw` maps those whose value is not a number (corpus
    metrics) to what the task's own aggregation takes, as JSON. `answer` is what the primary
    filter extracted.
    """

    document: int
    sample: int | None
    values: Mapping[tuple[str, str], float]
    answer: str | None = None
    raw: Mapping[tuple[str, str], str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Aggregate:
    """One metric over all documents. `stderr` is None where it is undefined."""

    metric: str
    filter: str
    value: float
    stderr: float | None
    samples: int


@dataclass(frozen=True)
class Aggregation:
    """One metric of a group: the mean over its tasks, each weighed by its documents or alike.

    `filters` None means all under which a task of the group reports the metric.
    """

    metric: str
    filters: tuple[str, ...] | None = None
    weight_by_size: bool = True


@dataclass(frozen=True)
class Group:
    """A named group of tasks, nested ones flattened, and the metrics that it reports of them."""

    name: str
    tasks: tuple[str, ...]
    aggregations: tuple[Aggregation, ...] = ()


class LoadedTask(ABC):
    """The heavy half of a task: documents and scorers, in this process."""

    @abstractmethod
    def prompts(self, tokenizer_directory: Path, template: Template) -> PromptSet:
        """Every request of the task, tokenised for one tokenizer and template."""

    @abstractmethod
    def score(
        self, documents: Sequence[Document], on_document: Callable[[int], None]
    ) -> Iterator[Score]:
        """Score documents; `on_document(index)` is called as each is begun (a watchdog waits)."""

    @abstractmethod
    def aggregate(self, scores: Sequence[Score]) -> list[Aggregate]:
        """The task's metrics over all documents, as the task itself aggregates them."""


class Task(ABC):
    """One eval task: cheap to make, picklable, loaded where it is needed."""

    name: str

    @property
    def foreign_code(self) -> tuple[Path, ...]:
        """Python files, neither ours nor lm-eval's, that loading this task runs."""
        return ()

    @property
    def tags(self) -> tuple[str, ...]:
        """Names that several tasks share, over which results can be pooled."""
        return ()

    @abstractmethod
    def inputs_digest(self, settings: TaskSettings) -> str:
        """A digest of all that prompts and scores depend on: files, data, code, versions.

        Light: no lm_eval, no datasets. Raises `TaskError` where a file is missing.
        """

    @abstractmethod
    def load(self, settings: TaskSettings) -> LoadedTask:
        """Build the heavy half. Raises `TaskError`."""


class TaskProvider(ABC):
    """Finds tasks by name, group, tag or path."""

    origin: str

    @abstractmethod
    def find(self, reference: str, folder: Path) -> Sequence[Task]:
        """The tasks that `reference` means (a group or tag means several); empty if unknown.

        A relative path is taken against `folder`, that of the manifest.
        """

    def groups(self, reference: str, folder: Path) -> Sequence[Group]:  # noqa: ARG002
        """The groups among what `reference` means, outer ones first; empty where there is none."""
        return ()

    @abstractmethod
    def listings(self) -> Sequence[Listing]:
        """What `ptharness tasks` shows of this provider, and near misses are drawn from."""
