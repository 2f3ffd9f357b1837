"""What there is to do, as values: generation units, score units, metrics units, jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ptharness.lineage import Checkpoint
from ptharness.prompts import Kind, Template
from ptharness.protocol import Sampling
from ptharness.tasks.base import Task, TaskSettings

DOCUMENT_TIME_LIMIT_S = 60.0
"""A scorer may take this long for all samples of one document; part of a score unit's key."""


@dataclass(frozen=True)
class PromptsUnit:
    """The prompts of one task for one tokenizer and template."""

    key: str
    task: str
    tokenizer_directory: Path
    template: Template


@dataclass(frozen=True)
class GenerationUnit:
    """Checkpoint x task x protocol x shard of documents x block of samples.

    `stream` is what the random streams are derived from beside prompt and block: root seed,
    weights' digest, replicate. `documents` counts from `first_document`, `samples` from
    `first_sample`. `limit` are the tokens that a request may have where that changes anything
    about these, else None. With `distributions`, continuations are scored over the whole
    vocabulary.
    """

    key: str
    checkpoint: str
    task: str
    prompt_set: str
    kind: Kind
    first_document: int
    documents: int
    first_sample: int
    samples: int
    rows: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...]
    stream: tuple[int | str, ...]
    limit: int | None = None
    distributions: bool = False

    @property
    def completions(self) -> int:
        """Completions (or scored continuations) in this unit."""
        return self.rows * self.samples

    def __str__(self) -> str:
        last = self.first_document + self.documents - 1
        return f"{self.checkpoint} x {self.task} documents {self.first_document}-{last}"


@dataclass(frozen=True)
class ScoreUnit:
    """What the scorers make of all sample blocks of one shard; `limit` as in its generation."""

    key: str
    checkpoint: str
    task: str
    prompt_set: str
    first_document: int
    documents: int
    generation_keys: tuple[str, ...]
    stop: tuple[str, ...]
    limit: int | None = None


@dataclass(frozen=True)
class MetricsUnit:
    """A task's own aggregates over all shards of one checkpoint."""

    key: str
    checkpoint: str
    task: str
    score_keys: tuple[str, ...]


ScoringUnit = PromptsUnit | ScoreUnit | MetricsUnit
"""What a scoring process makes."""


@dataclass(frozen=True)
class Job:
    """A checkpoint, or several adapters on one base, and the units to generate, in order.

    Each unit says which checkpoint it is of. `careful`: an engine died on these; ask for little
    at a time.
    """

    checkpoints: tuple[Checkpoint, ...]
    units: tuple[GenerationUnit, ...]
    careful: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The checkpoints' names."""
        return tuple(checkpoint.name for checkpoint in self.checkpoints)

    def of(self, names: Collection[str]) -> Job:
        """The part of this job that is of these checkpoints."""
        return replace(
            self,
            checkpoints=tuple(one for one in self.checkpoints if one.name in names),
            units=tuple(unit for unit in self.units if unit.checkpoint in names),
        )

    def singly(self) -> list[Job]:
        """The same, one checkpoint after another."""
        return [self.of({name}) for name in self.names]


@dataclass(frozen=True)
class ScoringContext:
    """What a scoring process needs to rebuild a task."""

    task: Task
    settings: TaskSettings
    primary: tuple[str, str]
    binary: bool


@dataclass(frozen=True)
class Failure:
    """Something that could not be done, by name, for run.json and the exit code."""

    checkpoint: str
    task: str
    stage: str
    message: str

    def to_json(self) -> Mapping[str, str]:
        """Plain values."""
        return dict(self.__dict__)
