"""`ptharness plan`: what a run would do, what is cached, how many engine starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table, print_text
from ptharness.cli.run import make_request, selection_options
from ptharness.cli.session import Session
from ptharness.text import safe

if TYPE_CHECKING:
    from ptharness.evaluation import Session as EvaluationSession
    from ptharness.planner import Plan, Work


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@selection_options
@JSON_OPTION
@click.pass_obj
def plan(session: Session, /, manifest: Path, as_json: bool, **options: Any) -> int:
    """Show what `ptharness run MANIFEST` would do: units, cached ones, engine starts.

    Prompts are built (and kept for the run), but no engine starts and nothing is generated.

    \b
    Example:
        ptharness plan lineage.yaml --samples 64
    """
    from ptharness.evaluation import Session as EvaluationSession
    from ptharness.observer import Observer

    evaluation = EvaluationSession.open(
        make_request(manifest, **options), session.plugins, Observer()
    )
    for task, file in _foreign_code(evaluation):
        # Before it is loaded, and on standard error: --json stays parseable.
        click.echo(safe(f"warning: {task}: loading this task runs code of yours: {file}"), err=True)
    try:
        made = evaluation.prepare(warm=False)
    finally:
        evaluation.close()
    rows = [_row(work, evaluation) for work in made.work]
    if as_json:
        print_json(_as_json(evaluation, made, rows))
    else:
        _print(evaluation, made, rows)
    return 1 if evaluation.failures else 0


def _foreign_code(evaluation: EvaluationSession) -> Iterator[tuple[str, str]]:
    for resolved in evaluation.evaluation.tasks:
        for file in resolved.task.foreign_code:
            yield resolved.task.name, str(file)


def _row(work: Work, evaluation: EvaluationSession) -> dict[str, Any]:
    store = evaluation.store
    cached = [unit for unit in work.generation if store.has("generation", unit.key)]
    return {
        "checkpoint": work.checkpoint.name,
        "task": work.planned.prompts.header.task,
        "samples": work.planned.samples,
        "units": len(work.generation),
        "units_cached": len(cached),
        "completions": sum(unit.completions for unit in work.generation),
        "completions_cached": sum(unit.completions for unit in cached),
        "units_to_score": sum(not store.has("score", unit.key) for unit in work.scores),
        "prompts_too_long": (fit := work.planned.fit(work.documents)).too_long,
        "completions_shortened": fit.shortened,
    }


def _as_json(
    evaluation: EvaluationSession, made: Plan, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "lineage": evaluation.evaluation.lineage.name,
        "engine": evaluation.evaluation.engine_settings.name,
        "engine_starts": made.engine_starts,
        "checkpoints_in_order": [name for job in made.jobs for name in job.names],
        "longest_request_tokens": made.needed_tokens,
        "work": rows,
        "foreign_code": [{"task": task, "file": file} for task, file in _foreign_code(evaluation)],
        "failures": [failure.to_json() for failure in evaluation.failures],
    }


def _print(evaluation: EvaluationSession, made: Plan, rows: list[dict[str, Any]]) -> None:
    columns = (
        "checkpoint",
        "task",
        "samples",
        "units",
        "cached",
        "completions",
        "cached",
        "to score",
        "too long",
        "shortened",
    )
    print_table(columns, [tuple(row.values()) for row in rows], evaluation.evaluation.lineage.name)
    # Units that two rows share are made once.
    missing = sum(unit.completions for job in made.jobs for unit in job.units)
    starts = f"{made.engine_starts} start{'s' * (made.engine_starts != 1)}"
    order = ", ".join(name for job in made.jobs for name in job.names) or "nothing"
    print_text(
        f"to generate: {missing:,} completions; "
        f"engine {evaluation.evaluation.engine_settings.name}: {starts}, in the order: {order}"
    )
    if any(row["prompts_too_long"] or row["completions_shortened"] for row in rows):
        print_text(
            "too long: prompts that do not fit the model's context, which are not asked and count "
            "as failed; shortened: prompts that leave less than max_tokens for the completion"
        )
    for failure in evaluation.failures:
        where = " x ".join(filter(None, (failure.checkpoint, failure.task)))
        print_text(f"failed: {where}: {failure.message}")
