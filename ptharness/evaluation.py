"""The main job: a lineage goes in, tagged tables come out.

    resolve -> prompts -> plan -> generate (worker) -> score (scoring processes) -> publish
            -> analyse -> report

Generation and scoring run at the same time: a shard is scored as soon as its last sample
block is in the store, and a task's metrics are made as soon as its last shard is scored.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from ptharness.errors import CheckpointError, PluginError, StoreError
from ptharness.evidence import gather_evidence
from ptharness.executors.base import Executor, UnitFailed, WorkerContext, WorkerRestarted
from ptharness.lineage import Checkpoint
from ptharness.manifest import read_manifest
from ptharness.observer import Observer
from ptharness.planner import CheckpointPrint, Plan, make_plan, plan_work, read_prints
from ptharness.plugins import Plugins, load_plugins
from ptharness.preparation import Prepared, prepare
from ptharness.publish import default_settings, is_complete, publish, publish_analysis
from ptharness.publish.likelihoods import drop_stale
from ptharness.registry import Registry
from ptharness.report import REPORT_FILE, write_report
from ptharness.resolve import Evaluation, Overrides, ResolvedTask, resolve
from ptharness.results import Results
from ptharness.score_queue import ScoreQueue
from ptharness.scoring import Done, Failed, Marked, ScoringPool
from ptharness.store import UnitStore, remove_leftovers
from ptharness.units import Failure
from ptharness.worker import CheckpointFailed, Event, JobDone, Loaded, UnitDone


@dataclass(frozen=True)
class Request:
    """What is asked for: a manifest and the options of `ptharness run`.

    `tasks` and `checkpoints` (patterns of names) keep only these of the manifest's; `samples` and
    `engine` override it; `limit` takes the first documents of each task. Without `generate`, tables
    are made of what is stored, and analysing them is left to the caller.
    """

    manifest: Path
    out: Path = Path("results")
    tasks: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    samples: int | None = None
    engine: str | None = None
    executor: str = "local"
    limit: int | None = None
    command: tuple[str, ...] = ()
    generate: bool = True


def evaluate(
    manifest: str | Path,
    out: str | Path = "results",
    *,
    tasks: Sequence[str] = (),
    checkpoints: Sequence[str] = (),
    samples: int | None = None,
    engine: str | None = None,
    executor: str = "local",
    limit: int | None = None,
    plugins: Sequence[str] = (),
    observer: Observer | None = None,
) -> Results:
    """Evaluate every checkpoint of a manifest and publish `<out>/<lineage>/`.

    `tasks` (names) and `checkpoints` (names or patterns, as `["grpo*", "sft"]`) narrow that down.
    What is stored already is not made again. Failures of single checkpoints or tasks do not
    stop the others: they are listed in `Results.run["failures"]`.

    Raises:
        PtharnessError: the manifest, a plugin or the results folder is unusable.
    """
    request = Request(
        manifest=Path(manifest),
        out=Path(out),
        tasks=tuple(tasks),
        checkpoints=tuple(checkpoints),
        samples=samples,
        engine=engine,
        executor=executor,
        limit=limit,
        command=tuple(sys.argv),
    )
    return run(request, load_plugins(plugins), observer or Observer())[0]


def run(
    request: Request, plugins: Plugins, observer: Observer
) -> tuple[Results, Sequence[Failure]]:
    """Carry out a request; see `evaluate`. The failures are those of this very run."""
    session = Session.open(request, plugins, observer)
    try:
        plan = session.prepare(warm=request.generate)
        if not request.generate:
            plan = session.stored(plan)
        session.execute(plan)
    finally:
        session.close()
    return session.publish(plan), tuple(session.failures)


@dataclass
class Session:
    """One evaluation under way."""

    request: Request
    observer: Observer
    plugins: Plugins
    evaluation: Evaluation
    store: UnitStore
    pool: ScoringPool
    executor: Executor
    folder: Path
    registry: Registry
    prints: dict[str, CheckpointPrint] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    engine_loads: list[Mapping[str, object]] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    started: float = field(default_factory=time.time)

    @classmethod
    def open(cls, request: Request, plugins: Plugins, observer: Observer) -> Session:
        """Read the manifest and resolve all its names. Starts no process."""
        registry = plugins.registry()
        evaluation = resolve(
            read_manifest(request.manifest),
            registry,
            Overrides(request.tasks, request.checkpoints, request.samples, request.engine),
            plugins.files,
        )
        out = request.out.absolute()
        folder = out / evaluation.lineage.name
        store = UnitStore(out / "units")
        remove_leftovers(store.root)
        executor_class = registry.executors.get(request.executor)
        context = WorkerContext(
            evaluation.engine, store.root, folder / "logs" / "engine.log", evaluation.plugin_files
        )
        pool = ScoringPool(
            store.root,
            log_file=folder / "logs" / "scoring.log",
            plugin_files=evaluation.plugin_files,
            processes=max(1, min(8, (os.cpu_count() or 2) // 2)),
        )
        executor = executor_class(context)
        return cls(request, observer, plugins, evaluation, store, pool, executor, folder, registry)

    def fail(self, failure: Failure) -> None:
        """Remember a failure and tell of it."""
        self.failures.append(failure)
        self.observer.failed(failure)

    def prepare(self, *, warm: bool = True) -> Plan:
        """Plan every checkpoint x task. With `warm`, the worker starts meanwhile."""
        begun = time.monotonic()
        self.read_checkpoints(self.evaluation.checkpoints)
        pairs = [(c, task) for c in self.evaluation.checkpoints for task in self.evaluation.tasks]
        plan = self.plan(pairs, warm=warm, limit=self.request.limit)
        self.timings["preparation_s"] = time.monotonic() - begun
        return plan

    def read_checkpoints(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Digest the files of checkpoints; those that cannot be evaluated fail by name."""
        for checkpoint in checkpoints:
            try:
                if checkpoint.adapter:
                    self.evaluation.engine.check_adapter(checkpoint.adapter, checkpoint.directory)
                self.prints[checkpoint.name] = read_prints(checkpoint)
            except CheckpointError as error:
                self.fail(Failure(checkpoint.name, "", "checkpoint", str(error)))

    def plan(
        self,
        pairs: Sequence[tuple[Checkpoint, ResolvedTask]],
        *,
        warm: bool = True,
        limit: int | None = None,
        only: Collection[str] | None = None,
    ) -> Plan:
        """Build the prompts of pairs of checkpoint and task, and plan what is not stored.

        Of tasks that are not among `only` nothing is generated.
        """
        known = len(self.failures)

        def on_progress(done: int, total: int) -> None:
            if warm:
                # Prompts are missing, so there will be something to generate.
                self.executor.warm()
            self.observer.preparing(done, total)

        prepared = prepare(
            pairs,
            self.evaluation,
            self.prints,
            self.store,
            self.pool,
            self.failures,
            on_progress,
            limit=limit,
        )
        for failure in self.failures[known:]:
            self.observer.failed(failure)
        return self.plan_prepared(prepared, limit=limit, only=only)

    def plan_prepared(
        self,
        prepared: Sequence[Prepared],
        *,
        limit: int | None = None,
        only: Collection[str] | None = None,
    ) -> Plan:
        """The same for pairs whose prompts are there."""
        identity = self.evaluation.engine.identity(self.evaluation.engine_settings)
        work = [
            plan_work(
                p.checkpoint, self.prints[p.checkpoint.name], p.planned, identity, limit=limit
            )
            for p in prepared
        ]
        done = {
            unit.key
            for w in work
            for unit in w.generation
            if self.store.has("generation", unit.key)
        }
        left_out = {
            unit.key
            for w in work
            for unit in w.generation
            if only is not None and unit.task not in only
        }
        swaps = self.evaluation.engine.capabilities.swaps
        plan = make_plan(work, self.prints, done | left_out, swaps=swaps)
        cached = {u.key: u.completions for w in work for u in w.generation if u.key in done}
        self.observer.planned(plan, sum(cached.values()))
        return plan

    def stored(self, plan: Plan) -> Plan:
        """The same without generating; says what is missing, and which tables it is of.

        Raises `StoreError` where nothing is stored: tables that were published stay.
        """
        missing = {unit.key: unit.completions for job in plan.jobs for unit in job.units}
        lacking = [sum(missing.get(u.key, 0) for u in w.generation) for w in plan.work]
        kept = [work for work, count in zip(plan.work, lacking, strict=True) if not count]
        if plan.work and not kept:
            raise StoreError(
                f"{self.store.root}: holds no complete checkpoint x task of "
                f"{self.request.manifest}; `ptharness run` generates what is missing, or give "
                "--out the folder that it went to"
            )
        for work, count in zip(plan.work, lacking, strict=True):
            if count:
                message = f"{count:,} completions are not stored; `ptharness run` generates them"
                task = work.planned.prompts.header.task
                self.fail(Failure(work.checkpoint.name, task, "incomplete", message))
        return replace(plan, work=tuple(kept), jobs=())

    def execute(self, plan: Plan) -> None:
        """Generate and score what is missing."""
        scoring = ScoreQueue(plan.work, self.store, self.pool)
        settings = replace(self.evaluation.engine_settings, needed_tokens=plan.needed_tokens)
        for event in self.executor.run(plan.jobs, settings):
            if event is not None:
                self._handle(event, scoring)
            self._take(scoring, self.pool.poll())
        begun = time.monotonic()
        while self.pool.pending:
            self._take(scoring, self.pool.poll(0.2))
        self.timings["scoring_after_generation_s"] = time.monotonic() - begun

    def _handle(self, event: Event | UnitFailed | WorkerRestarted, scoring: ScoreQueue) -> None:
        match event:
            case UnitDone(key):
                scoring.generated(key)
            case Loaded(report):
                self.engine_loads.append(dict(report.__dict__))
                self.timings["engine_load_s"] += report.seconds
            case JobDone(_, seconds):
                self.timings["generation_s"] += seconds
            case CheckpointFailed(checkpoint, message):
                self.fail(Failure(checkpoint, "", "checkpoint", message))
            case UnitFailed(unit, message):
                self.fail(Failure(unit.checkpoint, unit.task, "generation", f"{unit}: {message}"))
        self.observer.event(event)

    def _take(self, scoring: ScoreQueue, outcomes: Iterable[Done | Failed | Marked]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Done):
                scoring.made(outcome.unit.key)
            elif isinstance(outcome, Marked):
                self.observer.marked(outcome)
            else:
                for checkpoint in scoring.checkpoints[outcome.unit.key]:
                    self.fail(Failure(checkpoint, outcome.unit.task, "scoring", outcome.message))
        self.observer.scoring(self.pool.pending)

    def close(self) -> None:
        """End every process."""
        try:
            self.executor.close()
        finally:
            self.pool.close()

    def publish(self, plan: Plan) -> Results:
        """Write the tables, tell the plugins, and open the results."""
        self._name_incomplete(plan)
        published = publish(
            self.folder,
            self.evaluation,
            plan.work,
            self.prints,
            self.store,
            failures=self.failures,
            engine_loads=self.engine_loads,
            timings=self.timings,
            started=datetime.fromtimestamp(self.started, UTC),
            command=self.request.command,
            evidence=self._evidence(),
        )
        for failure in published.failures:
            self.fail(failure)
        stale = drop_stale(self.folder, self.evaluation.lineage, self.prints)
        results = Results(self.folder)
        if self.request.generate:
            self._explain(results, changed=bool(published.written or stale))
        self.plugins.run_finished(results)
        return results

    def _explain(self, results: Results, *, changed: bool) -> None:
        """Analyse the tables and write the report, where they are not of this state already."""
        self.observer.analysing()
        step = "analysis"
        try:
            changed |= bool(publish_analysis(results, default_settings(results)))
            step = "report"
            if changed or _is_older(self.folder / REPORT_FILE, self.folder / "analysis.json"):
                write_report(results)
        except Exception as error:
            # Whatever is wrong here: the tables are there, and hours of generation with them.
            again = f"`ptharness {'analyze' if step == 'analysis' else 'report'} {self.folder}`"
            message = f"{type(error).__name__}: {error}; the tables are complete, and {again} tries"
            self.fail(Failure("", "", step, f"{message} again"))

    def _name_incomplete(self, plan: Plan) -> None:
        """No checkpoint x task stays out of the tables without a failure that says so.

        One can be missing without an own failure where it shares units with another.
        """
        named = {(f.checkpoint, f.task) for f in self.failures}
        for work in plan.work:
            name, task = work.checkpoint.name, work.planned.prompts.header.task
            if named.isdisjoint({(name, task), (name, "")}) and not is_complete(work, self.store):
                message = "a unit that it shares with another checkpoint or task was not made"
                self.fail(Failure(name, task, "incomplete", message))

    def _evidence(self) -> dict[str, str]:
        """What in each checkpoint's folder speaks for the method that probably made it."""
        found = {}
        for checkpoint in self.evaluation.lineage.checkpoints:
            directory = checkpoint.adapter or checkpoint.directory
            try:
                found[checkpoint.name] = gather_evidence(directory, self.registry.methods)
            except PluginError as error:
                # Hours of generation are not lost to a plugin that cannot read a folder.
                self.fail(Failure(checkpoint.name, "", "evidence", str(error)))
        return {
            name: "; ".join(
                f"{e.method}: {e.found}" for e in evidence if e.strength == evidence[0].strength
            )
            for name, evidence in found.items()
            if evidence
        }


def _is_older(file: Path, than: Path) -> bool:
    """Whether a file made of another is missing, or was not made since that was written."""
    return not file.is_file() or file.stat().st_mtime_ns < than.stat().st_mtime_ns
