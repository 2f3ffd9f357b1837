"""How small a change can be seen, and how many samples and items it takes.

A change delta = mean(p1) - mean(p0) over N items with n samples each, parent and child sampled
independently on the same items, has the standard error

    stderr^2 = (change_spread^2 + 2 within / n) / N,     within = E[p (1 - p)]

and is seen with probability `power` at two-sided confidence `level` from

    (z_level + z_power) stderr

on (arXiv 2411.00640, section 5). within = success (1 - success) - spread^2 for items whose p have
that mean and standard deviation; change_spread is the standard deviation of the items' changes.
The defaults are those of a task of middling difficulty whose items differ: success 0.5, spread
0.3 (p spread about evenly over 0 to 1), change_spread 0.1. Samples reduce within only: what the
items add is reduced by more items alone.

Units: effects and spreads in fractions of 1 (0.01 is a percentage point).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

from scipy.special import ndtri

from ptharness.analysis.certification import needed_samples

SUCCESS, SPREAD, CHANGE_SPREAD = 0.5, 0.3, 0.1


def minimum_detectable_effect(stderr: float, level: float = 0.95, power: float = 0.8) -> float:
    """The least true change that is seen with probability `power`, given its standard error.

    >>> round(minimum_detectable_effect(0.01), 4)
    0.028
    """
    if not stderr >= 0:
        raise ValueError(f"stderr must not be negative, and is {stderr}")
    return _reach(level, power) * stderr


def expected_stderr(
    n: int,
    items: int,
    *,
    success: float = SUCCESS,
    spread: float = SPREAD,
    change_spread: float = CHANGE_SPREAD,
) -> float:
    """The standard error to expect of a change, with n samples of each item on both sides."""
    for name, value in (("n", n), ("items", items)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    within = _within(success, spread, change_spread)
    return sqrt((change_spread**2 + 2 * within / n) / items)


def required_samples(
    effect: float,
    items: int,
    k: int | None = None,
    *,
    success: float = SUCCESS,
    spread: float = SPREAD,
    change_spread: float = CHANGE_SPREAD,
    power: float = 0.8,
    level: float = 0.95,
) -> int:
    """The least n, samples of each item at parent and at child, to see a change of `effect`.

    With a support budget `k` it is at least k + 1, which the decomposition needs. Raises
    `ValueError` where no number of samples suffices for so few items.
    """
    if items < 1:
        raise ValueError(f"items must be at least 1, not {items}")
    allowed = items * _allowed(effect, power, level)
    within = _within(success, spread, change_spread)
    least = 1 if k is None else _budget(k) + 1
    if allowed <= change_spread**2:
        # Above what infinitely many samples would take: there is no n for exactly that.
        enough = int(change_spread**2 / _allowed(effect, power, level)) + 1
        raise ValueError(
            f"the items alone are too few to see {effect:g}, however many samples: {items} items "
            f"whose changes differ by {change_spread:g}; it needs at least {enough} items"
        )
    return max(least, ceil(2 * within / (allowed - change_spread**2) - 1e-9))


def required_items(
    effect: float,
    n: int,
    *,
    success: float = SUCCESS,
    spread: float = SPREAD,
    change_spread: float = CHANGE_SPREAD,
    power: float = 0.8,
    level: float = 0.95,
) -> int:
    """The least number of items to see a change of `effect` with n samples of each."""
    allowed = _allowed(effect, power, level)
    one = expected_stderr(n, 1, success=success, spread=spread, change_spread=change_spread)
    return max(2, ceil(one**2 / allowed - 1e-9))


@dataclass(frozen=True)
class RequiredSamples:
    """The least n, samples of each item, for what depends on the support budget k.

    `decomposition` is where its cells are defined, `recommended` where they are good;
    `same_model_baseline` is what newly solved items are compared with; `certification` is where
    naming an item is possible at all, `certification_alone` where a single one can be named.
    """

    decomposition: int
    recommended: int
    same_model_baseline: int
    certification: int
    certification_alone: int


def required_for_budget(
    k: int, items: int, *, fdr: float = 0.05, dependent: bool = False
) -> RequiredSamples:
    """What n a support budget asks for, among so many items.

    >>> required_for_budget(16, 400).certification
    70
    """
    _budget(k)
    return RequiredSamples(
        decomposition=k + 1,
        recommended=2 * k,
        same_model_baseline=2 * k,
        certification=needed_samples(k, items, fdr=fdr, dependent=dependent),
        certification_alone=needed_samples(k, items, 1, fdr=fdr, dependent=dependent),
    )


def _reach(level: float, power: float) -> float:
    """z_level + z_power."""
    for name, value in (("level", level), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie between 0 and 1, not {value}")
    return float(ndtri((1 + level) / 2) + ndtri(power))


def _allowed(effect: float, power: float, level: float) -> float:
    """The squared standard error at which the effect is just seen."""
    if not 0 < effect <= 1:
        raise ValueError(f"effect must lie above 0 and be at most 1, not {effect}")
    return (effect / _reach(level, power)) ** 2


def _within(success: float, spread: float, change_spread: float) -> float:
    if not 0 <= success <= 1:
        raise ValueError(f"success must lie between 0 and 1, not {success}")
    if spread < 0 or change_spread < 0:
        raise ValueError(f"spreads must not be negative, not {spread} and {change_spread}")
    within = success * (1 - success) - spread**2
    if within < -1e-12:
        most = sqrt(success * (1 - success))
        raise ValueError(f"spread is at most {most:.3g} for a success of {success}, not {spread}")
    return max(within, 0.0)


def _budget(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return k
