"""How far has each checkpoint moved from each other? Every one's samples, judged by all others.

    checkpoints x tasks ──> own samples at temperature 1 ──> a text set per checkpoint x task
    text sets x checkpoints ──> likelihoods, or whole distributions ──> distances

Text sets are prompt sets like any other, so L checkpoints cost L swaps, not L x L starts. Where the
engine gives whole distributions, the writer judges its samples too, and both are summed up exactly.
Between vocabularies there is no divergence; there the judge reads the text in its own tokens.
"""

from __future__ import annotations

from ptharness.distances.measure import DistanceSettings, measure_distances
from ptharness.distances.pairs import Method

__all__ = ["DistanceSettings", "Method", "measure_distances"]
