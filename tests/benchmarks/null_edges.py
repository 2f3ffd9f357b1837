"""How often is a stage that did nothing called something? Fifty pairs of runs of one checkpoint.

Each pair is two runs of the bundled sft checkpoint with streams of their own, analysed alone with
the default settings, as the null edge of the zoo is. Printed as Markdown.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from ptharness_zoo import CHECKPOINTS

import ptharness
from ptharness.analysis.inputs import Inputs
from ptharness.analysis.tables import analyse
from ptharness.analysis_settings import Settings
from ptharness.publish.analysis_tables import read_inputs

PAIRS = 50
TASKS = ("arith_rot", "arith_rev", "arith_sum", "arith_swp", "arith_mul")
DOCUMENTS = 24


def main(out: Path | None = None) -> str:
    """Generate the runs into `out`, analyse each pair, and describe what was called."""
    with tempfile.TemporaryDirectory() as folder:
        results = ptharness.evaluate(
            _manifest(Path(folder)), out or Path(folder) / "results", limit=DOCUMENTS
        )
        inputs = read_inputs(results)
    pooled: Counter[str] = Counter()
    task: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    for pair in range(PAIRS):
        verdicts = analyse(_only(inputs, pair), Settings())["verdicts"].to_pylist()
        for row in verdicts:
            (pooled if row["scope"] == "pooled" else task)[row["role_measured"]] += 1
            flags["attrition"] += row["attrition"]
            flags["harmful reshaping"] += row["harmful_reshaping"]
    lines = ["| measured | pooled | per task |", "|---|---|---|"]
    lines += [f"| {role} | {pooled[role]} | {task[role]} |" for role in {**pooled, **task}]
    return "\n".join([*lines, "", f"flags: {dict(flags)}"])


def _manifest(folder: Path) -> Path:
    path = str(CHECKPOINTS / "sft")
    manifest = {
        "lineage": "null",
        "checkpoints": {
            f"run-{number}": {"path": path, "replicate": number} for number in range(2 * PAIRS)
        },
        "evaluate": {
            "tasks": list(TASKS),
            "samples": 32,
            "temperature": 1.0,
            "max_tokens": 40,
        },
        "engine": {"name": "vllm", "dtype": "float32"},
    }
    file = folder / "null.yaml"
    file.write_text(yaml.safe_dump(manifest, sort_keys=False))
    return file


def _only(inputs: Inputs, pair: int) -> Inputs:
    """The two runs of a pair, as if nothing else had been evaluated."""
    names = pa.array([f"run-{2 * pair}", f"run-{2 * pair + 1}"])
    checkpoints = inputs.checkpoints.filter(pc.is_in(inputs.checkpoints["checkpoint"], names))
    return Inputs(checkpoints, inputs.counts, inputs.asked, inputs.tags)


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
