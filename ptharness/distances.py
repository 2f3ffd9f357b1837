"""How far has each checkpoint moved from each other? Every one's samples, judged by all others.

    checkpoints x tasks ──> own samples at temperature 1 ──> a text set per checkpoint x task
    text sets x the other checkpoints ──> likelihoods ──> distances

Text sets are prompt sets like any other, so L checkpoints cost L swaps, not L x L starts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptharness.analysis.distances import Divergence, divergence, log_ratios
from ptharness.errors import CheckpointError, ManifestError
from ptharness.evaluation import Request, Session
from ptharness.fingerprint import digest, vocabulary_digest
from ptharness.lineage import Checkpoint, Lineage
from ptharness.observer import Observer
from ptharness.planner import PlannedTask, Work
from ptharness.plugins import Plugins
from ptharness.preparation import Prepared, token_limit
from ptharness.prompts import PromptSet, PromptSetHeader
from ptharness.protocol import SAMPLE_BLOCK, SHARD_DOCUMENTS
from ptharness.publish.files import write_table
from ptharness.report import write_report
from ptharness.resolve_tasks import ResolvedTask
from ptharness.results import Results
from ptharness.schema import DISTANCES, DIVERGENT, PROMPTS
from ptharness.store import UnitStore
from ptharness.units import Failure

VERSION = 1
PLAIN = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""What draws from the model's own distribution, whose divergence it is."""

MOST_TEXTS = 3
"""Samples per edge and task that are kept token by token."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class DistanceSettings:
    """How much is judged: `documents` of each task (in whole shards no unit is made twice), and of
    each document `samples` at most."""

    documents: int = SHARD_DOCUMENTS
    samples: int = 4
    level: float = 0.95


@dataclass(frozen=True)
class _Texts:
    """Samples of one checkpoint on one task: token ids, log-probabilities, and their prompt set."""

    source: Checkpoint
    task: str
    key: str
    prompts: PromptSet
    logprobs: Mapping[tuple[int, int], Array]


def measure_distances(
    request: Request, settings: DistanceSettings, plugins: Plugins, observer: Observer
) -> tuple[Path, list[dict[str, Any]], Sequence[Failure]]:
    """Measure every ordered pair of checkpoints; the table's file, its rows, what failed.

    Writes `distances.parquet` and `divergent.parquet`, and the report again where there is one.
    Raises `ManifestError` where no task draws completions.
    """
    session = Session.open(request, plugins, observer)
    try:
        texts = _own_samples(session, settings)
        vocabularies = _vocabularies(session)
        judged = _judge(session, texts, vocabularies)
        observer.analysing()
        rows, divergent = _measure(session, texts, judged, vocabularies, settings)
    finally:
        session.close()
    path = session.folder / "distances.parquet"
    if rows:
        state = digest(VERSION, sorted(t.key for t in texts), asdict(settings))
        write_table(path, pa.Table.from_pylist(rows, schema=DISTANCES), state)
        others = pa.Table.from_pylist(divergent, schema=DIVERGENT)
        write_table(path.with_name("divergent.parquet"), others, state)
        if (session.folder / "run.json").is_file():
            write_report(Results(session.folder))
    return path, rows, tuple(session.failures)


# --- own samples ------------------------------------------------------------------------------


def _own_samples(session: Session, settings: DistanceSettings) -> list[_Texts]:
    evaluation = session.evaluation
    session.read_checkpoints(evaluation.checkpoints)
    tasks = [_plainly_drawn(task, settings) for task in evaluation.tasks]
    pairs = [(checkpoint, task) for checkpoint in evaluation.checkpoints for task in tasks]
    plan = session.plan(pairs, limit=settings.documents)
    drawn = [w for w in plan.work if w.planned.prompts.header.kind == "generate"]
    if plan.work and not drawn:
        raise ManifestError(
            "no task draws completions, and a divergence is one of what is said; add a task of "
            "output_type generate_until",
            path=evaluation.manifest_path,
            key="evaluate.tasks",
        )
    keys = {unit.key for work in drawn for unit in work.generation}
    jobs = tuple(
        replace(job, units=units)
        for job in plan.jobs
        if (units := tuple(unit for unit in job.units if unit.key in keys))
    )
    session.execute(replace(plan, work=(), jobs=jobs))
    store = session.store
    return [
        _text_set(work, store, settings)
        for work in drawn
        if all(store.has("generation", unit.key) for unit in work.generation)
    ]


def _plainly_drawn(task: ResolvedTask, settings: DistanceSettings) -> ResolvedTask:
    """The task at temperature 1, with samples that a run at temperature 1 has stored already."""
    samples = min(task.samples or settings.samples, SAMPLE_BLOCK)
    return replace(task, samples=samples, overrides={**task.overrides, **PLAIN})


def _text_set(work: Work, store: UnitStore, settings: DistanceSettings) -> _Texts:
    """The first samples of each document as requests for others, kept in the store."""
    prompts = work.planned.prompts
    starts = prompts.document_starts
    columns = ["document", "item", "cluster", "document_digest", "prompt", "prompt_token_ids"]
    asked = prompts.rows.select(columns).to_pylist()
    rows: list[dict[str, Any]] = []
    logprobs: dict[tuple[int, int], Array] = {}
    for unit in work.generation:
        if unit.first_sample:
            continue
        first = int(starts[unit.first_document])
        table = store.read("generation", unit.key, ["row", "sample", "token_ids", _LOGPROBS])
        for row in table.to_pylist():
            about = asked[first + row["row"]]
            is_first = first + row["row"] == starts[about["document"]]
            if row["sample"] < settings.samples and row["token_ids"] and is_first:
                rows.append(
                    {
                        **about,
                        "request": row["sample"],
                        "continuation_token_ids": row["token_ids"],
                    }
                )
                place = about["document"], row["sample"]
                logprobs[place] = np.asarray(row[_LOGPROBS], np.float64)
    rows.sort(key=lambda row: (row["document"], row["request"]))
    keys = [unit.key for unit in work.generation]
    key = digest("texts", VERSION, keys, settings.samples)
    header = PromptSetHeader(
        task=f"{work.checkpoint.name}-{prompts.header.task}",
        kind="loglikelihood",
        documents=len({row["document"] for row in rows}),
    )
    table = PromptSet(header, pa.Table.from_pylist(rows, schema=PROMPTS)).to_table()
    store.write("prompts", key, table)
    return _Texts(work.checkpoint, prompts.header.task, key, PromptSet.from_table(table), logprobs)


_LOGPROBS = "token_logprobs_nats"


# --- judged by the others ---------------------------------------------------------------------


def _vocabularies(session: Session) -> dict[str, str]:
    """A digest of each checkpoint's vocabulary; those that cannot be read have failed before."""
    found = {}
    for checkpoint in session.evaluation.checkpoints:
        if checkpoint.name in session.prints:
            try:
                found[checkpoint.name] = vocabulary_digest(checkpoint.tokenizer_directory)
            except CheckpointError as error:
                session.fail(Failure(checkpoint.name, "", "distances", str(error)))
    return found


def _judge(
    session: Session, texts: Sequence[_Texts], vocabularies: Mapping[str, str]
) -> dict[tuple[str, str], Work]:
    """The work of each (text set's key, judge), done where it could be."""
    evaluation = session.evaluation
    prepared = [
        Prepared(judge, _planned(session, judge, one))
        for judge in evaluation.checkpoints
        for one in texts
        if judge.name != one.source.name
        and judge.name in vocabularies
        and vocabularies[judge.name] == vocabularies.get(one.source.name)
    ]
    plan = session.plan_prepared(prepared)
    session.execute(replace(plan, work=()))
    return {
        (work.planned.prompt_set, work.checkpoint.name): work
        for work in plan.work
        if all(session.store.has("generation", unit.key) for unit in work.generation)
    }


def _planned(session: Session, judge: Checkpoint, texts: _Texts) -> PlannedTask:
    (task,) = [t for t in session.evaluation.tasks if t.task.name == texts.task]
    positions = session.prints[judge.name].positions
    return PlannedTask(
        task.task,
        task.settings,
        texts.key,
        texts.prompts,
        None,
        1,
        "",
        {},
        0,
        token_limit(positions, session.evaluation, "loglikelihood"),
    )


# --- measured ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """An item of one pair and task: means over its samples."""

    task: str
    cluster: str
    nats: float
    tokens: float
    samples: int


@dataclass(frozen=True)
class _Sample:
    """One sample, token by token, under its writer and its judge."""

    texts: _Texts
    row: int
    sample: int
    source: Array
    target: Array

    @property
    def nats(self) -> float:
        return log_ratios(self.source, self.target)


def _measure(
    session: Session,
    texts: Sequence[_Texts],
    judged: Mapping[tuple[str, str], Work],
    vocabularies: Mapping[str, str],
    settings: DistanceSettings,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    lineage = session.evaluation.lineage
    rows: list[dict[str, Any]] = []
    divergent: list[dict[str, Any]] = []
    names = [checkpoint.name for checkpoint in session.evaluation.checkpoints]
    for source, target in itertools.permutations(names, 2):
        relation = _relation(lineage, source, target)
        common = {
            "lineage": lineage.name,
            "source": source,
            "target": target,
            "relation": relation,
        }
        items: dict[str, list[_Item]] = {}
        for one in texts:
            work = judged.get((one.key, target))
            if one.source.name == source and work is not None:
                samples = list(_samples(one, work, session.store))
                items[one.task] = list(_items(one, samples))
                if relation == "child":
                    divergent += _most_divergent(common, one, samples)
        if items:
            rows += _rows(common, items, settings)
        elif vocabularies.get(source) != vocabularies.get(target):
            rows.append({**common, **_undefined("another vocabulary: its tokens are not these")})
    return rows, divergent


def _samples(texts: _Texts, work: Work, store: UnitStore) -> Iterator[_Sample]:
    prompts = texts.prompts
    places = list(
        zip(prompts.rows["document"].to_pylist(), prompts.rows["request"].to_pylist(), strict=True)
    )
    for unit in work.generation:
        first = int(prompts.document_starts[unit.first_document])
        table = store.read("generation", unit.key, ["row", _LOGPROBS])
        for row, logprobs in zip(*(column.to_pylist() for column in table), strict=True):
            if logprobs:
                at = first + row
                source = texts.logprobs[places[at]]
                yield _Sample(texts, at, places[at][1], source, np.asarray(logprobs, np.float64))


def _items(texts: _Texts, samples: Sequence[_Sample]) -> Iterator[_Item]:
    rows = texts.prompts.rows
    items, clusters = rows["item"].to_pylist(), rows["cluster"].to_pylist()
    by_item: dict[str, list[_Sample]] = {}
    for sample in samples:
        by_item.setdefault(items[sample.row], []).append(sample)
    for found in by_item.values():
        yield _Item(
            texts.task,
            clusters[found[0].row],
            float(np.mean([sample.nats for sample in found])),
            float(np.mean([len(sample.source) for sample in found])),
            len(found),
        )


def _rows(
    common: Mapping[str, Any], items: Mapping[str, Sequence[_Item]], settings: DistanceSettings
) -> Iterator[dict[str, Any]]:
    """A row per task, and one over all of them."""
    scopes = [("task", task, found) for task, found in items.items() if found]
    if len(scopes) > 1:
        pooled = [item for _, _, found in scopes for item in found]
        scopes.insert(0, ("pooled", "pooled", pooled))
    for scope, task, found in scopes:
        measured = divergence(
            [item.nats for item in found],
            [item.tokens for item in found],
            [f"{item.task}/{item.cluster}" for item in found],
            [item.task for item in found],
            settings.level,
        )
        yield {
            **common,
            "scope": scope,
            "task": task,
            "tasks": len({item.task for item in found}),
            "method": "sampled",
            **_estimates(measured),
            "level": settings.level,
            "items": len(found),
            "samples": sum(item.samples for item in found),
        }


def _estimates(measured: Divergence) -> dict[str, Any]:
    both = (("nats_per_token", measured.per_token), ("nats_per_sequence", measured.per_sequence))
    return {
        **{
            name + end: value
            for name, found in both
            for end, value in (
                ("", found.estimate),
                ("_stderr", found.stderr),
                ("_ci_low", found.ci_low),
                ("_ci_high", found.ci_high),
            )
        },
        "reason": measured.per_token.reason,
    }


def _undefined(reason: str) -> dict[str, Any]:
    return {
        "scope": "pooled",
        "task": "pooled",
        "tasks": 0,
        "items": 0,
        "samples": 0,
        "reason": reason,
    }


def _relation(lineage: Lineage, source: str, target: str) -> str:
    """What the source is to the target."""
    above, below = lineage.by_name[target], lineage.by_name[source]
    if target in below.parents:
        return "child"
    if source in above.parents:
        return "parent"
    if below.stage and below.stage.teacher == target:
        return "student"
    if above.stage and above.stage.teacher == source:
        return "teacher"
    if target in _ancestors(lineage, source):
        return "descendant"
    return "ancestor" if source in _ancestors(lineage, target) else "other"


def _ancestors(lineage: Lineage, name: str) -> set[str]:
    found: set[str] = set()
    waiting = list(lineage.by_name[name].parents)
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += lineage.by_name[parent].parents
    return found


def _most_divergent(
    common: Mapping[str, Any], texts: _Texts, samples: Sequence[_Sample]
) -> Iterator[dict[str, Any]]:
    """The samples that the parent finds least likely against their writer, one of an item."""
    from ptharness.tokenizer import decode, load_tokenizer

    rows = texts.prompts.rows
    items, ids, prompts = rows["item"].to_pylist(), rows["continuation_token_ids"], rows["prompt"]
    ordered = sorted(samples, key=lambda sample: -sample.nats)
    chosen: dict[str, _Sample] = {}
    for sample in ordered:
        chosen.setdefault(items[sample.row], sample)
    if not chosen:
        return
    tokenizer = load_tokenizer(texts.source.tokenizer_directory)
    for item, sample in itertools.islice(chosen.items(), MOST_TEXTS):
        tokens = [[token] for token in ids[sample.row].as_py()]
        yield {
            "lineage": common["lineage"],
            "source": common["source"],
            "target": common["target"],
            "task": texts.task,
            "item": item,
            "sample": sample.sample,
            "prompt": prompts[sample.row].as_py(),
            "nats": sample.nats,
            "tokens": decode(tokenizer, tokens, skip_special_tokens=False),
            "source_logprobs_nats": sample.source,
            "target_logprobs_nats": sample.target,
        }
