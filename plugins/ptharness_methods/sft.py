"""Supervised fine-tuning: the learner imitates given targets, token by token.

    checkpoints:
      sft: {path: checkpoints/sft, parent: base, method: sft}
      rot: {path: checkpoints/rot, parent: base, method: {name: sft, coverage: outside_support}}

The survey leaves the role open: the same loss makes new behaviour reachable where the targets
lie outside the learner's support, and chooses among reachable behaviour where they lie inside.
`coverage` states which, if you know; otherwise the analysis says which it was.

Sources: arXiv 2604.07941; FLAN (2109.01652); InstructGPT (2203.02155); LIMA (2305.11206).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl
from ptharness.leftovers import read_leftovers
from ptharness.methods import Declaration, Evidence, Method, StageSettings, choose
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness_methods.citing import survey
from ptharness_methods.supervised import supervised

if TYPE_CHECKING:
    from ptharness.registry import Registry

SOURCES = (
    survey("section 4.1 and table 3, row SFT"),
    "arXiv:2109.01652 (instruction tuning, FLAN)",
    "arXiv:2203.02155 (InstructGPT, its first stage)",
    "arXiv:2305.11206 (LIMA: little data mostly reshapes)",
)
DISTILLATION_SOURCES = (
    survey("section 4.4: off-policy teacher-guided transfer"),
    "arXiv:1606.07947 (sequence-level knowledge distillation)",
)

ROLES = {
    "unknown": (Role.SUPPORT_EXPANSION, Role.POLICY_RESHAPING),
    "outside_support": (Role.SUPPORT_EXPANSION,),
    "inside_support": (Role.POLICY_RESHAPING,),
}
REASONS = {
    "unknown": "it expands support where the targets lie outside what the parent can reach and "
    "reshapes where they lie inside; the analysis says which",
    "outside_support": "the targets are stated to lie outside what the parent can reach",
    "inside_support": "the targets are stated to lie inside what the parent can reach",
}


class SupervisedFineTuning(Method):
    """Targets are imitated token by token.

    Options: `coverage` (unknown, outside_support, inside_support): where the targets lie
    relative to what the parent can reach. A `teacher` on the checkpoint makes the targets its
    outputs, which is distillation over sequences.
    """

    name = "sft"
    title = "Supervised fine-tuning"
    aliases = ("instruction_tuning",)
    options = ("coverage",)

    def declare(self, stage: StageSettings) -> Declaration:
        """Off-policy, whoever wrote the targets: they are fixed before the learner trains."""
        coverage = choose(stage, "coverage", tuple(ROLES))
        if stage.teacher and coverage == "unknown":
            return Declaration(
                Provenance.OFF_POLICY,
                Interface.TEACHER_TARGETS,
                (Role.CONSOLIDATION,),
                f"the targets are outputs of {stage.teacher!r}, made before training: behaviour "
                "of the teacher is transferred, not discovered",
                DISTILLATION_SOURCES,
            )
        return Declaration(
            Provenance.OFF_POLICY,
            Interface.TEACHER_TARGETS if stage.teacher else Interface.TOKEN_TARGETS,
            ROLES[coverage],
            f"the targets are fixed before training; {REASONS[coverage]}",
            SOURCES,
        )

    def detect(self, directory: Path) -> Evidence | None:
        """TRL's card or settings, or a trainer that logged token accuracy and no reward.

        Rejection sampling and sequence distillation train with the same loss and leave the
        same traces; their plugins find them too, and the user says which it was.
        """
        return supervised(read_leftovers(directory))


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(SupervisedFineTuning())
