"""Lineages found on disk: folders -> evidence -> parents -> a manifest with its doubts marked.

Read in this order: `folders` (which folders are checkpoints), `weights` (how far apart two are),
`references` (what a folder calls its parent), `parents` (who came from whom), `lineage` (all
together), `manifest_text` (the YAML). docs/explanation/discovery.md gives the reasoning.
"""

from ptharness.discovery.lineage import Discovery, discover
from ptharness.discovery.manifest_text import manifest_text, questions_in

__all__ = ["Discovery", "discover", "manifest_text", "questions_in"]
