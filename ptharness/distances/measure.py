"""Draw samples, let every checkpoint judge those of all, and publish what that says."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ptharness.distances.rows import distance_rows, items_of, relation, token_rows
from ptharness.distances.texts import Row, TextSet, judged_samples, make_text_set, respell
from ptharness.engines.base import vocabulary_size
from ptharness.errors import CheckpointError, EngineError, ManifestError
from ptharness.evaluation import Request, Session
from ptharness.fingerprint import read_config, vocabulary_digest
from ptharness.lineage import Checkpoint
from ptharness.observer import Observer
from ptharness.planner import Plan, PlannedTask, Work, plan_work
from ptharness.plugins import Plugins
from ptharness.preparation import Prepared, token_limit
from ptharness.protocol import SAMPLE_BLOCK, SHARD_DOCUMENTS
from ptharness.publish.files import write_table
from ptharness.publish.likelihoods import fresh_rows
from ptharness.report import write_report
from ptharness.resolve_tasks import ResolvedTask
from ptharness.results import Results
from ptharness.schema import DISTANCES, TOKEN_LIKELIHOODS
from ptharness.tokenizer import load_tokenizer
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

Method = Literal["auto", "exact", "sampled"]
How = Literal["exact", "sampled", "text"]
"""How a pair is measured: text is read in the judge's own tokens, where vocabularies differ."""
Pair = tuple[str, str]
"""Names of a source and its target."""


@dataclass(frozen=True)
class DistanceSettings:
    """How much is judged, and how: `documents` of each task (in whole shards no unit is made
    twice), and of each document `samples` at most. `method` auto is exact where that can be had."""

    documents: int = SHARD_DOCUMENTS
    samples: int = 4
    level: float = 0.95
    method: Method = "auto"


@dataclass
class _Texts:
    """What was said and asked: a text set for each checkpoint and task, the prompts of both."""

    sets: list[TextSet]
    asked: Mapping[tuple[str, str], Work]


@dataclass(frozen=True)
class _Judged:
    """What a judge was asked, and its units; None where there was nothing that it can read."""

    texts: TextSet
    work: Work | None


Judgements = Mapping[tuple[str, str, str], _Judged]
"""Under source, task and judge; those that could not be made are not there."""


@dataclass
class _Tokenizers:
    """Tokenizers of checkpoints, each loaded once."""

    loaded: dict[Path, Any] = field(default_factory=dict)

    def of(self, checkpoint: Checkpoint) -> Any:
        directory = checkpoint.tokenizer_directory
        if directory not in self.loaded:
            self.loaded[directory] = load_tokenizer(directory)
        return self.loaded[directory]


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
        tokenizers = _Tokenizers()
        pairs = _pairs(session, settings.method, tokenizers)
        texts = _own_samples(session, settings, tokenizers)
        judgements = _judge(session, texts, pairs, tokenizers)
        observer.analysing()
        rows, tokens = _measure(session, pairs, judgements, settings, tokenizers)
    finally:
        session.close()
    path = session.folder / "distances.parquet"
    if rows:
        _write(path, rows, DISTANCES, session)
        _write(path.with_name("token_likelihoods.parquet"), tokens, TOKEN_LIKELIHOODS, session)
        if (session.folder / "run.json").is_file():
            write_report(Results(session.folder))
    return path, rows, tuple(session.failures)


def _write(path: Path, rows: Sequence[Row], schema: pa.Schema, session: Session) -> None:
    """Replace a table's rows of the pairs and tasks that were measured; others stay while they
    hold, but for those of a pair that had no distance and has one now."""
    measured = {_place(row) for row in rows}
    pairs = {place[:2] for place in measured}
    kept = [
        row
        for row in fresh_rows(path, session.evaluation.lineage, session.prints)
        if _place(row) not in measured and (_place(row)[:2] not in pairs or row.get("tasks") != 0)
    ]
    whole = [*kept, *rows]
    order = {c.name: place for place, c in enumerate(session.evaluation.lineage.checkpoints)}
    whole.sort(key=lambda row: (order[row["source"]], order[row["target"]]))
    write_table(path, pa.Table.from_pylist(whole, schema=schema), "")


def _place(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["source"], row["target"], row["task"]


# --- what can be compared, and how ------------------------------------------------------------


def _pairs(session: Session, wanted: Method, tokenizers: _Tokenizers) -> dict[Pair, How]:
    """How each ordered pair of checkpoints is measured; one that cannot be read is in none."""
    vocabularies: dict[str, str] = {}
    widths: dict[str, int] = {}
    for checkpoint in session.evaluation.checkpoints:
        if checkpoint.name in session.prints:
            try:
                tokenizers.of(checkpoint)
                vocabularies[checkpoint.name] = vocabulary_digest(checkpoint.tokenizer_directory)
                widths[checkpoint.name] = vocabulary_size(read_config(checkpoint.directory))
            except CheckpointError as error:
                session.fail(Failure(checkpoint.name, "", "distances", str(error)))
    pairs: dict[Pair, How] = {}
    for source, target in itertools.permutations(widths, 2):
        if vocabularies[source] != vocabularies[target]:
            pairs[source, target] = "text"
            continue
        problem = _why_not_exact(session, widths[source], widths[target])
        if problem and wanted == "exact":
            raise EngineError(
                f"method exact: {source} and {target}: {problem}; choose the method auto or sampled"
            )
        pairs[source, target] = "sampled" if problem or wanted == "sampled" else "exact"
    return pairs


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


def _own_samples(session: Session, settings: DistanceSettings, tokenizers: _Tokenizers) -> _Texts:
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
    session.execute(_only_generation(plan, drawn))
    sets = [
        make_text_set(work, tokenizers.of(work.checkpoint), session.store, settings.samples)
        for work in drawn
        if _is_stored(session, work)
    ]
    return _Texts(sets, {(w.checkpoint.name, w.planned.prompts.header.task): w for w in drawn})


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
    """The task at temperature 1, with samples that a run at temperature 1 has stored already."""
    samples = min(task.samples or settings.samples, SAMPLE_BLOCK)
    return replace(task, samples=samples, overrides={**task.overrides, **PLAIN})


def _is_stored(session: Session, work: Work) -> bool:
    return all(session.store.has("generation", unit.key) for unit in work.generation)


# --- judged by the others ---------------------------------------------------------------------


def _judge(
    session: Session, texts: _Texts, pairs: Mapping[Pair, How], tokenizers: _Tokenizers
) -> Judgements:
    """Ask every judge for all texts at once: it is loaded once."""
    exact = {source for (source, _), how in pairs.items() if how == "exact"}
    # What could not be loaded to speak is not loaded again to judge.
    broken = {failure.checkpoint for failure in session.failures if not failure.task}
    prepared: list[Prepared] = []
    judged: dict[tuple[str, str, str], _Judged] = {}
    asked: dict[tuple[str, str, str], TextSet] = {}
    for judge in session.evaluation.checkpoints:
        for one in () if judge.name in broken else texts.sets:
            source, place = one.source.name, (one.source.name, one.task, judge.name)
            own = source == judge.name and source in exact
            how = "exact" if own else pairs.get((source, judge.name))
            given = one
            if how == "text":
                if (judge.name, one.task) not in texts.asked:
                    continue
                prompts = texts.asked[judge.name, one.task].planned
                given = respell(
                    one, prompts.prompts, prompts.prompt_set, tokenizers.of(judge), session.store
                )
            if how and given.prompts.rows.num_rows:
                asked[place] = given
                planned = _planned(session, judge, given, distributions=how == "exact")
                prepared.append(Prepared(judge, planned))
            elif how:
                judged[place] = _Judged(given, None)
    plan = session.plan_prepared(prepared)
    session.execute(replace(plan, work=()))
    # The plan keeps the order of what is prepared.
    for (place, given), work in zip(asked.items(), plan.work, strict=True):
        if _is_stored(session, work):
            judged[place] = _Judged(given, work)
    return judged


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
    judgements: Judgements,
    settings: DistanceSettings,
    tokenizers: _Tokenizers,
) -> tuple[list[Row], list[Row]]:
    """Rows of `distances`, and of `token_likelihoods` for what children say."""
    lineage = session.evaluation.lineage
    rows: list[Row] = []
    tokens: list[Row] = []
    tasks = [task.task.name for task in session.evaluation.tasks]
    for (source, target), how in pairs.items():
        edge = {
            "lineage": lineage.name,
            "source": source,
            "target": target,
            "source_fingerprint": session.prints[source].weights,
            "target_fingerprint": session.prints[target].weights,
        }
        is_child = relation(lineage, source, target) == "child"
        items, left_out = [], 0
        for task in tasks:
            found = judgements.get((source, task, target))
            own = judgements.get((source, task, source)) if how == "exact" else None
            if found is None or (how == "exact" and own is None):
                continue
            left_out += found.texts.left_out
            if found.work is None:
                continue
            whole = own.work if own else None
            samples = list(judged_samples(found.texts, found.work, whole, session.store))
            items += items_of(found.texts, samples)
            if is_child and found.texts.own_tokens:
                tokenizer = tokenizers.of(found.texts.source)
                tokens += [{**edge, **row} for row in token_rows(found.texts, samples, tokenizer)]
        common = {
            **dict.fromkeys(DISTANCES.names),
            **edge,
            "engine": session.evaluation.engine_settings.name,
            "relation": relation(lineage, source, target),
            "method": None if how == "text" else how,
        }
        if items or how == "text":
            rows += distance_rows(common, items, left_out, settings.level)
    return rows, tokens
