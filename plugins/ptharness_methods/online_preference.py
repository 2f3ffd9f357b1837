"""Online preference optimisation: the compared answers are refreshed while the learner trains.

    checkpoints:
      online: {path: checkpoints/online, parent: sft, method: online_dpo}
      fresh: {path: checkpoints/fresh, parent: sft, method: {name: online_dpo, candidates: fresh}}

The objective is that of the offline family; what changes is whose answers are compared. The
survey puts it at the boundary: refreshed in rounds, or compared with another policy's answers,
the provenance is mixed; with candidates drawn from the learner at every step it is on-policy.

Sources: arXiv 2604.07941; online DPO (2402.04792); XPO (2405.21046); iterative DPO
(2312.11456); Nash-MD (2312.00886).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl
from ptharness.leftovers import read_leftovers
from ptharness.methods import Declaration, Evidence, Method, StageSettings, choose
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness.traces import LOG, LOOK_ALIKE, by_name
from ptharness_methods.citing import papers_of, survey

if TYPE_CHECKING:
    from ptharness.registry import Registry

SOURCES = (
    survey("section 4.2, last paragraph, and table 7, first row"),
    survey("table 6: preference optimization weakens as off-policy under online refresh"),
)
PAPERS = {
    "online_dpo": "arXiv:2402.04792 (direct alignment from online AI feedback)",
    "xpo": "arXiv:2405.21046 (XPO)",
    "iterative_dpo": "arXiv:2312.11456 (iterative preference learning under KL constraint)",
    "nash_md": "arXiv:2312.00886 (Nash learning from human feedback, Nash-MD)",
}
MIXED_REASONS = {
    "online_dpo": "candidates are drawn from the learner as it trains, but nothing says that each "
    "is used while it is fresh",
    "xpo": "the learner's answers are compared with those of a reference policy",
    "iterative_dpo": "each round compares answers that the learner gave before the round",
    "nash_md": "the learner's answers are compared with those of a mixture with an older policy",
}
TRL_TAGS = {"online-dpo": "online_dpo", "xpo": "xpo", "nash-md": "nash_md"}
TRAINER_SETTINGS = {"OnlineDPOConfig": "online_dpo", "XPOConfig": "xpo", "NashMDConfig": "nash_md"}


class OnlinePreferenceOptimization(Method):
    """Answers of the learner are ranked while it trains, the better made likelier.

    Options: `candidates` (mixed, fresh): whether all compared answers are drawn from the current
    learner and used at once.
    """

    name = "online_preference"
    title = "Online preference optimisation"
    aliases = tuple(PAPERS)
    options = ("candidates",)

    def declare(self, stage: StageSettings) -> Declaration:
        """Mixed, and on-policy where the candidates are stated to be fresh."""
        fresh = choose(stage, "candidates", ("mixed", "fresh")) == "fresh"
        source = (
            "all compared answers are stated to be fresh rollouts of the learner"
            if fresh
            else MIXED_REASONS.get(stage.method, "the compared answers are refreshed in rounds")
        )
        return Declaration(
            Provenance.ON_POLICY if fresh else Provenance.MIXED,
            Interface.RANKED_PREFERENCES,
            (Role.POLICY_RESHAPING,),
            f"{source}; a ranking chooses among answers that the learner gives already",
            (*SOURCES, *papers_of(stage, PAPERS)),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """TRL's card or settings, or a log of scores of the pairs that it just sampled.

        Iterative DPO leaves what DPO leaves: it is not ruled out there.
        """
        left = read_leftovers(directory)
        named = by_name(left, TRL_TAGS, TRAINER_SETTINGS)
        if named:
            return named
        if {"objective/scores_margin", "rewards/chosen"} <= left.logged:
            found = "trainer_state.json logs objective/scores_margin and rewards/chosen"
            return Evidence("online_dpo", LOG, found)
        offline = by_name(left, {"dpo": "dpo"}, {"DPOConfig": "dpo"})
        if offline:
            return Evidence("iterative_dpo", LOOK_ALIKE, f"{offline.found}, as in rounds of DPO")
        return None


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(OnlinePreferenceOptimization())
