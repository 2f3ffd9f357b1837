"""Asks each parent for its own words and for the likelihood of what its child learned from."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.errors import ManifestError, TrajectoryError, near_misses
from ptharness.evaluation import Request, Session
from ptharness.fingerprint import digest
from ptharness.lineage import Checkpoint
from ptharness.observer import Observer
from ptharness.planner import Work
from ptharness.plugins import Plugins
from ptharness.prompts import Template
from ptharness.provenance.rewards import RewardFunction, rewarded
from ptharness.provenance.rows import stage_rows
from ptharness.provenance.settings import ProvenanceSettings
from ptharness.provenance.texts import given_texts, own_texts
from ptharness.publish.columns import tag_values
from ptharness.publish.files import write_table
from ptharness.publish.likelihoods import fresh_rows
from ptharness.report import write_report
from ptharness.resolve_tasks import ResolvedTask
from ptharness.results import Results
from ptharness.schema import PROVENANCE
from ptharness.tasks.base import TaskSettings
from ptharness.tasks.trajectories import TrajectoryTask
from ptharness.trajectories import Trajectory, content_digest, remembered_choice
from ptharness.units import Failure


@dataclass(frozen=True)
class _Stage:
    """A stage, its parent, the digest of what it learned from, and what the parent is to do."""

    child: Checkpoint
    parent: Checkpoint
    trajectories: str
    own: Work
    given: Work


def measure_provenance(
    request: Request,
    settings: ProvenanceSettings,
    plugins: Plugins,
    observer: Observer,
    reward: RewardFunction | None = None,
) -> tuple[Path, list[dict[str, Any]], Sequence[Failure]]:
    """Measure the stages that are asked for; the table's file, their rows, what failed.

    Writes `provenance.parquet`, in which other stages keep their rows as long as these are of the
    same checkpoints and trajectories, and the report again where there is one. Raises
    `ManifestError` where no stage names trajectories, or none of them can be read.
    """
    session = Session.open(request, plugins, observer)
    try:
        stages = _prepare(session, settings)
        observer.analysing()
        rows = [
            row
            for stage in stages
            if _is_stored(stage, session)
            for row in _rows(stage, session, settings, reward)
        ]
    finally:
        session.close()
    path = session.folder / "provenance.parquet"
    if rows:
        kept = fresh_rows(path, session.evaluation.lineage, session.prints)
        measured = {row["checkpoint"] for row in rows}
        others = [row for row in kept if row["checkpoint"] not in measured]
        places = {c.name: i for i, c in enumerate(session.evaluation.lineage.checkpoints)}
        whole = sorted([*others, *rows], key=lambda row: places[row["checkpoint"]])
        write_table(path, pa.Table.from_pylist(whole, schema=PROVENANCE), digest(whole))
        if (session.folder / "run.json").is_file():
            write_report(Results(session.folder))
    return path, rows, tuple(session.failures)


def _prepare(session: Session, settings: ProvenanceSettings) -> list[_Stage]:
    """Plan both halves of each stage that is asked for, and make what is missing of them."""
    stages = _with_trajectories(session, settings.stages)
    trajectories = _read(stages, session, settings)
    stages = [(child, parent) for child, parent in stages if child.name in trajectories]
    session.read_checkpoints({parent.name: parent for _, parent in stages}.values())
    pairs = [
        (parent, _task(child, kind, trajectories[child.name].chosen, session, settings))
        for child, parent in stages
        for kind in ("generate", "loglikelihood")
    ]
    plan = session.plan(pairs)
    # Nothing here is right or wrong: there are no scores to make.
    session.execute(replace(plan, work=()))
    works = {work.planned.prompts.header.task: work for work in plan.work}
    return [
        _Stage(child, parent, trajectories[child.name].content, works[own], works[given])
        for child, parent in stages
        for own, given in [(_name(child.name, "generate"), _name(child.name, "loglikelihood"))]
        if {own, given} <= works.keys()
    ]


def _with_trajectories(
    session: Session, patterns: Sequence[str]
) -> list[tuple[Checkpoint, Checkpoint]]:
    """Each stage that is asked for, with its parent; a merge has none and fails."""
    evaluation = session.evaluation
    with_data = [c for c in evaluation.lineage.checkpoints if c.stage and c.stage.trajectories]
    if not with_data:
        raise ManifestError(
            "no stage names its `trajectories`, the file that it was trained on",
            path=evaluation.manifest_path,
            key="checkpoints",
        )
    chosen = _chosen([checkpoint.name for checkpoint in with_data], session, patterns)
    stages = []
    for child in with_data:
        if child.name not in chosen:
            continue
        if len(child.parents) > 1:
            why = (
                f"has {len(child.parents)} parents, and its trajectories are compared with one: in "
                "a copy of the manifest, name one of them as its `parent`"
            )
            session.fail(Failure(child.name, "", "provenance", why))
        else:
            stages.append((child, evaluation.lineage.by_name[child.parents[0]]))
    return stages


def _chosen(names: Sequence[str], session: Session, patterns: Sequence[str]) -> list[str]:
    """The names that fit one of the patterns; all where there is none."""
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ManifestError(
                f"{pattern!r} fits no stage that names trajectories{near_misses(pattern, names)}",
                path=session.evaluation.manifest_path,
                key="--stages",
            )
    return [n for n in names if not patterns or any(fnmatch.fnmatchcase(n, p) for p in patterns)]


@dataclass(frozen=True)
class _Read:
    """What is taken of a training set, and the digest of its content."""

    content: str
    chosen: tuple[Trajectory, ...]


def _read(
    stages: Sequence[tuple[Checkpoint, Checkpoint]], session: Session, settings: ProvenanceSettings
) -> dict[str, _Read]:
    """The trajectories of each stage; a file that cannot be read fails by name."""
    found: dict[str, _Read] = {}
    problem: ManifestError | None = None
    for child, _ in stages:
        assert child.stage is not None
        path = child.stage.trajectories
        assert path is not None
        told = partial(session.observer.reading, path.name)
        try:
            content = content_digest(path)
            chosen = remembered_choice(path, settings.prompts, settings.per_prompt, told)
            found[child.name] = _Read(content, tuple(chosen))
        except TrajectoryError as error:
            problem = problem or ManifestError(
                str(error),
                path=session.evaluation.manifest_path,
                key=f"checkpoints.{child.name}.trajectories",
            )
            session.fail(Failure(child.name, "", "trajectories", str(error)))
    if problem and not found:
        raise problem
    return found


def _name(child: str, kind: str) -> str:
    return f"{child}-{'own' if kind == 'generate' else 'given'}"


def _task(
    child: Checkpoint,
    kind: Any,
    trajectories: tuple[Trajectory, ...],
    session: Session,
    settings: ProvenanceSettings,
) -> ResolvedTask:
    evaluation = session.evaluation
    name = _name(child.name, kind)
    task = TrajectoryTask(name, trajectories, kind, child.tokenizer_directory)
    # A trajectory brings its own system turn.
    template = Template(evaluation.chat_template)
    samples = settings.samples if kind == "generate" else None
    return ResolvedTask(task, TaskSettings(), template, samples, {}, evaluation.seed)


def _is_stored(stage: _Stage, session: Session) -> bool:
    units = (*stage.own.generation, *stage.given.generation)
    return all(session.store.has("generation", unit.key) for unit in units)


def _rows(
    stage: _Stage, session: Session, settings: ProvenanceSettings, reward: RewardFunction | None
) -> Iterator[dict[str, Any]]:
    """A row for all trajectories, and one for each side of preference pairs."""
    given, own = given_texts(stage.given, session.store), own_texts(stage.own, session.store)
    if reward is not None:
        given, own = rewarded(given, reward), rewarded(own, reward)
    assert stage.child.stage is not None
    common = {
        **tag_values(session.evaluation.lineage, stage.child),
        "parent": stage.parent.name,
        "parent_fingerprint": session.prints[stage.parent.name].weights,
        "trajectories": stage.trajectories,
        "engine": session.evaluation.engine_settings.name,
        "provenance_declared": stage.child.stage.provenance.value,
        "too_long": stage.given.planned.fit(stage.given.documents).too_long,
    }
    for row in stage_rows(given, own, settings):
        yield {**common, **row}
