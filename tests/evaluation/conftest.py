"""A lineage of three small folders, the toy task and the fake engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptharness.evaluation import Request, run
from ptharness.observer import Observer
from ptharness.plugins import load_plugins
from ptharness.results import Results
from tests.conftest import write_checkpoint, write_safetensors

PLUGIN = Path(__file__).parent / "toy_plugin.py"

MANIFEST = """\
lineage: toys
checkpoints:
  base: {{path: checkpoints/base}}
  sft: {{path: checkpoints/sft, parent: base, method: sft}}
  grpo: {{path: checkpoints/grpo, parent: sft, method: grpo, step: 3}}
evaluate:
  tasks: [toy]
  samples: 20
engine: {engine}
"""


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    """The lineage in `tmp_path`, with different weights in each folder."""
    for value, name in enumerate(("base", "sft", "grpo")):
        folder = write_checkpoint(tmp_path / "checkpoints" / name)
        write_safetensors(folder / "model.safetensors", float(value))
    toys = Toys(tmp_path)
    toys.manifest()
    toys.task()
    return toys


class Toys:
    """A folder with a lineage to run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "results"

    def manifest(self, *replacements: str, **engine: Any) -> Path:
        """Write the manifest, with engine options and pieces of its text replaced."""
        options = {"name": "fake", "answer": "42", "success": 0.5, **engine}
        text = MANIFEST.format(engine=json.dumps(options))
        for old, new in zip(replacements[::2], replacements[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "lineage.yaml"
        path.write_text(text)
        return path

    def task(self, name: str = "toy", **behaviour: Any) -> None:
        """Write what a toy task does."""
        (self.folder / f"{name}.json").write_text(json.dumps(behaviour))

    def run(self, observer: Observer | None = None, **options: Any) -> Results:
        """Run the lineage in this process (with real child processes)."""
        request = Request(self.folder / "lineage.yaml", self.out, **options)
        return run(request, load_plugins([PLUGIN]), observer or Observer())[0]

    def units(self, kind: str) -> dict[str, int]:
        """Keys of the stored units of a kind, with their inodes: a rewritten unit shows."""
        paths = (self.out / "units" / kind).rglob("*.parquet")
        return {path.stem: path.stat().st_ino for path in paths}


Command = Callable[..., list[str]]


@pytest.fixture
def command() -> Command:
    """The real command line with the toy plugin."""
    import sys

    def make(*arguments: object) -> list[str]:
        words = [sys.executable, "-m", "ptharness", "--plugin", PLUGIN, *arguments]
        return [str(word) for word in words]

    return make
