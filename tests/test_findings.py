"""What `check` holds a manifest against; its command line is tested in tests/cli/test_check.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ptharness.evidence import gather_evidence
from ptharness.findings import findings_of
from ptharness.manifest import read_manifest
from ptharness.plugins import load_plugins
from ptharness.resolve import resolve


def messages(path: Path) -> list[str]:
    registry = load_plugins(installed=False).registry()
    evaluation = resolve(read_manifest(path), registry)
    evidence = {
        checkpoint.name: gather_evidence(checkpoint.directory, registry.methods)
        for checkpoint in evaluation.lineage.checkpoints
    }
    return [f"{f.where}: {f.message}" for f in findings_of(evaluation, evidence, registry.methods)]


def test_a_card_that_names_another_parent_is_told(edited: Callable[..., Path]) -> None:
    path = edited()
    card = path.parent / "checkpoints" / "grpo" / "README.md"
    card.write_text("---\nbase_model: checkpoints/base\n---\n")
    assert messages(path) == [
        "grpo: its README.md names 'base' (checkpoints/base) as its parent, the manifest 'sft'"
    ]
    for fine in ("../sft", "org/unknown"):
        card.write_text(f"---\nbase_model: {fine}\n---\n")
        assert messages(path) == []


def test_the_same_weights_under_another_name_are_no_other_parent(
    edited: Callable[..., Path],
) -> None:
    path = edited("  grpo:", "  sft-again: {path: checkpoints/sft, replicate: 1}\n  grpo:")
    card = path.parent / "checkpoints" / "grpo" / "README.md"
    card.write_text("---\nbase_model: ../sft\n---\n")
    assert messages(path) == []


def test_a_hybrids_card_does_not_pass_for_one_of_its_parts(edited: Callable[..., Path]) -> None:
    path = edited()
    card = path.parent / "checkpoints" / "sft" / "README.md"
    card.write_text("---\ntags: [trl, grpo, sft]\n---\n")
    assert messages(path) == [
        "sft: is declared sft, but its folder looks like the output of hybrid "
        "(README.md is tagged trl and both sft and grpo)"
    ]
