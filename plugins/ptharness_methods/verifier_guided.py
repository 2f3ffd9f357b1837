"""Verifier-guided training: what a verifier lets through becomes the target.

    checkpoints:
      rft: {path: checkpoints/rft, parent: sft, method: rejection_sampling}
      star: {path: checkpoints/star, parent: sft, method: {name: star, traces: cached}}
      exit: {path: checkpoints/exit, parent: sft, method: search_to_policy}

The learner (or a search over it) writes, a verifier filters, and the learner imitates what is
left. The survey calls self-improvement mixed: the traces are the learner's own, but trained on as
a fixed batch. Traces kept over rounds move it towards consolidation; a search that finds what the
learner alone would not, and is then distilled, expands first and consolidates after.

Sources: arXiv 2604.07941; RFT (2308.01825); STaR (2203.14465); ReST (2308.08998); RAFT
(2304.06767); SCoRe (2409.12917); verifiers (2110.14168); BOND (2407.14622); expert iteration
(1705.08439).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness.hookspecs import hookimpl
from ptharness.methods import Declaration, Evidence, Method, StageSettings, choose
from ptharness.taxonomy import Interface, Provenance, Role
from ptharness_methods.citing import papers_of, survey
from ptharness_methods.supervised import like_supervised

if TYPE_CHECKING:
    from ptharness.registry import Registry

SOURCES = (
    survey("sections 4.3 and 5.3, table 6, rows offline filtering and iterative refinement"),
    survey("table 7, rows verifier-guided filtering, cached trajectories, search-heavy induction"),
)
PAPERS = {
    "rejection_sampling": "arXiv:2304.06767 (RAFT: reward-ranked fine-tuning)",
    "rft": "arXiv:2308.01825 (RFT: rejection sampling fine-tuning)",
    "star": "arXiv:2203.14465 (STaR)",
    "rest": "arXiv:2308.08998 (ReST)",
    "self_correction": "arXiv:2409.12917 (SCoRe: training to self-correct)",
    "verifier_filtering": "arXiv:2110.14168 (training verifiers)",
    "best_of_n_distillation": "arXiv:2407.14622 (BOND)",
    "search_to_policy": "arXiv:1705.08439 (expert iteration)",
}
PROVENANCE = {
    "own": Provenance.MIXED,
    "cached": Provenance.MIXED,
    "fresh": Provenance.ON_POLICY,
    "external": Provenance.OFF_POLICY,
}
REASONS = {
    "own": "the traces are the learner's own, but trained on as a fixed, filtered batch",
    "cached": "traces of several rounds are kept and trained on again",
    "fresh": "each update is stated to use traces that the current learner just wrote",
    "external": "the filtered traces are stated to be written by others",
}
TAGS = {
    "rejection-sampling": "rejection_sampling",
    "rejection_sampling": "rejection_sampling",
    "raft": "rejection_sampling",
    "rft": "rft",
    "best-of-n": "best_of_n_distillation",
    "bond": "best_of_n_distillation",
}


class VerifierGuided(Method):
    """Completions that a verifier accepts are imitated.

    Options: `traces` (own, cached, fresh, external): who wrote what is filtered, and when. Own
    ones were sampled from the parent, filtered once and trained on; cached ones are kept over
    rounds.
    """

    name = "verifier_guided"
    title = "Verifier-guided training"
    aliases = tuple(PAPERS)
    options = ("traces",)

    def declare(self, stage: StageSettings) -> Declaration:
        """Mixed unless `traces` says otherwise; the role depends on traces and on search."""
        traces = choose(stage, "traces", tuple(PROVENANCE))
        roles, effect = _effect(stage.method, traces)
        return Declaration(
            PROVENANCE[traces],
            Interface.VERIFIER_FEEDBACK,
            roles,
            f"{REASONS[traces]}; {effect}",
            (*SOURCES, *papers_of(stage, PAPERS)),
        )

    def detect(self, directory: Path) -> Evidence | None:
        """What supervised fine-tuning leaves, unless the card is tagged with the method."""
        return like_supervised(directory, "rejection_sampling", TAGS)


def _effect(method: str, traces: str) -> tuple[tuple[Role, ...], str]:
    if method == "search_to_policy":
        return (
            (Role.SUPPORT_EXPANSION, Role.CONSOLIDATION),
            "search finds what the learner alone would hardly write, and training keeps it "
            "without the search",
        )
    if method == "best_of_n_distillation" or traces == "cached":
        return (
            (Role.POLICY_RESHAPING, Role.CONSOLIDATION),
            "a filter chooses among what is written already, and what it chose is kept for good",
        )
    if traces == "external":
        return (
            (Role.POLICY_RESHAPING, Role.SUPPORT_EXPANSION),
            "a filter mostly chooses, but others' traces may hold what the learner cannot write",
        )
    return (
        (Role.POLICY_RESHAPING,),
        "a filter chooses among completions that the learner writes already",
    )


@hookimpl
def ptharness_register_methods(registry: Registry) -> None:
    registry.methods.add(VerifierGuided())
