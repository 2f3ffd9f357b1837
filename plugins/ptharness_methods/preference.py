"""Offline preference optimisation: the learner is moved towards the better of given answers.

    checkpoints:
      dpo: {path: checkpoints/dpo, parent: sft, method: dpo}
      fresh: {path: checkpoints/fresh, parent: sft, method: {name: dpo, pairs: fresh_rollouts}}

The survey counts it as off-policy reshaping: the compared answers were written before training
and both were usually reachable already. Where the pairs are fresh rollouts of the learner, the
same loss is on-policy: provenance follows the answers, not the loss.

Sources: arXiv 2604.07941; DPO (2305.18290); IPO (2310.12036); KTO (2402.01306); ORPO
(2403.07691); CPO (2401.08417); SimPO (2405.14734); GPO (2402.05749).
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

if TYPE_CHECKING:
    from ptharness.registry import Registry

SOURCES = (
    survey("section 4.2 and table 3, row preference optimization"),
    survey("table 7, first row: provenance follows where the candidates come from"),
)
PAPERS = {
    "dpo": "arXiv:2305.18290 (DPO)",
    "ipo": "arXiv:2310.12036 (IPO)",
    "kto": "arXiv:2402.01306 (KTO)",
    "orpo": "arXiv:2403.07691 (ORPO)",
    "cpo": "arXiv:2401.08417 (CPO)",
    "simpo": "arXiv:2405.14734 (SimPO)",
    "gpo": "arXiv:2402.05749 (GPO)",
}
TRAINER_SETTINGS = {
    "DPOConfig": "dpo",
    "KTOConfig": "kto",
    "ORPOConfig": "orpo",
    "CPOConfig": "cpo",
}
PROVENANCE = {
    "offline": Provenance.OFF_POLICY,
    "fresh_rollouts": Provenance.ON_POLICY,
    "mixed": Provenance.MIXED,
}
REASONS = {
    "offline": "the compared answers were collected before training, so the learner never "
    "corrects what it now writes",
    "fresh_rollouts": "the compared answers are stated to be fresh rollouts of the learner",
    "mixed": "the compared answers are stated to be partly collected before training, partly "
    "fresh rollouts",
}


class PreferenceOptimization(Method):
    """Better answers are made likelier than worse ones, without a reward model in the loop.

    Options: `pairs` (offline, fresh_rollouts, mixed): where the compared answers come from.
    """

    name = "preference_optimization"
    title = "Offline preference optimisation"
    aliases = tuple(PAPERS)
    options = ("pairs",)

    def declare(self, stage: StageSettings) -> Declaration:
        """Provenance follows the answers: offline unless `pairs` says otherwise."""
        pairs = choose(stage, "pairs", tuple(PROVENANCE))
        return Declaration(
            PROVENANCE[pairs],
            Interface.RANKED_PREFERENCES,
            (Role.POLICY_RESHAPING,),
            f"{REASONS[pairs]}; a ranking chooses among answers that could be written already",
            (*SOURCES, *papers_of(stage, PAPERS)),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """TRL's card or settings, or a trainer that logged the margin of chosen over rejected."""
        left = read_leftovers(directory)
        named = by_name(left, {name: name for name in PAPERS}, TRAINER_SETTINGS)
        if named:
            return named
        online = any(key.startswith("objective/") for key in left.logged)
        if online or not {"rewards/chosen", "rewards/rejected"} <= left.logged:
            return None
        name = (
            "orpo"
            if "log_odds_chosen" in left.logged
            else "kto"
            if "kl" in left.logged
            else "cpo"
            if "nll_loss" in left.logged
            else "dpo"
        )
        found = "trainer_state.json logs rewards/chosen and rewards/rejected"
        return Evidence(name, LOG, found)


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(PreferenceOptimization())
