"""On-policy reinforcement learning: the learner's own rollouts are rewarded.

    checkpoints:
      grpo: {path: checkpoints/grpo, parent: sft, method: grpo}
      hinted: {path: checkpoints/hinted, parent: sft, method: {name: grpo, guidance: strong}}
      replay: {path: checkpoints/replay, parent: sft, method: {name: ppo, replay_buffer: true}}

The survey counts it as reshaping: only what the learner can already write is ever rewarded.
Under strong guidance (hints, partial solutions, curricula that lead to the answer) it can make
single hard paths reachable. Rollouts kept or made stale make the provenance mixed.

Sources: arXiv 2604.07941; PPO (1707.06347); GRPO (2402.03300); RLOO (2402.14740); DAPO
(2503.14476); GSPO (2507.18071); RLHF (2203.02155); RLAIF (2309.00267); RLVR (2411.15124);
for the limits of what it reaches 2504.13837.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.errors import ManifestError
from ptharness.hookspecs import hookimpl
from ptharness.leftovers import read_leftovers
from ptharness.methods import Declaration, Evidence, Method, StageSettings, choose
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness.traces import LOG, by_name
from ptharness_methods.citing import papers_of, survey

if TYPE_CHECKING:
    from ptharness.registry import Registry

SURVEY_SOURCE = survey("section 5.1 and table 4, row RLHF / RLVR")
LIMITS_SOURCE = "arXiv:2504.13837 (RL with verifiable rewards sharpens what the base can reach)"
PAPERS = {
    "ppo": "arXiv:1707.06347 (PPO)",
    "grpo": "arXiv:2402.03300 (DeepSeekMath, which introduces GRPO)",
    "rloo": "arXiv:2402.14740 (RLOO)",
    "reinforce": "doi:10.1007/BF00992696 (Williams 1992, REINFORCE)",
    "dapo": "arXiv:2503.14476 (DAPO)",
    "gspo": "arXiv:2507.18071 (GSPO)",
    "rlhf": "arXiv:2203.02155 (InstructGPT: RL from human feedback)",
    "rlaif": "arXiv:2309.00267 (RLAIF)",
    "rlvr": "arXiv:2411.15124 (Tulu 3, which names RL with verifiable rewards)",
}
TRL_TAGS = {"grpo": "grpo", "rloo": "rloo", "ppo": "ppo", "async-grpo": "grpo"}
TRAINER_SETTINGS = {
    "GRPOConfig": "grpo",
    "AsyncGRPOConfig": "grpo",
    "RLOOConfig": "rloo",
    "PPOConfig": "ppo",
}


class OnPolicyReinforcementLearning(Method):
    """Rollouts of the learner are scored, and likelier made the better they scored.

    Options: `rollouts` (fresh, stale): stale ones were written by an older learner.
    `replay_buffer` (true, false): rollouts of earlier steps are trained on again. `guidance`
    (none, strong): hints or partial solutions lead rollouts to answers that the learner would
    hardly find.
    """

    name = "on_policy_rl"
    title = "On-policy reinforcement learning"
    aliases = tuple(PAPERS)
    options = ("rollouts", "replay_buffer", "guidance")

    def declare(self, stage: StageSettings) -> Declaration:
        """On-policy unless rollouts are kept or stale; expansion only under strong guidance."""
        provenance, source_of_rollouts = _provenance(stage)
        strong = choose(stage, "guidance", ("none", "strong")) == "strong"
        roles = [Role.POLICY_RESHAPING, *([Role.SUPPORT_EXPANSION] if strong else [])]
        effect = (
            "strong guidance can make single hard paths reachable"
            if strong
            else "only what the learner can already write is rewarded"
        )
        return Declaration(
            provenance,
            Interface.REWARDS,
            tuple(roles),
            f"{source_of_rollouts}; {effect}",
            (SURVEY_SOURCE, *papers_of(stage, PAPERS), LIMITS_SOURCE),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """TRL's card or settings, or a trainer that logged rewards of groups of completions."""
        left = read_leftovers(directory)
        named = by_name(left, TRL_TAGS, TRAINER_SETTINGS)
        if named:
            return named
        if {"reward", "reward_std"} <= left.logged:
            return Evidence("grpo", LOG, "trainer_state.json logs reward and reward_std")
        if "objective/rlhf_reward" in left.logged and "rewards/chosen" not in left.logged:
            return Evidence("ppo", LOG, "trainer_state.json logs objective/rlhf_reward")
        return None


def _provenance(stage: StageSettings) -> tuple[Provenance, str]:
    replayed = stage.options.get("replay_buffer", False)
    if not isinstance(replayed, bool):
        raise ManifestError(
            f"option 'replay_buffer' of method {stage.method!r} is {replayed!r}; legal: true, false"
        )
    if replayed:
        return Provenance.MIXED, "rollouts of earlier steps are trained on again"
    if choose(stage, "rollouts", ("fresh", "stale")) == "stale":
        return Provenance.MIXED, "rollouts are stated to come from an older learner in part"
    return Provenance.ON_POLICY, "the learner trains on its own fresh rollouts"


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(OnPolicyReinforcementLearning())
