"""Units of one lineage -> tagged tables under its results folder, and their analysis."""

from __future__ import annotations

from ptharness.publish.analysis_tables import default_settings, publish_analysis
from ptharness.publish.folder import Published, is_complete, publish

__all__ = ["Published", "default_settings", "is_complete", "publish", "publish_analysis"]
