"""What a stage did, in one sentence: the one that the terminal prints."""

from __future__ import annotations

from collections.abc import Mapping

from ptharness.report.numbers import interval, points
from ptharness.report.tables import Row

CELLS = (("exp", "expansion"), ("rsh", "reshaping"), ("att", "attrition"))
WORDS = {
    "off_policy": "off-policy",
    "on_policy": "on-policy",
    "mixed": "mixed",
    "support_expansion": "support expansion",
    "policy_reshaping": "policy reshaping",
    "consolidation": "consolidation",
    "none": "none",
    "undetermined": "undetermined",
}


def word(name: str | None) -> str:
    """A value of the vocabulary as it is read; one that is not in it as it is."""
    return "" if name is None else WORDS.get(name, name)


def words(names: tuple[str, ...] | list[str] | None) -> str:
    """Several values of the vocabulary: `support expansion or policy reshaping`."""
    return " or ".join(word(name) for name in names or ()) or "nothing"


def undefined(estimates: Mapping[str, Row]) -> str:
    """Why there is no change or, where there is one, why it has no cells; else empty."""
    delta = estimates.get("delta")
    if delta is None or delta["estimate"] is None:
        return str((delta and delta["reason"]) or "")
    cells = [estimates[quantity] for quantity, _ in CELLS if quantity in estimates]
    if any(row["estimate"] is not None for row in cells):
        return ""
    return str(next((row["reason"] for row in cells), None) or "")


def movement(estimates: Mapping[str, Row], *, of_choices: bool = False) -> str:
    """`+21.4 pp = expansion +0.3 [−0.1, 0.8], reshaping ..., attrition ...`.

    The residual is named where it is more than what rounding hides. `of_choices` is for what rests
    on multiple choice alone, where there are no cells: `+21.4 pp [19.0, 24.0] on multiple choice`.
    """
    delta = estimates.get("delta")
    if delta is None or delta["estimate"] is None:
        reason = undefined(estimates) or "the tables hold no estimate of it"
        return f"change undefined: {reason}"
    text = f"{points(delta['estimate'])} pp"
    if of_choices:
        return f"{text} {interval(delta)}".rstrip() + " on multiple choice"
    cells = [
        f"{name} {points(row['estimate'])} {interval(row)}".rstrip()
        for quantity, name in (*CELLS, ("res", "residual"))
        if (row := estimates.get(quantity)) is not None
        and row["estimate"] is not None
        and (quantity != "res" or abs(row["estimate"]) >= 0.0005)
    ]
    if cells:
        return f"{text} = {', '.join(cells)}"
    reason = undefined(estimates)
    told = f"not decomposed: {reason}" if reason else "not decomposed"
    return f"{text} {interval(delta)}".rstrip() + f"; {told}"
