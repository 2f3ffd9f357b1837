"""How numbers are written: percentage points, intervals, counts."""

from __future__ import annotations

from ptharness.report.tables import Row

MINUS = "\u2212"
SEPARATOR = ",\u00a0"
"""Between the ends of an interval, which stay on one line."""
NOTHING = "\u2013"
"""Stands where a number is undefined; its reason is in the title or the appendix."""

COUNTED = frozenset({"break_even", "crossover"})
"""Quantities whose estimate is a number of attempts."""
TOKENS = frozenset({"completion_tokens", "tokens_per_solve"})
PLAIN = frozenset({"answer_entropy_nats", "distinct_answers", "movement"})
ITEMS = frozenset({"certified_new", "certified_lost"})
PARAMETERS = frozenset({"parameters"})
SHARES = frozenset(
    {
        "new",
        "lost",
        "kept",
        "neither",
        "same_model_new",
        "same_model_new_target",
        "recovered_gap",
        "support_transfer",
        "novelty",
        "amortisation",
        "forgetting",
        "backward_transfer",
        "retention",
        "pass_at_k",
        "majority_at_k",
        "best_of_k",
        "too_long_rate",
        "truncation_rate",
    }
)
"""Fractions of 1 that are no differences, printed in per cent and without a plus."""


def points(value: float | None) -> str:
    """Percentage points with their sign: `+21.4`, and `0.0` without one."""
    if value is None:
        return NOTHING
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def nats(value: float, sign: str = "") -> str:
    """Nats with three decimals, and no minus where these are 0; `sign` may be `+`."""
    return f"{round(value, 3) + 0.0:{sign}.3f}"


def percent(value: float | None) -> str:
    """A share in per cent, without the sign `%`."""
    return NOTHING if value is None else _unsigned(f"{100 * value:.1f}")


def plain(value: float | None) -> str:
    """A number with what matters of it: three or four digits."""
    if value is None:
        return NOTHING
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number, or as many decimals as it has (means over tasks)."""
    if value is None:
        return NOTHING
    text = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    return text.replace("-", MINUS)


def amount(quantity: str, value: float | None) -> str:
    """An estimate in the unit of its quantity, without the unit."""
    if quantity in ITEMS or quantity in COUNTED or quantity in PARAMETERS:
        return count(value)
    if quantity in TOKENS or quantity in PLAIN:
        return plain(value)
    return percent(value) if quantity in SHARES else points(value)


def unit(quantity: str) -> str:
    """The unit of a quantity as it is printed."""
    if quantity in ITEMS:
        return "items"
    if quantity in COUNTED:
        return "attempts"
    if quantity in TOKENS:
        return "tokens"
    if quantity == "answer_entropy_nats":
        return "nats"
    if quantity in PLAIN or quantity in PARAMETERS:
        return ""
    return "%" if quantity in SHARES else "pp"


def interval(row: Row) -> str:
    """The row's interval in the unit of its quantity: `[−0.1, 0.8]`; empty where it has none."""
    low, high = row["ci_low"], row["ci_high"]
    if low is None and high is None:
        return ""
    ends = (amount(row["quantity"], low), amount(row["quantity"], high))
    return f"[{SEPARATOR.join(end.removeprefix('+') for end in ends)}]"


def _unsigned(text: str) -> str:
    return "0.0" if text == "-0.0" else text.replace("-", MINUS)
