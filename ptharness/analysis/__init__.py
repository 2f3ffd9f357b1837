"""What the counts say: estimators with intervals, each saying when it is undefined.

Arrays in, values out: no files, no engine, no lineage. docs/explanation/measurement.md explains
them to the researcher. What is imported here is for anybody's counts; the other modules make the
analysis tables of a lineage from these.
"""

from ptharness.analysis.answers import Diversity, diversity
from ptharness.analysis.attempts import (
    best_of_k,
    cover_at_tau,
    crossover,
    curve,
    majority_at_k,
    pass_at_k,
)
from ptharness.analysis.certification import Certification, certify, needed_samples
from ptharness.analysis.consolidation import (
    ScaffoldGap,
    amortisation,
    break_even,
    novelty,
    recovered_gap,
    retention,
    scaffold_gap,
    support_transfer,
)
from ptharness.analysis.cost import tokens_per_solve
from ptharness.analysis.decomposition import Decomposition, decompose
from ptharness.analysis.forgetting import ChoiceTransitions, choice_transitions, squared_movement
from ptharness.analysis.gained_lost import Turnover, turnover
from ptharness.analysis.power import (
    RequiredSamples,
    minimum_detectable_effect,
    required_for_budget,
    required_items,
    required_samples,
)
from ptharness.analysis.resampling import Estimate

__all__ = [
    "Certification",
    "ChoiceTransitions",
    "Decomposition",
    "Diversity",
    "Estimate",
    "RequiredSamples",
    "ScaffoldGap",
    "Turnover",
    "amortisation",
    "best_of_k",
    "break_even",
    "certify",
    "choice_transitions",
    "cover_at_tau",
    "crossover",
    "curve",
    "decompose",
    "diversity",
    "majority_at_k",
    "minimum_detectable_effect",
    "needed_samples",
    "novelty",
    "pass_at_k",
    "recovered_gap",
    "required_for_budget",
    "required_items",
    "required_samples",
    "retention",
    "scaffold_gap",
    "squared_movement",
    "support_transfer",
    "tokens_per_solve",
    "turnover",
]
