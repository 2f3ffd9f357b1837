"""What the counts say: estimators with intervals, each saying when it is undefined.

Arrays in, values out: no files, no engine, no lineage. docs/explanation/measurement.md explains
them to the researcher.
"""

from ptharness.analysis.decomposition import Decomposition, decompose
from ptharness.analysis.resampling import Estimate

__all__ = ["Decomposition", "Estimate", "decompose"]
