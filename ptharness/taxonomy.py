"""The vocabulary of arXiv 2604.07941 as enums: provenance, interface, role."""

from __future__ import annotations

from enum import StrEnum


class Provenance(StrEnum):
    """Whose trajectories a stage learned from. It is not offline against online RL."""

    OFF_POLICY = "off_policy"
    """Anything external to the current learner, its own earlier output included."""
    ON_POLICY = "on_policy"
    """Fresh rollouts of the learner."""
    MIXED = "mixed"
    """Both in one stage."""


class Interface(StrEnum):
    """How the correction is attached to the trajectories. Secondary to provenance."""

    TOKEN_TARGETS = "token_targets"
    RANKED_PREFERENCES = "ranked_preferences"
    REWARDS = "rewards"
    VERIFIER_FEEDBACK = "verifier_feedback"
    PROCESS_FEEDBACK = "process_feedback"
    TEACHER_TARGETS = "teacher_targets"
    SEVERAL = "several"
    """More than one of these in one stage."""


class Role(StrEnum):
    """What a stage is meant to do. Measured roles are answer-level proxies for these."""

    SUPPORT_EXPANSION = "support_expansion"
    """Useful behaviour becomes reachable that was not."""
    POLICY_RESHAPING = "policy_reshaping"
    """Better choice among what was already reachable."""
    CONSOLIDATION = "consolidation"
    """Behaviour is preserved, transferred, amortised or compressed across stages."""
