"""What there is to do: lineage x tasks x protocols -> ordered units with content keys. Pure.

The keys decide everything about resuming and caching. A generation key holds what the drawn
tokens depend on and nothing else (no path, no name, no lineage, no batch size); a score key
adds what the scorers depend on. Units that are in the store drop out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from ptharness import fingerprint
from ptharness.context import Fit, binds, fit, request_tokens, too_long
from ptharness.errors import CheckpointError
from ptharness.fingerprint import digest
from ptharness.lineage import Checkpoint
from ptharness.prompts import PromptSet
from ptharness.protocol import SAMPLE_BLOCK, SHARD_DOCUMENTS, Sampling, resolve_sampling
from ptharness.stop_tokens import stop_token_ids
from ptharness.tasks.base import Task, TaskSettings
from ptharness.units import (
    DOCUMENT_TIME_LIMIT_S,
    GenerationUnit,
    Job,
    MetricsUnit,
    ScoreUnit,
    ScoringContext,
)

KEY_VERSION = 1


@dataclass(frozen=True)
class CheckpointPrint:
    """The digests of one checkpoint: what of it the keys contain."""

    weights: str
    architecture: str
    engine_group: str
    tokenizer: str
    stop_token_ids: tuple[int, ...]
    parameters: int
    positions: int | None


@dataclass(frozen=True)
class PlannedTask:
    """A task for one checkpoint: its prompts and how samples are drawn.

    `limit` are the tokens that a request may have, prompt and completion together; None where
    nothing bounds them. `distributions` asks for those over the whole vocabulary, of continuations.
    """

    task: Task
    settings: TaskSettings
    prompt_set: str
    prompts: PromptSet
    sampling: Sampling | None
    samples: int
    protocol: str
    protocol_card: Mapping[str, object]
    seed: int
    limit: int | None = None
    distributions: bool = False

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest completion that may be drawn."""
        return self.sampling.max_tokens if self.sampling else 0

    def fit(self, documents: int) -> Fit:
        """How many of the first `documents` fit the checkpoint's context."""
        rows = self.prompts.slice_documents(0, documents)
        return fit(rows, self.prompts.header.kind, self.limit, self.max_tokens)


@dataclass(frozen=True)
class Work:
    """All units of one checkpoint x task, done or not."""

    checkpoint: Checkpoint
    planned: PlannedTask
    generation: tuple[GenerationUnit, ...]
    scores: tuple[ScoreUnit, ...]
    metrics: MetricsUnit

    @property
    def documents(self) -> int:
        """Documents that are evaluated."""
        return sum(unit.documents for unit in self.scores)

    @property
    def scoring_context(self) -> ScoringContext:
        """What a scoring process needs for these units."""
        header = self.planned.prompts.header
        return ScoringContext(
            self.planned.task, self.planned.settings, header.primary, header.binary
        )


@dataclass(frozen=True)
class Plan:
    """Everything that belongs to the evaluation, and what of it is still to be done."""

    work: tuple[Work, ...]
    jobs: tuple[Job, ...]
    engine_starts: int
    needed_tokens: int


def read_prints(checkpoint: Checkpoint) -> CheckpointPrint:
    """Digest a checkpoint's files. Raises `CheckpointError` for what cannot be evaluated."""
    try:
        return _read_prints(checkpoint)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        # Its files are not ours: whatever is odd about them concerns this checkpoint alone.
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.strerror:
            reason = ": ".join(filter(None, (str(error.filename or ""), error.strerror)))
        raise CheckpointError(
            f"{checkpoint.adapter or checkpoint.directory}: cannot be read as a checkpoint "
            f"({reason})"
        ) from error


def _read_prints(checkpoint: Checkpoint) -> CheckpointPrint:
    directory = checkpoint.directory
    weights = fingerprint.weights_digest(directory)
    if checkpoint.adapter:
        weights = digest(
            weights,
            fingerprint.weights_digest(checkpoint.adapter),
            fingerprint.file_digest(checkpoint.adapter / "adapter_config.json"),
        )
    return CheckpointPrint(
        weights=weights,
        architecture=digest(fingerprint.architecture_config(directory)),
        engine_group=fingerprint.architecture_digest(directory),
        tokenizer=fingerprint.tokenizer_digest(checkpoint.tokenizer_directory),
        stop_token_ids=stop_token_ids(directory, checkpoint.tokenizer_directory),
        parameters=fingerprint.parameter_count(directory),
        positions=fingerprint.position_limit(directory),
    )


def plan_work(
    checkpoint: Checkpoint,
    prints: CheckpointPrint,
    planned: PlannedTask,
    engine_identity: Mapping[str, str],
    *,
    limit: int | None = None,
) -> Work:
    """Cut one checkpoint x task into units. `limit` takes the first documents only."""
    header = planned.prompts.header
    documents = header.documents if limit is None else min(limit, header.documents)
    generation: list[GenerationUnit] = []
    scores: list[ScoreUnit] = []
    for first in range(0, documents, SHARD_DOCUMENTS):
        count = min(SHARD_DOCUMENTS, documents - first)
        rows = planned.prompts.slice_documents(first, count)
        prompts_key = digest(rows["prompt_digest"].to_pylist(), rows["occurrence"].to_pylist())
        bound = binds(rows, planned.limit, planned.max_tokens)
        limit_here = planned.limit if bound else None
        blocks = [
            _generation_unit(
                checkpoint,
                prints,
                planned,
                engine_identity,
                block,
                prompts_key,
                first,
                count,
                rows.num_rows,
                limit_here,
            )
            for block in _blocks(planned.samples)
        ]
        generation += blocks
        generation_keys = tuple(unit.key for unit in blocks)
        score_key = digest(
            "score",
            KEY_VERSION,
            generation_keys,
            header.score_digest,
            header.primary,
            rows["document_digest"].to_pylist(),
            planned.sampling and planned.sampling.stop,
            DOCUMENT_TIME_LIMIT_S,
        )
        scores.append(
            ScoreUnit(
                score_key,
                checkpoint.name,
                header.task,
                planned.prompt_set,
                first,
                count,
                generation_keys,
                planned.sampling.stop if planned.sampling else (),
                limit_here,
            )
        )
    score_keys = tuple(unit.key for unit in scores)
    metrics_key = digest("metrics", KEY_VERSION, score_keys, header.score_digest)
    return Work(
        checkpoint,
        planned,
        tuple(generation),
        tuple(scores),
        MetricsUnit(metrics_key, checkpoint.name, header.task, score_keys),
    )


def _blocks(samples: int) -> Iterator[tuple[int, int]]:
    """(first sample, samples) of each block; only the last may be short."""
    for first in range(0, samples, SAMPLE_BLOCK):
        yield first, min(SAMPLE_BLOCK, samples - first)


def _generation_unit(
    checkpoint: Checkpoint,
    prints: CheckpointPrint,
    planned: PlannedTask,
    engine_identity: Mapping[str, str],
    block: tuple[int, int],
    prompts_key: str,
    first_document: int,
    documents: int,
    rows: int,
    limit: int | None,
) -> GenerationUnit:
    model = (prints.weights, prints.architecture, prints.tokenizer)
    stream = (planned.seed, prints.weights, checkpoint.replicate)
    if planned.sampling is None:
        # A log-likelihood draws nothing: it is the same for every seed and replicate.
        drawing: tuple[object, ...] = ()
    else:
        drawing = (asdict(planned.sampling), prints.stop_token_ids, stream, block)
    if limit is not None:
        drawing = (*drawing, "limit", limit)
    if planned.distributions:
        drawing = (*drawing, "distributions")
    return GenerationUnit(
        key=digest("generation", KEY_VERSION, model, prompts_key, drawing, dict(engine_identity)),
        checkpoint=checkpoint.name,
        task=planned.prompts.header.task,
        prompt_set=planned.prompt_set,
        kind=planned.prompts.header.kind,
        first_document=first_document,
        documents=documents,
        first_sample=block[0],
        samples=block[1],
        rows=rows,
        sampling=planned.sampling or Sampling(),
        stop_token_ids=prints.stop_token_ids,
        stream=stream,
        limit=limit,
        distributions=planned.distributions,
    )


def sampling_of(prompts: PromptSet, overrides: Mapping[str, object]) -> Sampling | None:
    """How completions are drawn; None for log-likelihoods, which draw nothing."""
    if prompts.header.kind != "generate":
        return None
    return resolve_sampling(prompts.header.generation, overrides)


def make_plan(
    work: Sequence[Work],
    prints: Mapping[str, CheckpointPrint],
    done: Collection[str],
    *,
    swaps: bool = True,
) -> Plan:
    """Order the missing units into jobs: checkpoints that share an engine follow each other.

    Adapters on one base are one job, for an engine of their own. Without `swaps`, every
    checkpoint starts one.
    """
    jobs: dict[str, list[GenerationUnit]] = {}
    seen = set(done)
    for w in work:
        for unit in w.generation:
            if unit.key not in seen:
                seen.add(unit.key)
                jobs.setdefault(w.checkpoint.name, []).append(unit)
    checkpoints = {w.checkpoint.name: w.checkpoint for w in work}
    engines: dict[str, dict[str, list[Checkpoint]]] = {}
    for name in jobs:
        checkpoint, base = checkpoints[name], str(checkpoints[name].directory)
        engine = f"adapters on {base}" if checkpoint.adapter else prints[name].engine_group
        together = base if checkpoint.adapter else name
        engines.setdefault(engine, {}).setdefault(together, []).append(checkpoint)
    return Plan(
        work=tuple(work),
        jobs=tuple(
            Job(tuple(group), tuple(unit for one in group for unit in jobs[one.name]))
            for groups in engines.values()
            for group in groups.values()
        ),
        engine_starts=len(engines) if swaps else sum(map(len, engines.values())),
        needed_tokens=max((needed_tokens(w.planned) for w in work), default=0),
    )


def needed_tokens(planned: PlannedTask) -> int:
    """Tokens of the longest request that is made: prompt and all that may follow."""
    rows, kind = planned.prompts.rows, planned.prompts.header.kind
    asked = request_tokens(rows)[~too_long(rows, kind, planned.limit)]
    longest = int(asked.max(initial=0)) + planned.max_tokens
    return longest if planned.limit is None else min(longest, planned.limit)
