"""The measured role of a stage, and whether it is the declared one.

Magnitudes: X = EXP, R = RSH_up + |RSH_down| (not the net: 80 items up and 80 down are much
reshaping). A quantity is *significant* where its q, its p adjusted over the declared family,
is at most the false discovery rate.

- undetermined, whatever else is found: attrition is significant and |ATT| > X + R;
- support_expansion: EXP > 0 is significant and X's share of X + R lies above one half;
- policy_reshaping: RSH_up or RSH_down is significant and R's share lies above one half;
- mixed: both are significant and neither dominates;
- none: nothing is significant, and the least change that would have been found is small;
- undetermined: anything else.

These are answer-level proxies of the survey's state-action roles (arXiv 2604.07941, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ptharness.analysis.binomials import Floats
from ptharness.analysis.power import minimum_detectable_effect
from ptharness.analysis.resampling import Estimate
from ptharness.analysis_settings import Thresholds
from ptharness.taxonomy import Role

MIXED, NONE, UNDETERMINED = "mixed", "none", "undetermined"

Verdict = Literal["supported", "contradicted", "undetermined"]


@dataclass(frozen=True)
class Measured:
    """A measured role with the flags beside it, and the numbers behind it in a sentence."""

    role: str
    reason: str
    attrition: bool = False
    harmful_reshaping: bool = False


def measured_role(
    cells: Mapping[str, Estimate],
    q: Mapping[str, float],
    expansion_shares: Floats | None,
    thresholds: Thresholds,
) -> Measured:
    """The role that the cells show; `expansion_shares` are replicates of X / (X + R).

    `q` holds the adjusted p of exp, rsh_up, rsh_down and att. Undetermined, with what it would
    take, where the cells are undefined.
    """
    delta, exp, rsh, up, down, att = (
        cells[name] for name in ("delta", "exp", "rsh", "rsh_up", "rsh_down", "att")
    )
    if exp.estimate is None or expansion_shares is None:
        return Measured(UNDETERMINED, exp.reason or "the cells are undefined")
    found = {name for name, value in q.items() if value <= thresholds.fdr}
    expands, reshapes = "exp" in found, not found.isdisjoint(("rsh_up", "rsh_down"))
    low, high = _interval(expansion_shares, thresholds.level)
    flags = {
        "attrition": "att" in found,
        "harmful_reshaping": "rsh_down" in found and rsh.ci_high is not None and rsh.ci_high < 0,
    }
    numbers = (
        f"expansion {percent(exp)} (q {_probability(q['exp'])}), reshaping up {percent(up)} "
        f"(q {_probability(q['rsh_up'])}), down {percent(down)} (q {_probability(q['rsh_down'])}), "
        f"attrition {percent(att)} (q {_probability(q['att'])})"
    )
    share = f"expansion is {100 * low:.0f} to {100 * high:.0f} % of expansion and reshaping"
    if flags["attrition"] and _size(att) > _size(exp) + _size(up) + _size(down):
        # What else a stage did that mostly destroyed is not what it did.
        why = "attrition outweighs expansion and reshaping together"
        return Measured(UNDETERMINED, f"{numbers}; {why}", **flags)
    if expands and low > 0.5:
        return Measured(Role.SUPPORT_EXPANSION, f"{numbers}; {share}", **flags)
    if reshapes and high < 0.5:
        return Measured(Role.POLICY_RESHAPING, f"{numbers}; {share}", **flags)
    if expands and reshapes:
        return Measured(MIXED, f"{numbers}; {share}: neither dominates", **flags)
    if expands or reshapes:
        which = "expansion" if expands else "reshaping"
        why = f"{which} is significant, but {share}"
        return Measured(UNDETERMINED, f"{numbers}; {why}", **flags)
    least = detectable(delta)
    within = f"a change of {100 * least:.1f} pp would be found in 80 % of cases"
    if flags["attrition"]:
        return Measured(UNDETERMINED, f"{numbers}; only attrition is significant", **flags)
    if least <= thresholds.smallest_effect:
        return Measured(NONE, f"{numbers}; nothing is significant, and {within}", **flags)
    more = math.ceil((least / thresholds.smallest_effect) ** 2)
    return Measured(
        UNDETERMINED,
        f"{numbers}; nothing is significant, but only {within}; for "
        f"{100 * thresholds.smallest_effect:.0f} pp it takes about {more} times as many items",
        **flags,
    )


def _size(estimate: Estimate) -> float:
    return abs(estimate.estimate or 0.0)


def detectable(delta: Estimate) -> float:
    """The least change that would be found with 80 % power, in fractions of 1."""
    if delta.estimate is None or delta.stderr is None or delta.ci_high is None:
        return 1.0
    if delta.stderr == 0:
        return delta.ci_high - delta.estimate
    return minimum_detectable_effect(delta.stderr, level=delta.level)


@dataclass(frozen=True)
class Consolidation:
    """Evidence for or against: retention or a recovered gap, with its interval."""

    what: str
    estimate: Estimate

    @property
    def verdict(self) -> Verdict:
        """Supported if the interval lies above one half, contradicted if below."""
        if self.estimate.ci_low is None or self.estimate.ci_high is None:
            return "undetermined"
        if self.estimate.ci_low > 0.5:
            return "supported"
        return "contradicted" if self.estimate.ci_high < 0.5 else "undetermined"

    def __str__(self) -> str:
        found = self.estimate
        if found.estimate is None or found.ci_low is None or found.ci_high is None:
            return f"{self.what} is undefined: {found.reason}"
        return f"{self.what} {found.estimate:.2f} [{found.ci_low:.2f}, {found.ci_high:.2f}]"


def judge(
    declared: Sequence[str], measured: str, consolidation: Sequence[Consolidation] = ()
) -> tuple[Verdict, str]:
    """The verdict on a declaration, and what of consolidation it rests on (may be empty).

    Of several declared roles each will do: supported if one is, contradicted if all are. Where
    none is declared, nothing should be found.
    """
    if not declared:
        return _of_role(NONE, measured), ""
    verdicts, notes = [], []
    for role in declared:
        if role != Role.CONSOLIDATION:
            verdicts.append(_of_role(role, measured))
            continue
        decided = next((c for c in consolidation if c.verdict != "undetermined"), None)
        shown = decided or next(iter(consolidation), None)
        verdicts.append(decided.verdict if decided else "undetermined")
        notes.append(str(shown) if shown else "consolidation: no earlier gain to preserve")
    return _either(verdicts), "; ".join(notes)


def _of_role(role: str, measured: str) -> Verdict:
    if measured == role or (measured == MIXED and role != NONE):
        return "supported"
    return "undetermined" if measured == UNDETERMINED else "contradicted"


def _either(verdicts: Sequence[Verdict]) -> Verdict:
    if "supported" in verdicts:
        return "supported"
    if verdicts and all(verdict == "contradicted" for verdict in verdicts):
        return "contradicted"
    return "undetermined"


def percent(estimate: Estimate) -> str:
    """`+21.4 pp [19.1, 24.8]`, in percentage points."""
    if estimate.estimate is None or estimate.ci_low is None or estimate.ci_high is None:
        return "undefined"
    value, low, high = (
        f"{100 * number:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")
        for number in (estimate.estimate, estimate.ci_low, estimate.ci_high)
    )
    return f"{value} pp [{low.removeprefix('+')}, {high.removeprefix('+')}]"


def _interval(replicates: Floats, level: float) -> tuple[float, float]:
    """Of a share; all of [0, 1] where it is undefined in a tail's worth of replicates."""
    filled_low = np.where(np.isnan(replicates), 0.0, replicates)
    filled_high = np.where(np.isnan(replicates), 1.0, replicates)
    tail = (1 - level) / 2
    return float(np.quantile(filled_low, tail)), float(np.quantile(filled_high, 1 - tail))


def _probability(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0")
