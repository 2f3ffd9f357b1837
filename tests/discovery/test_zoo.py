"""Discovery on the real thing: the zoo's folders alone against its manifest.

docs/explanation/discovery.md shows the outcome as a table, which must be this one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ptharness_zoo import CHECKPOINTS, MANIFEST

from ptharness.discovery import Discovery, discover, manifest_text
from ptharness.discovery.lineage import Answer, Found
from ptharness.evidence import same_family
from ptharness.lineage import Lineage
from ptharness.manifest import CheckpointEntry, read_manifest
from ptharness.methods import Method
from ptharness.plugins import load_plugins
from ptharness.registry import Catalogue
from ptharness.resolve import resolve

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "discovery.md"

LOOKS_ALIKE = ("sft", "rejection_sampling", "sequence_kd")
ADAPTER = CheckpointEntry(adapter="checkpoints/lora", parent=["sft"], method={"name": "sft"})


@pytest.fixture(scope="module")
def methods() -> Catalogue[Method]:
    return load_plugins(installed=False).registry(["methods"]).methods


@pytest.fixture(scope="module")
def discovery(methods: Catalogue[Method]) -> Discovery:
    return discover([CHECKPOINTS], methods)


@pytest.fixture(scope="module")
def truth() -> dict[str, CheckpointEntry]:
    """What the manifest says of each folder; the adapter stands in no manifest yet."""
    entries = read_manifest(MANIFEST).checkpoints
    found = {name: entry for name, entry in entries.items() if not entry.replicate}
    return {"lora": ADAPTER, **found}


def test_every_checkpoint_and_step_is_found(
    discovery: Discovery, truth: dict[str, CheckpointEntry]
) -> None:
    found = {checkpoint.name: checkpoint for checkpoint in discovery.checkpoints}
    assert found.keys() == truth.keys()
    assert discovery.passed_over == ()
    for name, entry in truth.items():
        assert found[name].step == entry.step
        assert found[name].is_adapter == (entry.adapter is not None)


def test_every_method_that_can_be_told_apart_is_found(
    discovery: Discovery, truth: dict[str, CheckpointEntry], methods: Catalogue[Method]
) -> None:
    for found in discovery.checkpoints:
        declared = truth[found.name].method
        if declared is None:
            assert found.method.names == ()
        elif declared.name in LOOKS_ALIKE:
            assert (*found.method.names, *found.method.candidates) == LOOKS_ALIKE
        else:
            assert found.method.is_decided, found.name
            assert same_family(found.method.names[0], declared.name, methods)


def test_a_parent_is_right_where_it_is_decided_and_else_among_the_candidates(
    discovery: Discovery, truth: dict[str, CheckpointEntry]
) -> None:
    for found in discovery.checkpoints:
        parents = truth[found.name].parent or []
        possible = (*found.parents.names, *found.parents.candidates)
        assert set(parents) <= set(possible), found.name
        if found.parents.is_decided:
            assert list(found.parents.names) == parents, found.name


def test_the_weights_and_the_cards_decide_these_parents(discovery: Discovery) -> None:
    decided = {found.name for found in discovery.checkpoints if found.parents.is_decided}
    # Undecided: stages that moved much further than their siblings, so that any of them may be
    # the parent (narrow, hybrid, rejection), one that may be a sibling of its parent (process),
    # and the students, of whose shape there is no root.
    assert decided == {
        *("base", "sft", "dpo", "online_dpo", "grpo", "grpo-10", "grpo-25", "nudge", "lora"),
    }


def test_the_teacher_is_among_the_candidates(
    discovery: Discovery, truth: dict[str, CheckpointEntry]
) -> None:
    student = next(found for found in discovery.checkpoints if found.name == "student")
    assert not student.teacher.is_decided
    assert truth["student"].teacher in student.teacher.candidates


def test_check_accepts_the_manifest(discovery: Discovery, tmp_path: Path) -> None:
    path = tmp_path / "lineage.yaml"
    path.write_text(manifest_text(discovery, "zoo", tmp_path, path.name, ["arith_rot"]))
    lineage: Lineage = resolve(
        read_manifest(path), load_plugins(installed=False).registry()
    ).lineage
    assert len(lineage.checkpoints) == len(discovery.checkpoints)


def test_the_docs_show_the_table(discovery: Discovery, truth: dict[str, CheckpointEntry]) -> None:
    assert table(discovery, truth) in PAGE.read_text(encoding="utf-8")


def table(discovery: Discovery, truth: dict[str, CheckpointEntry]) -> str:
    """The outcome as Markdown, in the manifest's order."""
    rows = ["| checkpoint | made by | found | parent | found |", "|---|---|---|---|---|"]
    found = {checkpoint.name: checkpoint for checkpoint in discovery.checkpoints}
    for name, entry in sorted(truth.items(), key=lambda pair: list(found).index(pair[0])):
        rows.append(f"| {' | '.join(_row(name, entry, found[name]))} |")
    return "\n".join(rows)


def _row(name: str, entry: CheckpointEntry, found: Found) -> tuple[str, ...]:
    return (
        f"`{name}`",
        entry.method.name if entry.method else "(root)",
        _told(found.method),
        ", ".join(entry.parent or []),
        _told(found.parents) if entry.parent else "(root)",
    )


def _told(answer: Answer) -> str:
    if answer.is_decided:
        return ", ".join(answer.names)
    possible = [*answer.names, *answer.candidates]
    more = ", ..." if len(possible) > 4 else ""
    return f"? {', '.join(possible[:4])}{more}"
