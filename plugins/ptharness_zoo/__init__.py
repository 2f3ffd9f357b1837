"""The zoo: a tiny, really trained lineage of language models, bundled for demos and tests.

Checkpoints of at most 0.65 M parameters do small string and number tasks. Each stage was trained so
that its effect is known beforehand; README.md beside this file says which and shows the
measurements. `ptharness zoo train` trains all of them again.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["CHECKPOINTS", "DEMO", "MANIFEST", "TRAJECTORIES", "checkpoint"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"
TRAJECTORIES = Path(__file__).parent / "trajectories"
MANIFEST = Path(__file__).parent / "lineage.yaml"
DEMO = Path(__file__).parent / "demo.yaml"


def checkpoint(name: str) -> Path:
    """Return the folder of one bundled checkpoint, for instance ``checkpoint("sft")``."""
    folder = CHECKPOINTS / name
    if not folder.is_dir():
        known = sorted(path.name for path in CHECKPOINTS.glob("*") if path.is_dir())
        msg = f"the zoo has no checkpoint {name!r}; it has {', '.join(known) or 'none yet'}"
        raise FileNotFoundError(msg)
    return folder
