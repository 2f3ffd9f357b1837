"""The zoo: a tiny, really trained lineage of language models, bundled for demos and tests.

Five checkpoints of at most 0.65 M parameters do small string and number tasks.  Each stage was
trained so that its effect is known beforehand; README.md beside this file says which and shows
the measurements.  ``python -m ptharness_zoo.recipe`` trains all of them again.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["CHECKPOINTS", "MANIFEST", "checkpoint"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"
MANIFEST = Path(__file__).parent / "lineage.yaml"


def checkpoint(name: str) -> Path:
    """Return the folder of one bundled checkpoint, for instance ``checkpoint("sft")``."""
    folder = CHECKPOINTS / name
    if not (folder / "config.json").is_file():
        known = sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json"))
        msg = f"the zoo has no checkpoint {name!r}; it has {', '.join(known) or 'none yet'}"
        raise FileNotFoundError(msg)
    return folder
