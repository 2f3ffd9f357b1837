"""Were a stage's trajectories its parent's own words? Asks the parent, scores, and publishes.

    a stage's trajectories ─┬─> their prompts, asked of the parent ──> own samples ─┐
                            └─> scored by the parent ──────────────> likelihoods ───┴─> table

Both are units like any other: stored, resumed, grouped so that a parent is loaded once.
"""

from __future__ import annotations

from ptharness.provenance.measure import measure_provenance
from ptharness.provenance.rewards import RewardFunction
from ptharness.provenance.settings import ProvenanceSettings

__all__ = ["ProvenanceSettings", "RewardFunction", "measure_provenance"]
