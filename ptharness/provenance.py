"""Were a stage's trajectories its parent's own words? Asks the parent, scores, and publishes.

    a stage's trajectories ─┬─> their prompts, asked of the parent ──> own samples ─┐
                            └─> scored by the parent ──────────────> likelihoods ───┴─> table

Both are units like any other: stored, resumed, grouped so that a parent is loaded once.
"""

from __future__ import annotations

import contextlib
import fnmatch
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptharness.analysis.provenance import Prompt, ProvenanceEstimate, Thresholds, measure
from ptharness.errors import ManifestError, PluginError, TrajectoryError, near_misses
from ptharness.evaluation import Request, Session
from ptharness.fingerprint import digest
from ptharness.lineage import Checkpoint
from ptharness.observer import Observer
from ptharness.planner import Work
from ptharness.plugins import Plugins
from ptharness.prompts import Template
from ptharness.publish.columns import tag_values
from ptharness.publish.files import write_table
from ptharness.publish.likelihoods import fresh_rows
from ptharness.report import write_report
from ptharness.resolve_tasks import ResolvedTask
from ptharness.results import Results
from ptharness.schema import PROVENANCE
from ptharness.store import UnitStore
from ptharness.tasks.base import TaskSettings
from ptharness.tasks.trajectories import TrajectoryTask, read_about
from ptharness.trajectories import Trajectory, choose, content_digest
from ptharness.units import Failure

RewardFunction = Callable[..., Sequence[float | None]]
"""As TRL's trainers call it: `f(prompts=[...], completions=[...], **columns) -> rewards`, where a
completion is text, or of a conversation a list of one message."""


@dataclass(frozen=True)
class ProvenanceSettings:
    """How much is scored. `rare_below` is a probability; `samples` are own ones per prompt.

    `stages` (patterns of names) asks for these alone.
    """

    stages: tuple[str, ...] = ()
    prompts: int = 200
    per_prompt: int = 8
    samples: int = 8
    rare_below: float = 1e-4
    level: float = 0.95
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class _Stage:
    """A stage, its parent, and what the parent is to do."""

    child: Checkpoint
    parent: Checkpoint
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
            if _is_stored(stage, session.store)
            for row in _measure(stage, session, settings, reward)
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
        (parent, _task(child, kind, trajectories[child.name], session, settings))
        for child, parent in stages
        for kind in ("generate", "loglikelihood")
    ]
    plan = session.plan(pairs)
    # Nothing here is right or wrong: there are no scores to make.
    session.execute(replace(plan, work=()))
    works = {work.planned.prompts.header.task: work for work in plan.work}
    return [
        _Stage(child, parent, works[own], works[given])
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
            why = f"has {len(child.parents)} parents: whose words its trajectories are is unclear"
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


def _read(
    stages: Sequence[tuple[Checkpoint, Checkpoint]], session: Session, settings: ProvenanceSettings
) -> dict[str, tuple[Trajectory, ...]]:
    """What is taken of each stage's trajectories; a file that cannot be read fails by name."""
    found: dict[str, tuple[Trajectory, ...]] = {}
    problem: ManifestError | None = None
    for child, _ in stages:
        assert child.stage is not None
        assert child.stage.trajectories is not None
        try:
            chosen = choose(child.stage.trajectories, settings.prompts, settings.per_prompt)
            found[child.name] = tuple(chosen)
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


def _is_stored(stage: _Stage, store: UnitStore) -> bool:
    units = (*stage.own.generation, *stage.given.generation)
    return all(store.has("generation", unit.key) for unit in units)


@dataclass(frozen=True)
class _Text:
    """A scored text: log-probabilities in nats of its tokens, and what is known of it."""

    document: int
    about: Mapping[str, Any]
    text: str
    logprobs: np.ndarray[Any, np.dtype[np.float64]]
    side: str
    reward: float
    cut: bool

    @property
    def nll(self) -> float:
        """Nats per token."""
        return float(-self.logprobs.mean())


def _measure(
    stage: _Stage, session: Session, settings: ProvenanceSettings, reward: RewardFunction | None
) -> list[dict[str, Any]]:
    """A row for all trajectories, and one for each side of preference pairs."""
    given = [text for text in _given(stage.given, session.store) if len(text.logprobs)]
    own = [text for text in _own(stage.own, session.store) if len(text.logprobs)]
    if reward is not None:
        given, own = _rewarded(given, reward), _rewarded(own, reward)
    sides = sorted({text.side for text in given} - {"given"})
    rows = []
    for side in ("all", *sides):
        chosen = [text for text in given if side in ("all", text.side)]
        prompts_of = _prompts(chosen, own)
        estimate = measure(prompts_of, settings.thresholds, settings.level)
        rows.append(
            {
                **tag_values(session.evaluation.lineage, stage.child),
                **_row(stage, side, chosen, own, estimate, settings, session),
                "prompts": len(prompts_of),
            }
        )
    return rows


def _given(work: Work, store: UnitStore) -> list[_Text]:
    rows = work.planned.prompts.rows
    about = read_about(rows)
    documents, texts = rows["document"].to_pylist(), rows["continuation"].to_pylist()
    found = []
    for unit in work.generation:
        first = int(work.planned.prompts.document_starts[unit.first_document])
        table = store.read("generation", unit.key, ["row", "token_logprobs_nats"])
        for row, logprobs in zip(*(column.to_pylist() for column in table), strict=True):
            at = first + row
            side, known = about[at]["side"], about[at]["reward"]
            value = math.nan if known is None else float(known)
            array = np.asarray(logprobs or (), np.float64)
            found.append(_Text(documents[at], about[at], texts[at], array, side, value, cut=False))
    return found


def _own(work: Work, store: UnitStore) -> list[_Text]:
    rows = work.planned.prompts.rows
    about, documents = read_about(rows), rows["document"].to_pylist()
    columns = ["row", "text", "token_logprobs_nats", "finish_reason"]
    found = []
    for unit in work.generation:
        first = int(work.planned.prompts.document_starts[unit.first_document])
        table = store.read("generation", unit.key, columns)
        for row, text, logprobs, reason in zip(*(c.to_pylist() for c in table), strict=True):
            array = np.asarray(logprobs or (), np.float64)
            cut = reason == "length"
            at = first + row
            found.append(_Text(documents[at], about[at], text or "", array, "own", math.nan, cut))
    return found


def _rewarded(texts: Sequence[_Text], reward: RewardFunction) -> list[_Text]:
    """The same texts with the reward that the function gives them.

    Raises `PluginError` where the function fails or gives something else.
    """
    columns = {name for text in texts for name in text.about["columns"]}
    try:
        # What it prints is not our output.
        with contextlib.redirect_stdout(sys.stderr):
            values: Any = reward(
                prompts=[text.about["prompt"] for text in texts],
                completions=[_as_trained(text) for text in texts],
                **{name: [text.about["columns"].get(name) for text in texts] for name in columns},
            )
        if inspect.iscoroutine(values):
            values.close()
            raise TypeError("it is asynchronous, and nothing awaits it")
        values = list(values)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the reward function failed: {type(error).__name__}: {error}; {_REWARDS_AS}"
        ) from error
    if len(values) != len(texts):
        raise PluginError(
            f"the reward function gave {len(values)} rewards for {len(texts)} completions; "
            f"{_REWARDS_AS}"
        )
    return [
        replace(text, reward=_as_reward(value)) for text, value in zip(texts, values, strict=True)
    ]


_REWARDS_AS = (
    "it is called as f(prompts=[...], completions=[...], **columns) and returns a number, or None, "
    "for each completion"
)
_LARGEST_REWARD = 1e12


def _as_reward(value: Any) -> float:
    """A reward as a number, NaN where none is known. Raises `PluginError` for anything else."""
    if value is None:
        return math.nan
    number = value.item() if hasattr(value, "item") else value
    if not isinstance(number, int | float) or abs(number) > _LARGEST_REWARD:
        raise PluginError(
            f"the reward function gave {value!r:.60}; a reward is a number of at most "
            f"{_LARGEST_REWARD:g}, or None"
        )
    return float(number)


def _as_trained(text: _Text) -> str | list[dict[str, str]]:
    """A completion in the form of its prompt."""
    if isinstance(text.about["prompt"], str):
        return text.text
    return [{"role": "assistant", "content": text.text}]


def _prompts(given: Sequence[_Text], own: Sequence[_Text]) -> list[Prompt]:
    """What there is of each prompt that has both."""
    sides: tuple[dict[int, list[_Text]], dict[int, list[_Text]]] = ({}, {})
    for by_prompt, texts in zip(sides, (given, own), strict=True):
        for text in texts:
            by_prompt.setdefault(text.document, []).append(text)
    return [
        Prompt(
            np.array([text.nll for text in found]),
            np.array([text.nll for text in sides[1][document]]),
            np.array([text.reward for text in found]),
            np.array([text.reward for text in sides[1][document]]),
        )
        for document, found in sides[0].items()
        if document in sides[1]
    ]


def _row(
    stage: _Stage,
    side: str,
    given: Sequence[_Text],
    own: Sequence[_Text],
    estimate: ProvenanceEstimate,
    settings: ProvenanceSettings,
    session: Session,
) -> Mapping[str, Any]:
    assert stage.child.stage is not None
    assert stage.child.stage.trajectories is not None
    tokens = np.concatenate([text.logprobs for text in given] or [np.empty(0)])
    rare = float((tokens < math.log(settings.rare_below)).mean()) if len(tokens) else None
    return {
        "parent": stage.parent.name,
        "parent_fingerprint": session.prints[stage.parent.name].weights,
        "trajectories": content_digest(stage.child.stage.trajectories),
        "engine": session.evaluation.engine_settings.name,
        "side": side,
        "provenance_declared": stage.child.stage.provenance.value,
        "provenance_measured": estimate.measured.value,
        "reason": estimate.reason,
        "given": len(given),
        "own": len(own),
        "gap_nats_per_token": estimate.gap.estimate,
        "gap_stderr": estimate.gap.stderr,
        "gap_ci_low": estimate.gap.ci_low,
        "gap_ci_high": estimate.gap.ci_high,
        "auc": estimate.auc.estimate,
        "auc_ci_low": estimate.auc.ci_low,
        "auc_ci_high": estimate.auc.ci_high,
        "like_share": estimate.like_share,
        "rare_token_share": rare,
        "rare_below": settings.rare_below,
        "given_bits_per_byte": _bits_per_byte(given),
        "own_bits_per_byte": _bits_per_byte(own),
        "reward_difference": estimate.reward.estimate,
        "reward_ci_low": estimate.reward.ci_low,
        "reward_ci_high": estimate.reward.ci_high,
        "looks_filtered": estimate.looks_filtered,
        "truncated": sum(text.cut for text in own),
        "too_long": stage.given.planned.fit(stage.given.documents).too_long,
        "level": settings.level,
        "given_nats_per_token": [text.nll for text in given],
        "own_nats_per_token": [text.nll for text in own],
    }


def _bits_per_byte(texts: Sequence[_Text]) -> float | None:
    size = sum(len(text.text.encode()) for text in texts)
    nats = -sum(float(text.logprobs.sum()) for text in texts)
    return nats / math.log(2) / size if size else None
