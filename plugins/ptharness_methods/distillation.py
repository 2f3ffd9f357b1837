"""Distillation: a teacher's outputs or distributions are the targets.

    checkpoints:
      student: {path: checkpoints/student, parent: small, teacher: grpo, method: sequence_kd}
      online: {path: checkpoints/online, parent: small, teacher: grpo, method: gkd}
      half: {path: checkpoints/half, parent: small, teacher: grpo,
             method: {name: gkd, prefixes: mixed}}

Distillation is an interface, not a third provenance: who wrote the *prefixes* at which the teacher
is asked decides. Texts of the teacher or of a data set are off-policy, the student's own rollouts
on-policy. Its usual role is consolidation; on the student's own states it also reshapes.

Sources: arXiv 2604.07941; sequence-level distillation (1606.07947); logit distillation
(1503.02531); GKD (2306.13649); MiniLLM (2306.08543); self-distillation (2601.19897).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl
from ptharness.leftovers import read_leftovers
from ptharness.methods import Declaration, Evidence, Method, StageSettings, choose
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness.traces import LOG, by_name
from ptharness_methods.citing import papers_of, survey
from ptharness_methods.supervised import like_supervised

if TYPE_CHECKING:
    from ptharness.registry import Registry

OFF_POLICY_SOURCE = survey("section 4.4 and table 3, row off-policy teacher-guided transfer")
ON_POLICY_SOURCE = survey("section 5.4 and table 4, row on-policy teacher-guided transfer")
BOUNDARY_SOURCE = survey("table 7: teacher traces against teacher correction on rollouts")
PAPERS = {
    "sequence_kd": "arXiv:1606.07947 (sequence-level knowledge distillation)",
    "logit_kd": "arXiv:1503.02531 (distilling the knowledge in a neural network)",
    "gkd": "arXiv:2306.13649 (GKD: learning from self-generated mistakes)",
    "on_policy_distillation": "arXiv:2306.13649 (GKD: learning from self-generated mistakes)",
    "self_distillation": "arXiv:2601.19897 (self-distillation enables continual learning)",
    "minillm": "arXiv:2306.08543 (MiniLLM)",
}
OFF_POLICY_NAMES = ("sequence_kd", "logit_kd")
PROVENANCE = {
    "fixed": Provenance.OFF_POLICY,
    "student": Provenance.ON_POLICY,
    "mixed": Provenance.MIXED,
}
REASONS = {
    "fixed": "the teacher speaks on texts that were fixed before training",
    "student": "the teacher corrects the student's own fresh rollouts",
    "mixed": "the teacher speaks on fixed texts and on the student's own rollouts",
}
TAGS = {
    "distillation": "on_policy_distillation",
    "server-distillation": "on_policy_distillation",
    "async-distillation": "on_policy_distillation",
    "iw-opd": "on_policy_distillation",
    "gold": "on_policy_distillation",
    "gkd": "gkd",
    "minillm": "minillm",
    "sdft": "self_distillation",
    "sdpo": "self_distillation",
    "self-distillation": "self_distillation",
}
TRAINER_SETTINGS = {
    "DistillationConfig": "on_policy_distillation",
    "GOLDConfig": "on_policy_distillation",
    "GKDConfig": "gkd",
    "MiniLLMConfig": "minillm",
    "SDFTConfig": "self_distillation",
    "SDPOConfig": "self_distillation",
}
SEQUENCE_TAGS = {"sequence-distillation": "sequence_kd", "sequence-kd": "sequence_kd"}


class Distillation(Method):
    """A student learns a teacher's outputs, or its distribution at given prefixes.

    Options: `prefixes` (fixed, student, mixed): who wrote the texts at which the teacher is
    asked; unset, fixed for sequence_kd and logit_kd, and student for the others.
    """

    name = "distillation"
    title = "Distillation"
    aliases = tuple(PAPERS)
    options = ("prefixes",)

    def declare(self, stage: StageSettings) -> Declaration:
        """Provenance follows the prefixes; consolidation, with reshaping on the student's own."""
        off_policy = stage.method in (*OFF_POLICY_NAMES, self.name)
        default = "fixed" if off_policy else "student"
        prefixes = choose(stage, "prefixes", tuple(PROVENANCE), default)
        fixed = prefixes == "fixed"
        own = stage.method == "self_distillation"
        teacher = (
            f"the teacher is {stage.teacher!r}"
            if stage.teacher
            else "the teacher is the learner itself, better informed"
            if own
            else "no checkpoint is named as `teacher:`"
        )
        effect = (
            "behaviour is transferred, not discovered"
            if fixed
            else "choices are corrected where the student goes, and the teacher's behaviour stays"
        )
        sources = {
            "fixed": (OFF_POLICY_SOURCE,),
            "student": (ON_POLICY_SOURCE,),
            "mixed": (OFF_POLICY_SOURCE, ON_POLICY_SOURCE),
        }
        return Declaration(
            PROVENANCE[prefixes],
            Interface.TEACHER_TARGETS,
            (Role.CONSOLIDATION,) if fixed else (Role.POLICY_RESHAPING, Role.CONSOLIDATION),
            f"{REASONS[prefixes]}; {teacher}; {effect}",
            (*sources[prefixes], BOUNDARY_SOURCE, *papers_of(stage, PAPERS)),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """TRL's card or settings, or a log of completions without a reward.

        Distillation over sequences leaves what supervised fine-tuning leaves.
        """
        left = read_leftovers(directory)
        named = by_name(left, TAGS, TRAINER_SETTINGS)
        if named:
            return named
        rewarded = any(key.startswith(("reward", "objective/")) for key in left.logged)
        if "completions/mean_length" in left.logged and not rewarded:
            found = "trainer_state.json logs lengths of completions and no reward"
            return Evidence("on_policy_distillation", LOG, found)
        return like_supervised(directory, "sequence_kd", SEQUENCE_TAGS)


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(Distillation())
