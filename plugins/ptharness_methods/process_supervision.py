"""Process supervision: feedback on the steps of a solution, not only on its end.

    checkpoints:
      steps: {path: checkpoints/steps, parent: sft, method: stepwise_rl}
      pairs: {path: checkpoints/pairs, parent: sft, method: {name: process_dpo, labels: offline}}

The survey reads it as fine-grained reshaping: only steps that the learner takes can be corrected,
but each of them is. With step labels collected before training the same feedback is off-policy.

Sources: arXiv 2604.07941; Let's verify step by step (2305.20050); Math-Shepherd (2312.08935);
process- and outcome-based feedback (2211.14275); Step-DPO (2406.18629).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl
from ptharness.leftovers import Leftovers, read_leftovers
from ptharness.methods import Declaration, Evidence, Method, StageSettings, choose
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness.traces import COMPOUND, LOOK_ALIKE, by_name
from ptharness_methods.citing import papers_of, survey

if TYPE_CHECKING:
    from ptharness.registry import Registry

SOURCES = (
    survey("section 5.2 and table 4, row process / verifier-guided correction"),
    "arXiv:2305.20050 (let's verify step by step)",
)
PAPERS = {
    "prm": "arXiv:2312.08935 (Math-Shepherd, RL with a process reward model)",
    "stepwise_rl": "arXiv:2211.14275 (process- and outcome-based feedback)",
    "process_dpo": "arXiv:2406.18629 (Step-DPO)",
}
PROVENANCE = {
    "rollouts": Provenance.ON_POLICY,
    "offline": Provenance.OFF_POLICY,
    "mixed": Provenance.MIXED,
}
REASONS = {
    "rollouts": "the steps of the learner's own fresh rollouts are judged",
    "offline": "the judged steps were collected before training",
    "mixed": "judged steps are partly fresh, partly collected before training",
}
STEP_WORDS = frozenset({"prm", "process", "step", "steps", "stepwise"})


class ProcessSupervision(Method):
    """The steps of a solution are judged one by one.

    Options: `labels` (rollouts, offline, mixed): where the judged steps come from; unset,
    rollouts, and offline for process_dpo, whose pairs of steps are built beforehand.
    """

    name = "process_supervision"
    title = "Process supervision"
    aliases = tuple(PAPERS)
    options = ("labels",)

    def declare(self, stage: StageSettings) -> Declaration:
        """On-policy where rollouts are judged, off-policy for labels collected beforehand."""
        default = "offline" if stage.method == "process_dpo" else "rollouts"
        labels = choose(stage, "labels", tuple(PROVENANCE), default)
        return Declaration(
            PROVENANCE[labels],
            Interface.PROCESS_FEEDBACK,
            (Role.POLICY_RESHAPING,),
            f"{REASONS[labels]}; fine-grained reshaping: feedback on steps improves the choice at "
            "branches that the learner already visits",
            (*SOURCES, *papers_of(stage, PAPERS)),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """A reward function whose name speaks of steps: all that tells it from outcome rewards."""
        left = read_leftovers(directory)
        function = _step_reward(left)
        if function is not None:
            found = f"trainer_state.json logs rewards/{function}, a reward by its name on steps"
            return Evidence("stepwise_rl", COMPOUND, found)
        outcome = by_name(left, {"grpo": "grpo", "rloo": "rloo"})
        if outcome:
            found = f"{outcome.found}; whether rewards are on steps is not recorded"
            return Evidence("stepwise_rl", LOOK_ALIKE, found)
        return None


def _step_reward(left: Leftovers) -> str | None:
    """The reward function in TRL's log (`rewards/NAME/mean`) whose name has a word for steps."""
    for key in sorted(left.logged):
        match = re.fullmatch(r"rewards/([^/]+)/mean", key)
        if match and STEP_WORDS & set(re.split(r"[^a-z]+", match[1].lower())):
            return match[1]
    return None


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(ProcessSupervision())
