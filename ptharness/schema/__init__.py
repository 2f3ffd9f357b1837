"""Every Arrow schema: the only place where columns are named.

A field's metadata says what it means and in which unit; docs/reference/tables.md is
generated from it.
"""

from __future__ import annotations

from ptharness.schema.analysis import ANALYSIS, CERTIFIED, EDGES, MEASURES, RETENTION, VERDICTS
from ptharness.schema.columns import TAGS
from ptharness.schema.likelihoods import DISTANCES, LIKELIHOODS, PROVENANCE, TOKEN_LIKELIHOODS
from ptharness.schema.published import CHECKPOINTS, DOCUMENTS, ITEMS, METRICS, PUBLISHED, SAMPLES
from ptharness.schema.units import AGGREGATES, GENERATIONS, PROMPTS, SCORES

SCHEMA_VERSION = "1"

__all__ = [
    "AGGREGATES",
    "ANALYSIS",
    "CERTIFIED",
    "CHECKPOINTS",
    "DISTANCES",
    "DOCUMENTS",
    "EDGES",
    "GENERATIONS",
    "ITEMS",
    "LIKELIHOODS",
    "MEASURES",
    "METRICS",
    "PROMPTS",
    "PROVENANCE",
    "PUBLISHED",
    "RETENTION",
    "SAMPLES",
    "SCHEMA_VERSION",
    "SCORES",
    "TAGS",
    "TOKEN_LIKELIHOODS",
    "VERDICTS",
]
