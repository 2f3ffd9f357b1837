"""The rules by which a role is called and a declaration judged."""

from __future__ import annotations

import numpy as np
import pytest

from ptharness.analysis.resampling import Estimate
from ptharness.analysis.roles import Consolidation, judge, measured_role
from ptharness.analysis_settings import Thresholds

EXPANSION, RESHAPING, CONSOLIDATION = "support_expansion", "policy_reshaping", "consolidation"
ROLES = (EXPANSION, RESHAPING, "mixed", "none", "undetermined")


@pytest.mark.parametrize(
    ("declared", "verdicts"),
    [
        ([EXPANSION], ["supported", "contradicted", "supported", "contradicted", "undetermined"]),
        ([RESHAPING], ["contradicted", "supported", "supported", "contradicted", "undetermined"]),
        (
            [EXPANSION, RESHAPING],
            ["supported", "supported", "supported", "contradicted", "undetermined"],
        ),
        ([], ["contradicted", "contradicted", "contradicted", "supported", "undetermined"]),
    ],
)
def test_declared_against_measured(declared: list[str], verdicts: list[str]) -> None:
    assert [judge(declared, measured)[0] for measured in ROLES] == verdicts


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.6, 0.9, "supported"), (0.1, 0.4, "contradicted"), (0.4, 0.9, "undetermined")],
)
def test_consolidation_is_judged_by_its_interval(low: float, high: float, verdict: str) -> None:
    evidence = [Consolidation("retention", Estimate((low + high) / 2, 0.1, low, high))]
    assert judge([CONSOLIDATION], RESHAPING, evidence)[0] == verdict
    # Beside another declared role, either will do.
    assert judge([RESHAPING, CONSOLIDATION], RESHAPING, evidence)[0] == "supported"


def test_the_first_evidence_that_decides_counts_and_undefined_is_said() -> None:
    undefined = Consolidation("the gap", Estimate(reason="may be 0"))
    kept = Consolidation("retention", Estimate(0.9, 0.05, 0.8, 1.0))
    assert judge([CONSOLIDATION], "none", [undefined, kept]) == (
        "supported",
        "retention 0.90 [0.80, 1.00]",
    )
    assert judge([CONSOLIDATION], "none", [undefined]) == (
        "undetermined",
        "the gap is undefined: may be 0",
    )
    assert judge([CONSOLIDATION], "none") == (
        "undetermined",
        "consolidation: no earlier gain to preserve",
    )


def cells(
    exp: float, up: float, down: float, att: float = 0.0, stderr: float = 0.002
) -> dict[str, Estimate]:
    values = {"exp": exp, "rsh": up + down, "rsh_up": up, "rsh_down": down, "att": att}
    values["delta"] = exp + up + down + att
    return {
        name: Estimate(value, stderr, value - 2 * stderr, value + 2 * stderr)
        for name, value in values.items()
    }


SURE, UNSURE = 0.001, 0.6
NOTHING = {"exp": UNSURE, "rsh_up": UNSURE, "rsh_down": UNSURE, "att": UNSURE}


@pytest.mark.parametrize(
    ("found", "q", "share", "role"),
    [
        (cells(0.2, 0.05, 0), {"exp": SURE}, (0.7, 0.9), EXPANSION),
        (cells(0.05, 0.2, 0), {"exp": SURE, "rsh_up": SURE}, (0.1, 0.3), RESHAPING),
        # As much down as up: the net is nothing, the reshaping is not.
        (cells(0, 0.1, -0.1), {"rsh_up": SURE, "rsh_down": SURE}, (0, 0.1), RESHAPING),
        (cells(0.1, 0.1, 0), {"exp": SURE, "rsh_up": SURE}, (0.4, 0.6), "mixed"),
        (cells(0.1, 0.1, 0), {"exp": SURE}, (0.4, 0.6), "undetermined"),
        (cells(0.2, 0.05, 0), {"exp": 0.051}, (0.7, 0.9), "none"),
        (cells(0, 0, 0), {}, (0, 1), "none"),
        (cells(0, 0, 0, stderr=0.02), {}, (0, 1), "undetermined"),
        (cells(0, 0, 0, -0.2), {"att": SURE}, (0, 1), "undetermined"),
        # What is left of the skill got worse too, but most of it is gone.
        (cells(0, 0.01, -0.1, -0.2), {"att": SURE, "rsh_down": SURE}, (0, 0.1), "undetermined"),
        (cells(0, 0.2, -0.1, -0.2), {"att": SURE, "rsh_up": SURE}, (0, 0.1), RESHAPING),
    ],
)
def test_which_role_is_called(
    found: dict[str, Estimate], q: dict[str, float], share: tuple[float, float], role: str
) -> None:
    shares = np.random.default_rng(0).uniform(*share, 500)
    measured = measured_role(found, NOTHING | q, shares, Thresholds())
    assert measured.role == role
    assert measured.attrition == ("att" in q)
    assert "expansion" in measured.reason


def test_harm_is_a_net_loss_among_what_is_reachable() -> None:
    shares = np.zeros(200)
    worse = measured_role(cells(0, 0.02, -0.2), NOTHING | {"rsh_down": SURE}, shares, Thresholds())
    assert worse.harmful_reshaping
    both = measured_role(
        cells(0, 0.2, -0.1), NOTHING | {"rsh_up": SURE, "rsh_down": SURE}, shares, Thresholds()
    )
    assert not both.harmful_reshaping


def test_undefined_cells_say_what_they_need() -> None:
    undefined = dict.fromkeys(
        ("delta", "exp", "rsh", "rsh_up", "rsh_down", "att"), Estimate(reason="needs 17 samples")
    )
    measured = measured_role(undefined, {}, None, Thresholds())
    assert (measured.role, measured.reason) == ("undetermined", "needs 17 samples")
