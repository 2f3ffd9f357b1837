"""Draw samples, let every checkpoint judge those of all, and publish what that says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptharness.analysis.inputs import POOLED
from ptharness.distances.pairs import How, Method, Pair, Tokenizers, bounded, ways
from ptharness.distances.rows import distance_rows, summed_up, token_rows
from ptharness.distances.texts import Row, TextSet, judged_samples, make_text_set, respell
from ptharness.errors import ManifestError
from ptharness.evaluation import Request, Session
from ptharness.lineage import Checkpoint
from ptharness.observer import Observer
from ptharness.planner import Plan, PlannedTask, Work, plan_work
from ptharness.plugins import Plugins
from ptharness.preparation import Prepared, token_limit
from ptharness.protocol import SAMPLE_BLOCK, SHARD_DOCUMENTS
from ptharness.publish.likelihoods import fresh_rows, replace_rows
from ptharness.report import write_report
from ptharness.resolve_tasks import ResolvedTask
from ptharness.results import Results
from ptharness.schema import DISTANCES, TOKEN_LIKELIHOODS
from ptharness.units import Failure

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


@dataclass(frozen=True)
class DistanceSettings:
    """How much is judged, and how: `documents` of each task (in whole shards no unit is made
    twice), and of each document `samples`. `method` auto is exact where that can be had."""

    documents: int = SHARD_DOCUMENTS
    samples: int = 4
    level: float = 0.95
    method: Method = "auto"


@dataclass(frozen=True)
class _Asked:
    """What a judge is asked, and its units; None where there is nothing that it can read."""

    texts: TextSet
    work: Work | None


Place = tuple[str, str, str]
"""Source, task and judge."""


def measure_distances(
    request: Request, settings: DistanceSettings, plugins: Plugins, observer: Observer
) -> tuple[Path, list[Row], Sequence[Failure]]:
    """Measure every ordered pair of checkpoints; the table's file, its rows, what failed.

    Writes `distances.parquet` and `token_likelihoods.parquet`, and the report again where there is
    one. Raises `ManifestError` where no task draws completions, `EngineError` where exact sums are
    asked for that cannot be had.
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
        tokenizers = Tokenizers()
        pairs = ways(session, settings.method, tokenizers)
        drawn = _draw(session, settings, {source for source, _ in pairs})
        texts = [
            make_text_set(work, tokenizers.of(work.checkpoint), session.store, settings.samples)
            for work in drawn.values()
            if _is_stored(session, work)
        ]
        if settings.method == "auto":
            pairs = bounded(pairs, texts)
        asked = _judge(session, texts, drawn, pairs, tokenizers)
        observer.analysing()
        rows, tokens = _measure(session, pairs, asked, settings, tokenizers)
    finally:
        session.close()
    path = session.folder / "distances.parquet"
    if rows:
        lineage, prints = session.evaluation.lineage, session.prints
        before = fresh_rows(path, lineage, prints) if request.tasks else []
        # Those of some tasks say less than what there is of all.
        wider = {_pair_and_task(row) for row in before if row["task"] == POOLED and row["tasks"]}
        written = [row for row in rows if _pair_and_task(row) not in wider]
        measured = {_pair_and_task(row) for row in written}
        replace_rows(path, written, DISTANCES, measured, lineage, prints)
        beside = path.with_name("token_likelihoods.parquet")
        replace_rows(beside, tokens, TOKEN_LIKELIHOODS, measured, lineage, prints)
        if (session.folder / "run.json").is_file():
            write_report(Results(session.folder))
    return path, rows, tuple(session.failures)


def _pair_and_task(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["source"], row["target"], row["task"]


# --- own samples ------------------------------------------------------------------------------


def _draw(
    session: Session, settings: DistanceSettings, readable: set[str]
) -> dict[tuple[str, str], Work]:
    """Samples of each checkpoint on each task that draws some; work that is stored or failed."""
    evaluation = session.evaluation
    tasks = [_plainly_drawn(task, settings) for task in evaluation.tasks]
    checkpoints = [c for c in evaluation.checkpoints if c.name in readable]
    pairs = [(checkpoint, task) for checkpoint in checkpoints for task in tasks]
    plan = session.plan(pairs, limit=settings.documents)
    drawn = [w for w in plan.work if w.planned.prompts.header.kind == "generate"]
    if plan.work and not drawn:
        raise ManifestError(
            "no task draws completions, and a divergence is one of what is said; add a task of "
            "output_type generate_until",
            path=evaluation.manifest_path,
            key="evaluate.tasks",
        )
    session.execute(_only_generation(plan, drawn))
    return {(w.checkpoint.name, w.planned.prompts.header.task): w for w in drawn}


def _only_generation(plan: Plan, drawn: Sequence[Work]) -> Plan:
    """The part of a plan that makes completions of these, and scores nothing."""
    keys = {unit.key for work in drawn for unit in work.generation}
    jobs = tuple(
        replace(job, units=units)
        for job in plan.jobs
        if (units := tuple(unit for unit in job.units if unit.key in keys))
    )
    return replace(plan, work=(), jobs=jobs)


def _plainly_drawn(task: ResolvedTask, settings: DistanceSettings) -> ResolvedTask:
    """The task at temperature 1.

    Units of a run at temperature 1 are used, and made for it, where these can be the same: whole
    shards, and of each document a block of samples that has enough.
    """
    block = min(task.samples or 0, SAMPLE_BLOCK)
    is_same = task.overrides.get("temperature") == 1.0 and not settings.documents % SHARD_DOCUMENTS
    samples = block if is_same and block >= settings.samples else settings.samples
    return replace(task, samples=samples, overrides={**task.overrides, **PLAIN})


def _is_stored(session: Session, work: Work) -> bool:
    return all(session.store.has("generation", unit.key) for unit in work.generation)


# --- judged by the others ---------------------------------------------------------------------


def _judge(
    session: Session,
    texts: Sequence[TextSet],
    drawn: Mapping[tuple[str, str], Work],
    pairs: Mapping[Pair, How],
    tokenizers: Tokenizers,
) -> dict[Place, _Asked]:
    """Ask every judge for all texts at once: it is loaded once. What failed is not there."""
    exact = {source for (source, _), how in pairs.items() if how == "exact"}
    # What could not be loaded to speak is not loaded again to judge.
    broken = {failure.checkpoint for failure in session.failures if not failure.task}
    asked: dict[Place, TextSet] = {}
    prepared: dict[Place, Prepared] = {}
    for judge in session.evaluation.checkpoints:
        for one in () if judge.name in broken else texts:
            place = one.source.name, one.task, judge.name
            own = one.source.name == judge.name and judge.name in exact
            how = "exact" if own else pairs.get((one.source.name, judge.name))
            if how == "text" and (judge.name, one.task) in drawn:
                theirs = drawn[judge.name, one.task].planned
                asked[place] = respell(
                    one, theirs.prompts, theirs.prompt_set, tokenizers.of(judge), session.store
                )
            elif how and how != "text":
                asked[place] = one
            if place in asked and asked[place].prompts.rows.num_rows:
                planned = _planned(session, judge, asked[place], distributions=how == "exact")
                prepared[place] = Prepared(judge, planned)
    plan = session.plan_prepared(list(prepared.values()))
    session.execute(replace(plan, work=()))
    # A plan keeps the order of what is prepared.
    works = dict(zip(prepared, plan.work, strict=True))
    return {
        place: _Asked(one, works.get(place))
        for place, one in asked.items()
        if place not in works or _is_stored(session, works[place])
    }


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


def _measure(
    session: Session,
    pairs: Mapping[Pair, How],
    asked: Mapping[Place, _Asked],
    settings: DistanceSettings,
    tokenizers: Tokenizers,
) -> tuple[list[Row], list[Row]]:
    """Rows of `distances`, and of `token_likelihoods` for what children say."""
    rows: list[Row] = []
    tokens: list[Row] = []
    for (source, target), how in pairs.items():
        about = _about(session, source, target)
        judged = []
        for task in (task.task.name for task in session.evaluation.tasks):
            theirs, own = asked.get((source, task, target)), asked.get((source, task, source))
            if theirs is None or (how == "exact" and own is None):
                continue
            whole = own.work if own and how == "exact" else None
            samples = list(judged_samples(theirs.texts, theirs.work, whole, session.store))
            judged.append(summed_up(theirs.texts, samples))
            if about["relation"] == "child" and theirs.texts.own_tokens:
                tokenizer = tokenizers.of(theirs.texts.source)
                found = token_rows(theirs.texts, samples, tokenizer)
                common = {name: about[name] for name in TOKEN_LIKELIHOODS.names if name in about}
                protocol = {"protocol": theirs.texts.protocol}
                tokens += [{**common, **protocol, **row} for row in found]
        common = {
            **dict.fromkeys(DISTANCES.names),
            **about,
            "method": None if how == "text" else how,
        }
        rows += distance_rows(common, judged, settings.level)
    return rows, tokens


def _about(session: Session, source: str, target: str) -> Row:
    """Columns that say which pair it is, and of which state."""
    prints = session.prints
    return {
        "lineage": session.evaluation.lineage.name,
        "source": source,
        "target": target,
        "source_fingerprint": prints[source].weights,
        "target_fingerprint": prints[target].weights,
        "source_tokenizer": prints[source].tokenizer,
        "target_tokenizer": prints[target].tokenizer,
        "engine": session.evaluation.engine_settings.name,
        "relation": session.evaluation.lineage.relation(source, target),
    }
