"""`ptharness check`: is a manifest sound, and does it fit what lies on disk?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptharness.cli.output import JSON_OPTION, counted, print_json, print_table, print_text
from ptharness.cli.session import Session

if TYPE_CHECKING:
    from ptharness.findings import Finding
    from ptharness.lineage import Checkpoint, Lineage
    from ptharness.methods import Evidence
    from ptharness.resolve import Evaluation


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@JSON_OPTION
@click.pass_obj
def check(session: Session, manifest: Path, as_json: bool) -> int:
    """Check MANIFEST: names, paths, declared methods, and whether edges are comparable.

    What it declares is held against what training left in the folders (model cards, trainer
    states, adapter configs), against the architectures, tokenizers and chat templates.

    Nothing is evaluated and no model is loaded. Exit code 2 where the manifest is wrong or a
    checkpoint unusable; warnings alone leave 0.

    \b
    Example:
        ptharness check lineage.yaml
    """
    from ptharness.evidence import gather_evidence
    from ptharness.findings import findings_of
    from ptharness.manifest import read_manifest
    from ptharness.resolve import resolve

    evaluation = resolve(read_manifest(manifest), session.registry)
    methods = session.registry.methods
    evidence = {
        checkpoint.name: gather_evidence(checkpoint.adapter or checkpoint.directory, methods)
        for checkpoint in evaluation.lineage.checkpoints
    }
    findings = findings_of(evaluation, evidence, methods)
    if as_json:
        print_json(_as_json(evaluation, evidence, findings))
    else:
        _print(evaluation, evidence, findings)
    return 2 if any(finding.is_problem for finding in findings) else 0


def _as_json(
    evaluation: Evaluation, evidence: dict[str, list[Evidence]], findings: list[Finding]
) -> dict[str, Any]:
    return {
        "lineage": evaluation.lineage.name,
        "checkpoints": [
            {**_describe(checkpoint), "evidence": [e.__dict__ for e in evidence[checkpoint.name]]}
            for checkpoint in evaluation.lineage.checkpoints
        ],
        "tasks": [resolved.task.name for resolved in evaluation.tasks],
        "engine": evaluation.engine_settings.name,
        "findings": [finding.__dict__ for finding in findings],
    }


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    stage = checkpoint.stage
    return {
        "checkpoint": checkpoint.name,
        "parents": list(checkpoint.parents),
        "method": stage.method if stage else None,
        "provenance": stage.provenance if stage else None,
        "interface": stage.interface if stage else None,
        "roles": list(stage.roles) if stage else [],
        "reason": stage.reason if stage else None,
        "teacher": stage.teacher if stage else None,
        "step": checkpoint.step,
        "replicate": checkpoint.replicate,
        "directory": str(checkpoint.directory),
        "adapter": str(checkpoint.adapter) if checkpoint.adapter else None,
    }


def _print(
    evaluation: Evaluation, evidence: dict[str, list[Evidence]], findings: list[Finding]
) -> None:
    lineage = evaluation.lineage
    columns = ["checkpoint", "parent", "method", "provenance", "role", "looks like"]
    with_steps = any(checkpoint.step is not None for checkpoint in lineage.checkpoints)
    if with_steps:
        columns.insert(1, "step")
    rows = []
    for checkpoint, depth in _tree(lineage):
        described = _describe(checkpoint)
        found = evidence[checkpoint.name]
        best = [other.method for other in found if other.strength == found[0].strength]
        rows.append(
            (
                "  " * depth + checkpoint.name,
                *(["" if checkpoint.step is None else str(checkpoint.step)] * with_steps),
                ", ".join(described["parents"]),
                described["method"] or "(root)",
                described["provenance"] or "",
                ", ".join(described["roles"]),
                " or ".join(best),
            )
        )
    print_table(columns, rows, lineage.name)
    names = ", ".join(resolved.task.name for resolved in evaluation.tasks)
    print_text(f"tasks: {names}\nengine: {evaluation.engine_settings.name}")
    for finding in findings:
        word = "problem" if finding.is_problem else "warning"
        print_text(f"{word}: {finding.where}: {finding.message}")
    problems = sum(finding.is_problem for finding in findings)
    print_text(f"{counted(problems, 'problem')}, {counted(len(findings) - problems, 'warning')}")


def _tree(lineage: Lineage) -> Iterator[tuple[Checkpoint, int]]:
    """Each checkpoint below its first parent, and how deep it stands there."""
    children: dict[str | None, list[Checkpoint]] = {}
    for checkpoint in lineage.checkpoints:
        children.setdefault(next(iter(checkpoint.parents), None), []).append(checkpoint)
    # A stack of our own: a chain of stages may be longer than Python's.
    waiting = [(root, 0) for root in reversed(children[None])]
    while waiting:
        checkpoint, depth = waiting.pop()
        yield checkpoint, depth
        below = children.get(checkpoint.name, [])
        waiting += [(child, depth + 1) for child in reversed(below)]
