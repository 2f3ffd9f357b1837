"""Evaluations without an engine: real units in a real store, with numbers known beforehand."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.engines.base import (
    Capabilities,
    Engine,
    EngineSettings,
    Generated,
    GenerateRequest,
    Iterable,
    LoadReport,
)
from ptharness.fingerprint import digest
from ptharness.lineage import Checkpoint, Lineage, Stage
from ptharness.planner import CheckpointPrint, PlannedTask, Work, plan_work
from ptharness.prompts import PromptSet, PromptSetHeader
from ptharness.protocol import Sampling
from ptharness.publish import Published, publish
from ptharness.resolve import Evaluation
from ptharness.schema import AGGREGATES, GENERATIONS, PROMPTS
from ptharness.scoring import scores_table
from ptharness.store import UnitStore
from ptharness.tasks.base import LoadedTask, Score, Task, TaskSettings
from ptharness.taxonomy import Interface, Provenance, Role

ADD_DOCUMENTS = 66
"""More than one shard."""
PICK_DOCUMENTS = 5
SAMPLES = 4
STOP = ("\n", "###")


class NoEngine(Engine):
    """An engine by name alone."""

    name = "none"
    capabilities = Capabilities()

    @classmethod
    def identity(cls, settings: EngineSettings) -> Mapping[str, str]:
        return {"engine": cls.name}

    def load(self, checkpoint: Checkpoint) -> LoadReport:
        raise NotImplementedError

    def generate(self, requests: Iterable[GenerateRequest]) -> Iterator[Generated]:
        raise NotImplementedError


class NoTask(Task):
    """A task by name alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def inputs_digest(self, settings: TaskSettings) -> str:
        return self.name

    def load(self, settings: TaskSettings) -> LoadedTask:
        raise NotImplementedError


def lineage(name: str = "arith", step: int | None = None) -> Lineage:
    """base -> sft -> grpo."""

    def checkpoint(name: str, stage: Stage | None = None) -> Checkpoint:
        directory = Path("/nowhere") / name
        its_step = step if name == "grpo" else None
        return Checkpoint(name, directory, f"checkpoints/{name}", stage=stage, step=its_step)

    sft = Stage(
        "sft",
        ("base",),
        Provenance.OFF_POLICY,
        Interface.TOKEN_TARGETS,
        (Role.SUPPORT_EXPANSION,),
        reason="demonstrations",
    )
    grpo = Stage(
        "grpo",
        ("sft",),
        Provenance.ON_POLICY,
        Interface.VERIFIER_FEEDBACK,
        (Role.POLICY_RESHAPING, Role.CONSOLIDATION),
    )
    return Lineage(name, (checkpoint("grpo", grpo), checkpoint("sft", sft), checkpoint("base")))


def add_correct(checkpoint: str, document: int, sample: int) -> bool:
    """Whether a completion of `add` is right: base rarely, sft often, grpo always."""
    rate = {"base": 2, "sft": 6, "grpo": 10}[checkpoint]
    return (document * 7 + sample * 3 + document // 5) % 10 < rate


def add_text(checkpoint: str, document: int, sample: int) -> str:
    """The completion as an engine gives it, not yet cut."""
    answer = str(document) if add_correct(checkpoint, document, sample) else "?"
    return f"{answer}\nQ: more" if sample % 2 else answer


def pick_logprobs(checkpoint: str, document: int, choice: int) -> list[float]:
    """Log-probabilities of a choice's tokens; one token more for each choice."""
    shift = len(checkpoint) if choice == document % 3 else 1.0
    return [-0.5 * (choice + 1) - 1 / shift] * (choice + 1)


@dataclass
class Run:
    """One evaluation of tasks `add` (completions) and `pick` (choices), and its folder."""

    root: Path
    lineage: Lineage = field(default_factory=lineage)
    documents: int = ADD_DOCUMENTS
    samples: int = SAMPLES
    metrics: tuple[tuple[str, str], ...] = (("acc", "none"), ("acc_norm", "none"))
    choices: int = 3
    correct: Callable[[str, int, int], bool] = add_correct
    text: Callable[[str, int, int], str] = add_text
    cluster: Callable[[int], str] = lambda document: f"c{document // 2}"
    failing: frozenset[tuple[str, int]] = frozenset({("sft", 3)})
    """(checkpoint, document) of `add` that the scorer gave up on."""
    vote: bool = False
    """Whether a filter of `add` takes all samples of a document together."""
    weights: Mapping[str, str] = field(default_factory=dict)
    task: str = "add"

    @property
    def store(self) -> UnitStore:
        return UnitStore(self.root / "units")

    @property
    def folder(self) -> Path:
        return self.root / self.lineage.name

    @cached_property
    def prints(self) -> dict[str, CheckpointPrint]:
        return {
            c.name: CheckpointPrint(
                self.weights.get(c.name, f"weights of {c.name}"), "shape", "g", "t", (0,), 7, 64
            )
            for c in self.lineage.checkpoints
        }

    @cached_property
    def evaluation(self) -> Evaluation:
        return Evaluation(
            lineage=self.lineage,
            tasks=(),
            engine=NoEngine,
            engine_settings=EngineSettings("none"),
            support_budget=16,
            seed=0,
            manifest_path=Path("lineage.yaml"),
            manifest_text=f"lineage: {self.lineage.name}\n",
        )

    @cached_property
    def add(self) -> PlannedTask:
        """`add` as it is planned: one prompt per document, `samples` completions."""
        rows = [
            _prompt_row(d, 0, f"{d}+0=", str(d), cluster=self.cluster(d))
            for d in range(self.documents)
        ]
        header = PromptSetHeader(
            task=self.task,
            kind="generate",
            documents=self.documents,
            metrics=(("exact_match", "strict"),),
            primary=("exact_match", "strict"),
        )
        return _planned(header, rows, Sampling(1.0, stop=STOP, max_tokens=8), self.samples)

    @cached_property
    def pick(self) -> PlannedTask:
        """`pick` as it is planned: one request per choice, no clusters."""
        doubled = any(metric == "acc_mutual_info" for metric, _ in self.metrics)
        rows = [
            _prompt_row(d, r, f"pick {d}:" if r < self.choices else "", str(d % 3), f" {r % 3}")
            for d in range(PICK_DOCUMENTS)
            for r in range(self.choices * (1 + doubled))
        ]
        header = PromptSetHeader(
            task="pick",
            kind="loglikelihood",
            documents=PICK_DOCUMENTS,
            metrics=self.metrics,
            primary=("acc", "none"),
        )
        return _planned(header, rows, None, 1)

    @cached_property
    def work(self) -> list[Work]:
        """All units, checkpoint by checkpoint."""
        return [
            plan_work(c, self.prints[c.name], planned, {"engine": "none"})
            for c in self.lineage.checkpoints
            for planned in (self.add, self.pick)
        ]

    def of(self, checkpoint: str, task: str) -> Work:
        """One checkpoint x task."""
        (found,) = (
            w
            for w in self.work
            if (w.checkpoint.name, w.planned.prompts.header.task) == (checkpoint, task)
        )
        return found

    def fill(self) -> Run:
        """Put every unit into the store."""
        for w in self.work:
            self.generate(w)
            self.score(w)
        return self

    def generate(self, work: Work) -> None:
        for unit in work.generation:
            table = pa.Table.from_pylist(
                [
                    self._generated(work, unit.first_document, row, unit.first_sample + j)
                    for row in range(unit.rows)
                    for j in range(unit.samples)
                ],
                schema=GENERATIONS,
            )
            self.store.write("generation", unit.key, table)

    def _generated(self, work: Work, first: int, row: int, sample: int) -> dict[str, Any]:
        name = work.checkpoint.name
        if work.planned.sampling is None:
            requests = work.planned.prompts.rows.num_rows // PICK_DOCUMENTS
            logprobs = pick_logprobs(name, first + row // requests, row % requests)
            return {"row": row, "sample": 0, "token_ids": [], "token_logprobs_nats": logprobs}
        document = first + row
        text = self.text(name, document, sample)
        return {
            "row": row,
            "sample": sample,
            "token_ids": list(range(len(text))),
            "token_logprobs_nats": [-0.25] * len(text),
            "text": text,
            "finish_reason": "length" if document % 3 == 0 and sample == 1 else "stop",
            "seed": 1000 + document,
        }

    def score(self, work: Work) -> None:
        """Score and aggregate, as scoring processes do."""
        scores = []
        for unit in work.scores:
            made = [
                s
                for d in range(unit.first_document, unit.first_document + unit.documents)
                for s in self._scores(work, d)
            ]
            scores += made
            self.store.write("score", unit.key, scores_table(iter(made), work.scoring_context))
        rows = [
            _aggregate(metric, filter_, scores)
            for metric, filter_ in dict.fromkeys(pair for s in scores for pair in s.values)
        ]
        table = pa.Table.from_pylist(rows, schema=AGGREGATES)
        self.store.write("metrics", work.metrics.key, table)

    def _scores(self, work: Work, document: int) -> Iterator[Score]:
        name = work.checkpoint.name
        if work.planned.sampling is None:
            sums = [sum(pick_logprobs(name, document, choice)) for choice in range(self.choices)]
            best = sums.index(max(sums))
            right = float(best == document % 3)
            values = {("acc", "none"): right, ("acc_norm", "none"): 1.0 - right}
            yield Score(document, 0, values, answer=str(best))
            return
        rights = [float(self.correct(name, document, s)) for s in range(self.samples)]
        for sample, right in enumerate(rights):
            if (name, document) in self.failing:
                yield Score(document, sample, {}, error="time limit of 60 s exceeded")
            else:
                values = {("exact_match", "strict"): right, ("length", "strict"): sample + 0.5}
                yield Score(document, sample, values, answer=str(document))
        if self.vote and (name, document) not in self.failing:
            majority = float(sum(rights) > self.samples / 2)
            yield Score(document, None, {("exact_match", "vote"): majority})

    def publish(self, **options: Any) -> Published:
        """Publish what the store holds."""
        work = options.pop("work", self.work)
        return publish(self.folder, self.evaluation, work, self.prints, self.store, **options)

    def changed(self, **changes: Any) -> Run:
        """The same run with something else, in the same folder."""
        return replace(self, **changes)


def _prompt_row(
    document: int,
    request: int,
    prompt: str,
    gold: str,
    continuation: str | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    return {
        "document": document,
        "request": request,
        "item": f"{document}-{digest(document)[:8]}",
        "cluster": cluster,
        "document_digest": digest(document, gold),
        "prompt": prompt,
        "continuation": continuation,
        "prompt_token_ids": list(prompt.encode()),
        "continuation_token_ids": list(continuation.encode()) if continuation else None,
        "gold": gold,
        "metadata": "{}",
    }


def _planned(
    header: PromptSetHeader, rows: list[dict[str, Any]], sampling: Sampling | None, samples: int
) -> PlannedTask:
    prompts = PromptSet(header, pa.Table.from_pylist(rows, schema=PROMPTS))
    prompts = PromptSet.from_table(prompts.to_table())
    card = {"task": header.task, "samples": samples}
    key = digest("prompts", header.task, prompts.rows["prompt_digest"].to_pylist())
    return PlannedTask(
        NoTask(header.task),
        TaskSettings(),
        key,
        prompts,
        sampling,
        samples,
        digest(card)[:12],
        card,
        seed=0,
    )


def _aggregate(metric: str, filter_: str, scores: list[Score]) -> dict[str, Any]:
    """Mean and standard error of document means; a failed sample counts 0."""
    of_document: dict[int, list[float]] = {}
    together = any((metric, filter_) in s.values and s.sample is None for s in scores)
    for s in scores:
        if s.error and not together:
            of_document.setdefault(s.document, []).append(0.0)
        elif (metric, filter_) in s.values:
            of_document.setdefault(s.document, []).append(s.values[metric, filter_])
    means = [statistics.fmean(values) for values in of_document.values()]
    return {
        "metric": metric,
        "filter": filter_,
        "value": statistics.fmean(means),
        "stderr": statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None,
        "samples": max(len(values) for values in of_document.values()),
    }
