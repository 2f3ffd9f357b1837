"""Units of one lineage -> tagged tables under its results folder."""

from __future__ import annotations

from ptharness.publish.folder import Published, is_complete, publish

__all__ = ["Published", "is_complete", "publish"]
