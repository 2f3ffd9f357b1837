"""Evaluate every checkpoint of a post-training lineage, and measure what each stage did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ptharness.evaluation import evaluate
    from ptharness.results import Results

_PUBLIC = {"Results": "ptharness.results", "evaluate": "ptharness.evaluation"}

__all__ = ["Results", "__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    """Load the public names when first used: `import ptharness` alone costs nothing."""
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'ptharness' has no attribute {name!r}")
