"""What to know of a manifest before a run: does it fit what lies on disk, and itself?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ptharness.discovery.manifest_text import questions_in
from ptharness.discovery.references import FolderIndex, references
from ptharness.edges import native_differences, shape_differences
from ptharness.errors import CheckpointError, TaskError
from ptharness.evidence import same_family
from ptharness.fingerprint import position_limit, weight_files
from ptharness.methods import Evidence, Method
from ptharness.registry import Catalogue
from ptharness.resolve import Evaluation
from ptharness.safetensors_header import tensor_shapes


@dataclass(frozen=True)
class Finding:
    """Something to know before a run; a problem means that part of the run will fail."""

    where: str
    message: str
    is_problem: bool = False


def findings_of(
    evaluation: Evaluation, evidence: Mapping[str, list[Evidence]], methods: Catalogue[Method]
) -> list[Finding]:
    """Everything worth saying, problems among it; `evidence` is each checkpoint's, by name."""
    return [
        *_open_questions(evaluation),
        *_unusable(evaluation),
        *_refused_tasks(evaluation),
        *_against_evidence(evaluation, evidence, methods),
        *_against_references(evaluation),
        *_along_edges(evaluation),
        *_foreign_code(evaluation),
    ]


def _open_questions(evaluation: Evaluation) -> Iterator[Finding]:
    open_questions = questions_in(evaluation.manifest_text)
    if open_questions:
        yield Finding(
            evaluation.manifest_path.name,
            f"{open_questions} lines are marked `undecided`: until you answer them, tables are "
            "tagged with what stands there",
        )


def _unusable(evaluation: Evaluation) -> Iterator[Finding]:
    for checkpoint in evaluation.lineage.checkpoints:
        try:
            position_limit(checkpoint.directory)
            for file in weight_files(checkpoint.directory):
                tensor_shapes(file)
            if checkpoint.adapter:
                evaluation.engine.check_adapter(checkpoint.adapter, checkpoint.directory)
        except CheckpointError as error:
            yield Finding(checkpoint.name, str(error), is_problem=True)


def _refused_tasks(evaluation: Evaluation) -> Iterator[Finding]:
    """Tasks that cannot be run here, as far as their files tell without being loaded."""
    for resolved in evaluation.tasks:
        try:
            resolved.task.inputs_digest(resolved.settings)
        except TaskError as error:
            yield Finding(resolved.task.name, str(error), is_problem=True)


def _against_evidence(
    evaluation: Evaluation, evidence: Mapping[str, list[Evidence]], methods: Catalogue[Method]
) -> Iterator[Finding]:
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


def _against_references(evaluation: Evaluation) -> Iterator[Finding]:
    """Where a folder's own files name another parent than the manifest does."""
    lineage = evaluation.lineage
    folders = {
        checkpoint.name: checkpoint.adapter or checkpoint.directory
        for checkpoint in lineage.checkpoints
    }
    index = FolderIndex(folders)
    for checkpoint in lineage.checkpoints:
        directory = folders[checkpoint.name]
        declared = {folders[parent] for parent in checkpoint.parents}
        for reference, file in references(directory):
            named, is_certain = index.find(reference, directory) or ("", False)
            if not is_certain or not checkpoint.stage or folders[named] in {directory, *declared}:
                continue
            yield Finding(
                checkpoint.name,
                f"its {file} names {named!r} ({reference}) as its parent, the manifest "
                f"{', '.join(repr(parent) for parent in checkpoint.parents)}",
            )


def _along_edges(evaluation: Evaluation) -> Iterator[Finding]:
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
