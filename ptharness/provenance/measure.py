"""Asks each parent for its own words and for the likelihood of what its child learned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptharness.errors import ManifestError, TrajectoryError
from ptharness.evaluation import Request, Session
from ptharness.fingerprint import digest
from ptharness.observer import Observer
from ptharness.planner import Work
from ptharness.plugins import Plugins
from ptharness.preparation import Prepared, prepare
from ptharness.prompts import Kind, Template
from ptharness.provenance.asked import Asked, of_file, of_stages
from ptharness.provenance.rewards import RewardFunction, rewarded
from ptharness.provenance.rows import stage_rows
from ptharness.provenance.settings import ProvenanceSettings
from ptharness.provenance.texts import given_texts, own_texts
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

_KINDS: tuple[Kind, Kind] = ("generate", "loglikelihood")
_OF_REWARDS = (
    "reward_difference",
    "reward_ci_low",
    "reward_ci_high",
    "looks_filtered",
    "reason",
)
"""Columns that rest on rewards."""


@dataclass(frozen=True)
class _Read:
    """What is taken of a training set, and the digest of its content."""

    content: str
    chosen: tuple[Trajectory, ...]


@dataclass(frozen=True)
class _Made:
    """What is taken of a training set, and what the parent did with it."""

    asked: Asked
    read: _Read
    own: Work
    given: Work


def measure_provenance(
    request: Request,
    settings: ProvenanceSettings,
    plugins: Plugins,
    observer: Observer,
    reward: RewardFunction | None = None,
) -> tuple[Path | None, list[dict[str, Any]], Sequence[Failure]]:
    """Measure the stages that are asked for, or a file; the table, the rows, what failed.

    Of stages, `provenance.parquet` is written, in which other stages keep their rows as long as
    these are of the same checkpoints and trajectories, and the report again where there is one. A
    file belongs to no stage, and its rows (one per checkpoint of the request) to no table. Without
    `reward`, rewards of an earlier run stay where all else is as it was. Raises `ManifestError`
    where no stage names trajectories, or none of them can be read.
    """
    session = Session.open(request, plugins, observer)
    try:
        asked = of_file(session, settings.file) if settings.file else of_stages(session, settings)
        made = _make(session, asked, settings)
        observer.analysing()
        rows = [row for one in made for row in _rows(one, session, settings, reward)]
        _name_missing(session, asked, made)
    finally:
        session.close()
    failures = tuple(session.failures)
    if settings.file:
        return None, rows, failures
    path = session.folder / "provenance.parquet"
    if rows:
        kept = fresh_rows(path, session.evaluation.lineage, session.prints)
        if reward is None:
            rows = _with_rewards(rows, kept)
        measured = {row["checkpoint"] for row in rows}
        others = [row for row in kept if row["checkpoint"] not in measured]
        places = {c.name: i for i, c in enumerate(session.evaluation.lineage.checkpoints)}
        whole = sorted([*others, *rows], key=lambda row: places[row["checkpoint"]])
        write_table(path, pa.Table.from_pylist(whole, schema=PROVENANCE), digest(whole))
        if (session.folder / "run.json").is_file():
            write_report(Results(session.folder))
    return path, rows, failures


def _make(session: Session, asked: Sequence[Asked], settings: ProvenanceSettings) -> list[_Made]:
    """Own samples and likelihoods of all that could be read and made."""
    read = _read(asked, session, settings)
    there = [one for one in asked if one.name in read]
    session.read_checkpoints({one.parent.name: one.parent for one in there}.values())
    prepared = _prepared(there, read, session, settings)
    if not prepared:
        return []
    plan = session.plan_prepared(prepared)
    # Nothing here is right or wrong: there are no scores to make.
    session.execute(replace(plan, work=()))
    works = {work.planned.prompts.header.task: work for work in plan.work}
    return [
        _Made(one, read[one.name], works[own], works[given])
        for one in there
        for own, given in [(_name(one, "generate"), _name(one, "loglikelihood"))]
        if own in works and _is_stored(session, works[own], works[given])
    ]


def _read(
    asked: Sequence[Asked], session: Session, settings: ProvenanceSettings
) -> dict[str, _Read]:
    """The trajectories under their names; a file that cannot be read fails by name."""
    found: dict[str, _Read] = {}
    problems: list[tuple[Asked, TrajectoryError]] = []
    for one in asked:
        told = partial(session.observer.reading, one.path.name)
        try:
            content = content_digest(one.path)
            chosen = remembered_choice(one.path, settings.prompts, settings.per_prompt, told)
            found[one.name] = _Read(content, tuple(chosen))
        except TrajectoryError as error:
            problems.append((one, error))
    if problems and not found:
        first, problem = problems[0]
        where = session.evaluation.manifest_path
        raise ManifestError(str(problem), path=where, key=first.where) from problem
    for one, problem in problems:
        one.fail(session, "trajectories", str(problem))
    return found


def _prepared(
    asked: Sequence[Asked],
    read: Mapping[str, _Read],
    session: Session,
    settings: ProvenanceSettings,
) -> list[Prepared]:
    """Both halves of what has both: own samples alone would compare with nothing."""
    pairs = [
        (one.parent, _task(one, kind, read[one.name].chosen, session, settings))
        for one in asked
        for kind in _KINDS
    ]

    def on_progress(done: int, total: int) -> None:
        session.executor.warm()
        session.observer.preparing(done, total)

    failures: list[Failure] = []
    found = prepare(
        pairs,
        session.evaluation,
        session.prints,
        session.store,
        session.pool,
        failures,
        on_progress,
    )
    made = {one.planned.prompts.header.task: one for one in found}
    problems = {failure.task: failure.message for failure in failures}
    prepared = []
    for one in asked:
        names = [_name(one, kind) for kind in _KINDS]
        if problem := next((problems[name] for name in names if name in problems), None):
            under = "" if one.failing[0] == one.parent.name else f"under {one.parent.name}: "
            one.fail(session, "prompts", under + problem)
        elif all(name in made for name in names):
            prepared += [made[name] for name in names]
    return prepared


def _name(one: Asked, kind: Kind) -> str:
    return f"{'own answers for' if kind == 'generate' else 'trajectories of'} {one.name}"


def _task(
    one: Asked,
    kind: Kind,
    trajectories: tuple[Trajectory, ...],
    session: Session,
    settings: ProvenanceSettings,
) -> ResolvedTask:
    evaluation = session.evaluation
    # Columns are for rewards, which are made here.
    plain = tuple(replace(trajectory, columns={}) for trajectory in trajectories)
    task = TrajectoryTask(_name(one, kind), plain, kind, one.template)
    # A trajectory brings its own system turn.
    template = Template(evaluation.chat_template)
    samples = settings.samples if kind == "generate" else None
    return ResolvedTask(task, TaskSettings(), template, samples, {}, evaluation.seed)


def _is_stored(session: Session, *works: Work) -> bool:
    units = [unit for work in works for unit in work.generation]
    return all(session.store.has("generation", unit.key) for unit in units)


def _name_missing(session: Session, asked: Sequence[Asked], made: Sequence[_Made]) -> None:
    """Nothing that was asked for stays without a row and without a failure that names it."""
    done = {one.asked.name for one in made}
    for one in asked:
        ours = {f for f in session.failures if f.stage in ("trajectories", "prompts")}
        if one.name in done or one.failing in {(f.checkpoint, f.task) for f in ours}:
            continue
        tasks = {"", *(_name(one, kind) for kind in _KINDS)}
        of_parent = [
            f for f in session.failures if f.checkpoint == one.parent.name and f.task in tasks
        ]
        if of_parent and one.failing[0] == one.parent.name:
            continue
        why = of_parent[0].message if of_parent else "its texts were not scored; run it again"
        one.fail(session, "provenance", f"not measured under {one.parent.name}: {why}")


def _with_rewards(
    rows: Sequence[Mapping[str, Any]], earlier: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The rows with the rewards of earlier ones that are equal but for these."""

    def rest(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in _OF_REWARDS}

    # As they come back from the table: numbers of single precision are others before.
    stored = pa.Table.from_pylist(rows, schema=PROVENANCE).to_pylist()
    with_rewards = [row for row in earlier if row["reward_difference"] is not None]
    made = []
    for row, as_stored in zip(rows, stored, strict=True):
        same = [old for old in with_rewards if rest(old) == rest(as_stored)]
        made.append({**row, **{name: same[0][name] for name in _OF_REWARDS if same}})
    return made


def _rows(
    made: _Made, session: Session, settings: ProvenanceSettings, reward: RewardFunction | None
) -> Iterator[dict[str, Any]]:
    """A row for all trajectories, and one for each side of preference pairs."""
    chosen = made.read.chosen
    given = given_texts(made.given, session.store, chosen)
    own = own_texts(made.own, session.store, chosen)
    if reward is not None:
        given, own = rewarded(given, reward), rewarded(own, reward)
    parent = made.asked.parent.name
    common = {
        **made.asked.about,
        "parent": parent,
        "parent_fingerprint": session.prints[parent].weights,
        "trajectories": made.read.content,
        "engine": session.evaluation.engine_settings.name,
        "too_long": made.given.planned.fit(made.given.documents).too_long,
    }
    for row in stage_rows(given, own, settings):
        yield {**common, **row}
