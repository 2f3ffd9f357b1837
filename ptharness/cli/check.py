"""`ptharness check`: is a manifest sound, and does it fit what lies on disk?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ptharness.cli.output import JSON_OPTION, print_json, print_table, print_text
from ptharness.cli.session import Session

if TYPE_CHECKING:
    from ptharness.lineage import Checkpoint
    from ptharness.methods import Evidence, Method
    from ptharness.registry import Catalogue
    from ptharness.resolve import Evaluation


@dataclass(frozen=True)
class Finding:
    """Something to know before a run; a problem means that part of the run will fail."""

    where: str
    message: str
    is_problem: bool = False


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@JSON_OPTION
@click.pass_obj
def check(session: Session, manifest: Path, as_json: bool) -> int:
    """Check MANIFEST: names, paths, declared methods, and whether edges are comparable.

    Nothing is evaluated and no model is loaded. Exit code 2 where the manifest is wrong or a
    checkpoint unusable; warnings alone leave 0.

    \b
    Example:
        ptharness check lineage.yaml
    """
    from ptharness.evidence import gather_evidence
    from ptharness.manifest import read_manifest
    from ptharness.resolve import resolve

    evaluation = resolve(read_manifest(manifest), session.registry)
    methods = session.registry.methods
    evidence = {
        checkpoint.name: gather_evidence(checkpoint.adapter or checkpoint.directory, methods)
        for checkpoint in evaluation.lineage.checkpoints
    }
    findings = [
        *_unusable(evaluation),
        *_against_evidence(evaluation, evidence, methods),
        *_along_edges(evaluation),
        *_foreign_code(evaluation),
    ]
    if as_json:
        print_json(_as_json(evaluation, evidence, findings))
    else:
        _print(evaluation, evidence, findings)
    return 2 if any(finding.is_problem for finding in findings) else 0


def _unusable(evaluation: Evaluation) -> Iterator[Finding]:
    from ptharness.errors import CheckpointError
    from ptharness.fingerprint import read_config, tensor_shapes, weight_files

    for checkpoint in evaluation.lineage.checkpoints:
        try:
            read_config(checkpoint.directory)
            for directory in {checkpoint.directory, checkpoint.adapter or checkpoint.directory}:
                for file in weight_files(directory):
                    tensor_shapes(file)
        except CheckpointError as error:
            yield Finding(checkpoint.name, str(error), is_problem=True)


def _against_evidence(
    evaluation: Evaluation, evidence: dict[str, list[Evidence]], methods: Catalogue[Method]
) -> Iterator[Finding]:
    from ptharness.evidence import same_family

    for checkpoint in evaluation.lineage.checkpoints:
        found = evidence[checkpoint.name]
        best = [other for other in found if other.strength == found[0].strength]
        traces = " and ".join(f"{other.method} ({other.found})" for other in best)
        if not found:
            continue
        if checkpoint.stage is None:
            yield Finding(
                checkpoint.name,
                f"is a root, but its folder looks like the output of {traces}; "
                "if its parent is at hand, name it",
            )
        elif checkpoint.stage.method in methods and not any(
            same_family(checkpoint.stage.method, other.method, methods) for other in found
        ):
            yield Finding(
                checkpoint.name,
                f"is declared {checkpoint.stage.method}, but its folder looks like the output "
                f"of {traces}",
            )


def _along_edges(evaluation: Evaluation) -> Iterator[Finding]:
    from ptharness.edges import native_differences, shape_differences
    from ptharness.errors import CheckpointError

    lineage = evaluation.lineage
    for edge in lineage.edges():
        if edge.relation != "edge":
            continue
        parent, child = lineage.by_name[edge.source], lineage.by_name[edge.target]
        where = f"{edge.source} -> {edge.target}"
        try:
            native = native_differences(parent, child)
            shapes = shape_differences(parent, child)
        except CheckpointError:
            continue  # said already, of the checkpoint itself
        if native:
            reason = "; ".join(native)
            yield Finding(where, f"{reason}: comparable as each is used (native), not the same")
        if shapes and not (child.stage and child.stage.teacher):
            yield Finding(
                where, f"another architecture ({', '.join(shapes)}) and no teacher; right parent?"
            )


def _foreign_code(evaluation: Evaluation) -> Iterator[Finding]:
    for resolved in evaluation.tasks:
        for file in resolved.task.foreign_code:
            yield Finding(resolved.task.name, f"loading this task runs code of yours: {file}")


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
        "step": stage.step if stage else None,
        "replicate": checkpoint.replicate,
        "directory": str(checkpoint.directory),
        "adapter": str(checkpoint.adapter) if checkpoint.adapter else None,
    }


def _print(
    evaluation: Evaluation, evidence: dict[str, list[Evidence]], findings: list[Finding]
) -> None:
    lineage = evaluation.lineage
    rows = []
    for checkpoint in lineage.checkpoints:
        described = _describe(checkpoint)
        best = evidence[checkpoint.name][:1]
        rows.append(
            (
                "  " * lineage.depths[checkpoint.name] + checkpoint.name,
                ", ".join(described["parents"]),
                described["method"] or "(root)",
                described["provenance"] or "",
                ", ".join(described["roles"]),
                best[0].method if best else "",
            )
        )
    print_table(
        ("checkpoint", "parent", "method", "provenance", "role", "looks like"), rows, lineage.name
    )
    names = ", ".join(resolved.task.name for resolved in evaluation.tasks)
    print_text(f"tasks: {names}\nengine: {evaluation.engine_settings.name}")
    for finding in findings:
        word = "problem" if finding.is_problem else "warning"
        print_text(f"{word}: {finding.where}: {finding.message}")
    problems = sum(finding.is_problem for finding in findings)
    print_text(f"{problems} problems, {len(findings) - problems} warnings")
