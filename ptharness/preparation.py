"""Prompt sets for every checkpoint x task: remembered ones read, missing ones built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from ptharness.context import DEFAULT_WINDOW, request_tokens
from ptharness.errors import ManifestError, TaskError
from ptharness.fingerprint import digest
from ptharness.lineage import Checkpoint
from ptharness.planner import CheckpointPrint, PlannedTask, sampling_of
from ptharness.prompts import Kind, PromptSet
from ptharness.resolve import Evaluation, ResolvedTask
from ptharness.scoring import Failed, ScoringPool
from ptharness.store import UnitStore
from ptharness.units import Failure, PromptsUnit, ScoringContext

PROMPTS_VERSION = 1
_IF_SET = ("fewshot_seed", "fewshot_as_multiturn", "think_end_token")
"""Settings that a protocol card names where they are set."""


@dataclass(frozen=True)
class Prepared:
    """A task for a checkpoint, ready to be planned."""

    checkpoint: Checkpoint
    planned: PlannedTask


def prepare(
    pairs: Sequence[tuple[Checkpoint, ResolvedTask]],
    evaluation: Evaluation,
    prints: Mapping[str, CheckpointPrint],
    store: UnitStore,
    pool: ScoringPool,
    failures: list[Failure],
    on_progress: Callable[[int, int], None],
    *,
    limit: int | None = None,
) -> list[Prepared]:
    """Every pair of checkpoint and task with its prompts; what fails joins `failures`.

    So does a task of which nothing fits, of the first `limit` documents if given. A checkpoint
    without `prints` has failed before. Prompts are built in scoring processes: building wants
    lm-eval, datasets and a tokenizer, and this process stays free of them.
    """
    usable = [(checkpoint, task) for checkpoint, task in pairs if checkpoint.name in prints]
    inputs: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for name, task in {task.task.name: task for _, task in usable}.items():
        try:
            inputs[name] = task.task.inputs_digest(task.settings)
        except TaskError as error:
            unknown[name] = str(error)
    wanted: dict[str, tuple[ResolvedTask, Checkpoint]] = {}
    keyed: list[tuple[Checkpoint, ResolvedTask, str]] = []
    for checkpoint, task in usable:
        name = task.task.name
        if name in unknown:
            failures.append(Failure(checkpoint.name, name, "prompts", unknown[name]))
            continue
        tokenizer = prints[checkpoint.name].tokenizer
        key = digest("prompts", PROMPTS_VERSION, inputs[name], tokenizer, task.template)
        keyed.append((checkpoint, task, key))
        wanted.setdefault(key, (task, checkpoint))
    problems = _build_missing(wanted, store, pool, on_progress)
    prompt_sets = {
        key: PromptSet.from_table(store.read("prompts", key))
        for key in wanted
        if key not in problems
    }
    prepared = []
    for checkpoint, task, key in keyed:
        if key in problems:
            failures.append(Failure(checkpoint.name, task.task.name, "prompts", problems[key]))
            continue
        positions = prints[checkpoint.name].positions
        planned = _planned(task, key, prompt_sets[key], evaluation, positions)
        if problem := _nothing_fits(planned, limit):
            failures.append(Failure(checkpoint.name, task.task.name, "prompts", problem))
            continue
        prepared.append(Prepared(checkpoint, planned))
    return prepared


def _build_missing(
    wanted: Mapping[str, tuple[ResolvedTask, Checkpoint]],
    store: UnitStore,
    pool: ScoringPool,
    on_progress: Callable[[int, int], None],
) -> dict[str, str]:
    """Build the prompt sets that are not in the store; messages of those that failed."""
    for key, (task, checkpoint) in wanted.items():
        if not store.has("prompts", key):
            unit = PromptsUnit(key, task.task.name, checkpoint.tokenizer_directory, task.template)
            pool.submit(unit, ScoringContext(task.task, task.settings, ("", ""), binary=True))
    problems: dict[str, str] = {}
    total = pool.pending
    while pool.pending:
        on_progress(total - pool.pending, total)
        for outcome in pool.poll(0.2):
            if isinstance(outcome, Failed):
                problems[outcome.unit.key] = outcome.message
    if total:
        on_progress(total, total)
    return problems


def _planned(
    task: ResolvedTask,
    key: str,
    prompts: PromptSet,
    evaluation: Evaluation,
    positions: int | None,
) -> PlannedTask:
    sampling = sampling_of(prompts, task.overrides)
    repeats = int(prompts.header.generation.get("repeats") or 1)
    samples = 1 if sampling is None else task.samples or repeats
    if sampling and sampling.temperature == 0 and task.samples and task.samples > 1:
        raise ManifestError(
            f"{task.samples} samples at temperature 0 would all be equal (task {task.task.name!r} "
            "decodes greedily unless told otherwise); set temperature: 1.0, or samples: 1",
            path=evaluation.manifest_path,
            key="evaluate.temperature",
        )
    card = {
        "task": prompts.header.task,
        "kind": prompts.header.kind,
        "samples": samples,
        "seed": task.seed,
        "num_fewshot": task.settings.num_fewshot,
        "sampling": None if sampling is None else asdict(sampling),
        "chat_template": task.template.chat_template,
        "chat_template_used": prompts.header.chat_template_used,
        "system_prompt": task.template.system_prompt,
        "metrics": prompts.header.metrics,
        "primary": prompts.header.primary,
        **{name: value for name in _IF_SET if (value := getattr(task.settings, name)) is not None},
    }
    # Seeds take no part in whether two protocols are comparable.
    protocol = digest({name: value for name, value in card.items() if name != "seed"})[:12]
    return PlannedTask(
        task.task,
        task.settings,
        key,
        prompts,
        sampling,
        samples,
        protocol,
        card,
        task.seed,
        token_limit(positions, evaluation, prompts.header.kind),
    )


def token_limit(positions: int | None, evaluation: Evaluation, kind: Kind) -> int | None:
    """Tokens that a request may have: what the model has, the engine is set to, and needs."""
    chosen = evaluation.engine.token_limit(evaluation.engine_settings)
    limits = [limit for limit in (positions, chosen) if limit is not None]
    if not limits:
        return DEFAULT_WINDOW + 1 if kind == "loglikelihood_rolling" else None
    overhead = 0 if kind == "generate" else evaluation.engine.capabilities.scoring_overhead
    return min(limits) - overhead


def _nothing_fits(planned: PlannedTask, limit: int | None) -> str:
    """Why not one document that is asked for fits the checkpoint's context; empty if one does."""
    documents = planned.prompts.header.documents
    asked = documents if limit is None else min(limit, documents)
    too_long = planned.fit(asked).too_long
    if not too_long or too_long < asked:
        return ""
    which = f"its {asked:,}" if asked == documents else f"the first {asked:,} of its {documents:,}"
    tokens = request_tokens(planned.prompts.slice_documents(0, asked))
    shortest = int(tokens.min())
    if remedy := getattr(planned.task, "too_long_remedy", ""):
        what = "with its completions" if planned.prompts.header.kind == "loglikelihood" else ""
        return (
            f"none of {which} prompts fits {what}".rstrip() + f": they have {shortest:,} to "
            f"{int(tokens.max()):,} tokens, and the model takes {planned.limit:,} with the "
            f"completion; {remedy}"
        )
    # None leaves the number to the task, whose prompts do not say it.
    shots = {0: "", None: "lower num_fewshot if it shows worked examples, or "}.get(
        planned.settings.num_fewshot, "lower num_fewshot for this task, or "
    )
    return (
        f"none of {which} prompts fits: the shortest has {shortest:,} tokens and the model takes "
        f"{planned.limit:,} with the completion; {shots}leave it out for this checkpoint"
    )
