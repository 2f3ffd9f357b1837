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
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness_methods.leftovers import LOG_STRENGTH, from_card, logged_keys
from ptharness_methods.settings import SURVEY, choose

if TYPE_CHECKING:
    from ptharness.registry import Registry

PAPERS = {
    "dpo": "arXiv:2305.18290 (DPO)",
    "ipo": "arXiv:2310.12036 (IPO)",
    "kto": "arXiv:2402.01306 (KTO)",
    "orpo": "arXiv:2403.07691 (ORPO)",
    "cpo": "arXiv:2401.08417 (CPO)",
    "simpo": "arXiv:2405.14734 (SimPO)",
    "gpo": "arXiv:2402.05749 (GPO)",
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
        papers = [PAPERS[stage.method]] if stage.method in PAPERS else PAPERS.values()
        return Declaration(
            PROVENANCE[pairs],
            Interface.RANKED_PREFERENCES,
            (Role.POLICY_RESHAPING,),
            f"{REASONS[pairs]}; a ranking chooses among answers that could be written already",
            (SURVEY, *papers),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """TRL's card, or a trainer that logged the margin between chosen and rejected."""
        by_card = from_card(directory, {name: name for name in PAPERS})
        if by_card:
            return by_card
        keys = logged_keys(directory)
        if not {"rewards/chosen", "rewards/rejected"} <= keys:
            return None
        name = "orpo" if "log_odds_chosen" in keys else "dpo"
        found = "trainer_state.json logs rewards/chosen and rewards/rejected"
        return Evidence(name, LOG_STRENGTH, found)


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(PreferenceOptimization())
