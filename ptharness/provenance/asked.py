"""What is asked of whom: a training set, and the checkpoint whose words it may be."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptharness.errors import ManifestError, near_misses
from ptharness.evaluation import Session
from ptharness.lineage import Checkpoint
from ptharness.provenance.settings import ProvenanceSettings
from ptharness.publish.columns import tag_values
from ptharness.schema import TAGS
from ptharness.units import Failure


@dataclass(frozen=True)
class Asked:
    """A training set, and the checkpoint whose words it may be.

    `where` is the key or option that names the file, `template` the folder of a tokenizer whose
    chat template messages are rendered with if the parent has none, `about` the columns that say
    which stage it is of, `failing` checkpoint and task of a `Failure`.
    """

    name: str
    path: Path
    where: str
    parent: Checkpoint
    template: Path
    about: Mapping[str, Any]
    failing: tuple[str, str]

    def fail(self, session: Session, stage: str, message: str) -> None:
        """Remember that it could not be measured, at a stage of the work."""
        session.fail(Failure(*self.failing, stage, message))


def of_file(session: Session, path: Path) -> list[Asked]:
    """The file under each checkpoint of the request."""
    lineage = session.evaluation.lineage
    tags = {**dict.fromkeys(tag.name for tag in TAGS), "lineage": lineage.name}
    children = {name: c for c in reversed(lineage.checkpoints) for name in c.parents}
    return [
        Asked(
            f"{path.name} under {parent.name}",
            path,
            "--file",
            parent,
            # A base model has no chat template of its own.
            children.get(parent.name, parent).tokenizer_directory,
            {"file": str(path), **tags, "provenance_declared": None},
            (parent.name, path.name),
        )
        for parent in session.evaluation.checkpoints
    ]


def of_stages(session: Session, settings: ProvenanceSettings) -> list[Asked]:
    """The trajectories of each stage that is asked for, under its parent."""
    lineage = session.evaluation.lineage
    asked = []
    for child in _with_trajectories(session, settings.stages):
        assert child.stage is not None
        assert child.stage.trajectories is not None
        if len(child.parents) > 1:
            why = (
                f"has {len(child.parents)} parents, and its trajectories are compared with one; "
                f"--file {child.stage.trajectories} compares them with any checkpoints"
            )
            session.fail(Failure(child.name, "", "provenance", why))
            continue
        declared = {"provenance_declared": child.stage.provenance.value}
        asked.append(
            Asked(
                child.name,
                child.stage.trajectories,
                f"checkpoints.{child.name}.trajectories",
                lineage.by_name[child.parents[0]],
                child.tokenizer_directory,
                {**tag_values(lineage, child), **declared},
                (child.name, ""),
            )
        )
    return asked


def _with_trajectories(session: Session, patterns: Sequence[str]) -> list[Checkpoint]:
    """What each stage with trajectories made, of those that fit one of the patterns."""
    evaluation = session.evaluation
    with_data = {
        checkpoint.name: checkpoint
        for checkpoint in evaluation.lineage.checkpoints
        if checkpoint.stage and checkpoint.stage.trajectories
    }
    if not with_data:
        raise ManifestError(
            "no stage names its `trajectories`, the file that it was trained on; add it, or name "
            "any file with --file",
            path=evaluation.manifest_path,
            key="checkpoints",
        )
    for pattern in patterns:
        if not fnmatch.filter(with_data, pattern):
            raise ManifestError(
                f"{pattern!r} fits no stage that names trajectories"
                f"{near_misses(pattern, list(with_data))}",
                path=evaluation.manifest_path,
                key="--stages",
            )
    return [
        checkpoint
        for name, checkpoint in with_data.items()
        if not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
