"""How far has each checkpoint moved from each other? Every one's samples, judged by all others.

    checkpoints x tasks ──> own samples at temperature 1 ──> a text set per checkpoint x task
    text sets x checkpoints ──> likelihoods, or whole distributions ──> distances

Text sets are prompt sets like any other, so L checkpoints cost L swaps, not L x L starts. Where the
engine gives whole distributions, the writer judges its samples too, and both are summed up exactly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from ptharness.analysis.distances import Divergence, divergence
from ptharness.engines.base import vocabulary_size
from ptharness.errors import CheckpointError, EngineError, ManifestError
from ptharness.evaluation import Request, Session
from ptharness.fingerprint import digest, read_config, vocabulary_digest
from ptharness.lineage import Checkpoint, Lineage
from ptharness.observer import Observer
from ptharness.planner import PlannedTask, Work, plan_work
from ptharness.plugins import Plugins
from ptharness.preparation import Prepared, token_limit
from ptharness.protocol import SAMPLE_BLOCK, SHARD_DOCUMENTS
from ptharness.publish.files import write_table
from ptharness.publish.likelihoods import fresh_rows
from ptharness.report import write_report
from ptharness.resolve_tasks import ResolvedTask
from ptharness.results import Results
from ptharness.schema import DISTANCES, DIVERGENT
from ptharness.text_sets import Sample, TextSet, judged_samples, make_text_set, most_divergent
from ptharness.units import Failure

VERSION = 2
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

Method = Literal["auto", "exact", "sampled"]
Pair = tuple[str, str]
"""Names of a source and its target."""

INFINITE = "infinite: the target rules out tokens that the source may say"


@dataclass(frozen=True)
class DistanceSettings:
    """How much is judged, and how: `documents` of each task (in whole shards no unit is made
    twice), and of each document `samples` at most. `method` auto is exact where that can be had."""

    documents: int = SHARD_DOCUMENTS
    samples: int = 4
    level: float = 0.95
    method: Method = "auto"


def measure_distances(
    request: Request, settings: DistanceSettings, plugins: Plugins, observer: Observer
) -> tuple[Path, list[dict[str, Any]], Sequence[Failure]]:
    """Measure every ordered pair of checkpoints; the table's file, its rows, what failed.

    Writes `distances.parquet` and `divergent.parquet`, and the report again where there is one.
    Raises `ManifestError` where no task draws completions, `EngineError` where exact sums are asked
    for that cannot be had.
    """
    session = Session.open(request, plugins, observer)
    try:
        if len(session.evaluation.checkpoints) < 2:
            raise ManifestError(
                "a distance is between two checkpoints, and there is one; name more of them",
                path=session.evaluation.manifest_path,
                key="--checkpoints" if request.checkpoints else "checkpoints",
            )
        session.read_checkpoints(session.evaluation.checkpoints)
        methods = _methods(session, settings.method)
        texts = _own_samples(session, settings)
        judged = _judge(session, texts, methods)
        observer.analysing()
        rows, divergent = _measure(session, texts, judged, methods, settings)
    finally:
        session.close()
    path = session.folder / "distances.parquet"
    if rows:
        state = digest(VERSION, sorted(t.key for t in texts), asdict(settings))
        _write(path, rows, DISTANCES, state, session)
        _write(path.with_name("divergent.parquet"), divergent, DIVERGENT, state, session)
        if (session.folder / "run.json").is_file():
            write_report(Results(session.folder))
    return path, rows, tuple(session.failures)


def _write(
    path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema, state: str, session: Session
) -> None:
    """Replace a table's rows of the pairs that were measured; others stay while they hold."""
    names = {checkpoint.name for checkpoint in session.evaluation.checkpoints}
    kept = [
        row
        for row in fresh_rows(path, session.evaluation.lineage, session.prints)
        if not {row["source"], row["target"]} <= names
    ]
    told = [
        {
            **row,
            "source_fingerprint": session.prints[row["source"]].weights,
            "target_fingerprint": session.prints[row["target"]].weights,
            "engine": session.evaluation.engine_settings.name,
        }
        for row in rows
    ]
    write_table(path, pa.Table.from_pylist([*kept, *told], schema=schema), state)


# --- what can be compared, and how ------------------------------------------------------------


def _methods(session: Session, wanted: Method) -> dict[Pair, Method | None]:
    """How each pair is measured, exact or sampled; None where two vocabularies differ."""
    checkpoints = session.evaluation.checkpoints
    vocabularies: dict[str, str] = {}
    widths: dict[str, int] = {}
    for checkpoint in checkpoints:
        if checkpoint.name in session.prints:
            try:
                vocabularies[checkpoint.name] = vocabulary_digest(checkpoint.tokenizer_directory)
                widths[checkpoint.name] = vocabulary_size(read_config(checkpoint.directory))
            except CheckpointError as error:
                session.fail(Failure(checkpoint.name, "", "distances", str(error)))
    methods: dict[Pair, Method | None] = {}
    for source, target in itertools.permutations(widths, 2):
        methods[source, target] = None
        if vocabularies[source] == vocabularies[target]:
            problem = _why_not_exact(session, widths[source], widths[target])
            if problem and wanted == "exact":
                raise EngineError(
                    f"method exact: {source} and {target}: {problem}; choose the method auto or "
                    "sampled"
                )
            methods[source, target] = "sampled" if problem or wanted == "sampled" else "exact"
    return methods


def _why_not_exact(session: Session, source: int, target: int) -> str:
    """Why no distributions over so many tokens can be compared, "" where they can."""
    engine = session.evaluation.engine
    most = engine.capabilities.distributions
    if not most:
        return f"the {engine.name} engine gives no distributions over the vocabulary"
    if source != target:
        return f"one's vocabulary is filled up to {source:,} tokens and the other's to {target:,}"
    if not source:
        return "their config.json names no vocab_size"
    if source > most:
        return (
            f"distributions over their {source:,} tokens are too large: the {engine.name} engine "
            f"gives those over {most:,} at most"
        )
    return ""


# --- own samples ------------------------------------------------------------------------------


def _own_samples(session: Session, settings: DistanceSettings) -> list[TextSet]:
    evaluation = session.evaluation
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
        make_text_set(work, store, settings.samples)
        for work in drawn
        if all(store.has("generation", unit.key) for unit in work.generation)
    ]


def _plainly_drawn(task: ResolvedTask, settings: DistanceSettings) -> ResolvedTask:
    """The task at temperature 1, with samples that a run at temperature 1 has stored already."""
    samples = min(task.samples or settings.samples, SAMPLE_BLOCK)
    return replace(task, samples=samples, overrides={**task.overrides, **PLAIN})


# --- judged by the others ---------------------------------------------------------------------


def _judge(
    session: Session, texts: Sequence[TextSet], methods: Mapping[Pair, Method | None]
) -> dict[tuple[str, str], Work]:
    """The work of each (text set's key, judge), done where it could be."""
    exact = {source for (source, _), method in methods.items() if method == "exact"}
    prepared = []
    for judge in session.evaluation.checkpoints:
        for one in texts:
            source = one.source.name
            method = methods.get((source, judge.name))
            if source == judge.name and source in exact:
                method = "exact"
            if method:
                planned = _planned(session, judge, one, distributions=method == "exact")
                prepared.append(Prepared(judge, planned))
    plan = session.plan_prepared(prepared)
    session.execute(replace(plan, work=()))
    return {
        (work.planned.prompt_set, work.checkpoint.name): work
        for work in plan.work
        if _is_stored(session, work)
    }


def _is_stored(session: Session, work: Work) -> bool:
    return all(session.store.has("generation", unit.key) for unit in work.generation)


def _planned(
    session: Session, judge: Checkpoint, texts: TextSet, *, distributions: bool
) -> PlannedTask:
    """What a judge is asked; whole distributions that are stored hold what is sampled too."""
    (task,) = [t for t in session.evaluation.tasks if t.task.name == texts.task]
    evaluation, prints = session.evaluation, session.prints[judge.name]
    planned = PlannedTask(
        task.task,
        task.settings,
        texts.key,
        texts.prompts,
        None,
        1,
        "",
        {},
        0,
        token_limit(prints.positions, evaluation, "loglikelihood"),
        distributions=True,
    )
    identity = evaluation.engine.identity(evaluation.engine_settings)
    if distributions or _is_stored(session, plan_work(judge, prints, planned, identity)):
        return planned
    return replace(planned, distributions=False)


# --- measured ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """An item of one pair and task: means over its samples."""

    task: str
    cluster: str
    nats: float
    tokens: float
    samples: int


def _measure(
    session: Session,
    texts: Sequence[TextSet],
    judged: Mapping[tuple[str, str], Work],
    methods: Mapping[Pair, Method | None],
    settings: DistanceSettings,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    lineage = session.evaluation.lineage
    rows: list[dict[str, Any]] = []
    divergent: list[dict[str, Any]] = []
    names = [checkpoint.name for checkpoint in session.evaluation.checkpoints]
    for source, target in itertools.permutations(names, 2):
        relation, method = _relation(lineage, source, target), methods.get((source, target))
        common = {
            "lineage": lineage.name,
            "source": source,
            "target": target,
            "relation": relation,
            "method": method,
        }
        items: dict[str, list[_Item]] = {}
        for one in texts:
            work, own = judged.get((one.key, target)), judged.get((one.key, source))
            if one.source.name == source and work and (own or method == "sampled"):
                whole = own if method == "exact" else None
                samples = list(judged_samples(one, work, whole, session.store))
                items[one.task] = list(_items(one, samples))
                if relation == "child":
                    edge = {"lineage": lineage.name, "source": source, "target": target}
                    divergent += [{**edge, **row} for row in most_divergent(one, samples)]
        if not all(math.isfinite(item.nats) for found in items.values() for item in found):
            rows.append({**common, **_undefined(INFINITE)})
        elif items:
            rows += _rows(common, items, settings)
        elif (source, target) in methods and method is None:
            rows.append({**common, **_undefined("another vocabulary: its tokens are not these")})
    return rows, divergent


def _items(texts: TextSet, samples: Sequence[Sample]) -> Iterator[_Item]:
    rows = texts.prompts.rows
    items, clusters = rows["item"].to_pylist(), rows["cluster"].to_pylist()
    by_item: dict[str, list[Sample]] = {}
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
