"""What the analysis tables hold: the values of their column `quantity`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """What stands in the column `quantity`: in which tables, in which unit, and what it means."""

    tables: tuple[str, ...]
    unit: str
    meaning: str


_EVERYWHERE = ("edges", "sensitivity")
_PAIRS = ("edges", "turnover", "sensitivity")

QUANTITIES = {
    "delta": Quantity(
        ("edges",), "fraction", "Change of success; of the primary metric where that is no yes/no."
    ),
    "exp": Quantity(_EVERYWHERE, "fraction", "Its part from what was out of reach: expansion."),
    "rsh": Quantity(_EVERYWHERE, "fraction", "Its part from what stayed reachable: reshaping."),
    "rsh_up": Quantity(("edges",), "fraction", "Reshaping on the items that got better."),
    "rsh_down": Quantity(("edges",), "fraction", "Reshaping on the items that got worse."),
    "att": Quantity(_EVERYWHERE, "fraction", "Its part from what no longer is in reach."),
    "res": Quantity(_EVERYWHERE, "fraction", "Its part where both fail all k attempts."),
    "new": Quantity(_PAIRS, "fraction", "Items solved within k by the target, not by the source."),
    "lost": Quantity(_PAIRS, "fraction", "Items solved within k by the source, not by the target."),
    "kept": Quantity(("turnover",), "fraction", "Items solved within k by both."),
    "neither": Quantity(("turnover",), "fraction", "Items solved within k by neither."),
    "same_model_new": Quantity(
        ("edges", "turnover"), "fraction", "What a second run of the source would newly solve."
    ),
    "same_model_new_target": Quantity(
        ("turnover",), "fraction", "What a second run of the target would newly solve."
    ),
    "movement": Quantity(
        ("edges",), "squared fraction", "Mean squared change of the items, sampling noise removed."
    ),
    "certified_new": Quantity(("edges",), "items", "Items certified to be newly reachable."),
    "certified_lost": Quantity(("edges",), "items", "Items certified to be no longer reachable."),
    "amortisation": Quantity(
        ("edges",), "ratio", "Of what k attempts buy the source, what the target has in one."
    ),
    "crossover": Quantity(("edges",), "attempts", "Least k at which the pass@k curves meet."),
    "break_even": Quantity(
        ("edges",), "attempts", "Least k at which the source reaches the target's pass@1."
    ),
    "recovered_gap": Quantity(
        ("edges",), "ratio", "Of the gap between the student's start and its teacher, what closed."
    ),
    "support_transfer": Quantity(
        ("edges",), "ratio", "Of what the teacher reaches and the start did not, what is reached."
    ),
    "novelty": Quantity(
        ("edges",), "fraction", "Items that the student solves within k and its teacher does not."
    ),
    "choice_probability": Quantity(
        ("edges",),
        "fraction",
        "Change of the probability of the right choice: softmax of the choices' log-likelihoods, "
        "no length normalisation.",
    ),
    "forgetting": Quantity(
        ("edges",), "fraction", "Choices that were right and no longer are, luck taken off."
    ),
    "backward_transfer": Quantity(
        ("edges",), "fraction", "Choices that were wrong and now are right, luck taken off."
    ),
    "retention": Quantity(("retention",), "ratio", "Of what the stage gained, what is left."),
    "pass_at_k": Quantity(("measures",), "fraction", "One of k attempts is right."),
    "majority_at_k": Quantity(("measures",), "fraction", "The majority of k answers is right."),
    "best_of_k": Quantity(
        ("measures",), "fraction", "Of k completions the likeliest per token is right."
    ),
    "answer_entropy_nats": Quantity(("measures",), "nats", "Entropy of the answers to an item."),
    "distinct_answers": Quantity(("measures",), "answers", "Distinct ones among k samples."),
    "completion_tokens": Quantity(("measures",), "tokens", "Per completion."),
    "tokens_per_solve": Quantity(("measures",), "tokens", "Of all completions, per right one."),
}
"""What the analysis tables hold; docs/explanation/measurement.md defines each."""
