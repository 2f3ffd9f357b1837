"""Six checkpoints x two tasks: `ptharness run` against lm-eval's command line with `hf`.

Both decode greedily, one sample of each of 2 x 200 documents, in float32 with the chat template,
and their exact_match values are compared. lm-eval starts once per checkpoint, as its users
do; ours starts one engine. Times are wall-clock, split where each program says that it begins
or ends generating.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from ptharness_tasks import TASKS as FOLDER

from tests.benchmarks import common

TASKS = ("arith_add", "arith_rot")
MAX_TOKENS = 64
BATCH_SIZE = 64


def main() -> str:
    """Run both, check that they agree, and return the figures as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoints = common.six_checkpoints(folder)
        ours, our_values = run_ptharness(folder, checkpoints)
        theirs, their_values = [], {}
        for checkpoint, path in checkpoints.items():
            split, values = run_lm_eval(folder, path)
            theirs.append(split)
            their_values |= {(checkpoint, task): value for task, value in values.items()}
    worst = max(abs(our_values[key] - their_values[key]) for key in their_values)
    total = {key: sum(split[key] for split in theirs) for key in theirs[0]}
    rows = [("lm-eval hf, one process per checkpoint", total), ("ptharness run, one engine", ours)]
    lines = [
        f"### Six checkpoints x two tasks ({common.machine()})",
        "",
        "| | start-up s | generation s | scoring and writing s | all s |",
        "|---|---|---|---|---|",
        *(
            f"| {label} | {t['startup']:.1f} | {t['generation']:.1f} | {t['rest']:.1f} | "
            f"{t['all']:.1f} |"
            for label, t in rows
        ),
        "",
        f"{total['all'] / ours['all']:.1f} times faster; engine starts: {ours['starts']:.0f}; "
        f"largest difference of an exact_match value: {worst:.4f}.",
    ]
    return "\n".join(lines) + "\n"


def run_ptharness(
    folder: Path, checkpoints: dict[str, Path]
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Wall-clock split and values of one `ptharness run`."""
    manifest = common.write_manifest(
        folder / "six.yaml", checkpoints, {"tasks": list(TASKS), "max_tokens": MAX_TOKENS}
    )
    began = time.perf_counter()
    common.run([sys.executable, "-m", "ptharness", "run", str(manifest), "-o", str(folder / "out")])
    total = time.perf_counter() - began
    run = json.loads((folder / "out/six/run.json").read_text())
    assert not run["failures"], run["failures"]
    generation = run["timings"]["generation_s"]
    rest = run["timings"]["scoring_after_generation_s"] + run["timings"]["publish_s"]
    metrics = pd.read_parquet(folder / "out/six/metrics.parquet")
    metrics = metrics[metrics.is_primary]
    values = {(row.checkpoint, row.task): row.value for row in metrics.itertuples()}
    starts = sum(load["how"] == "cold" for load in run["engine_loads"])
    return {
        "startup": total - generation - rest,
        "generation": generation,
        "rest": rest,
        "all": total,
        "starts": starts,
    }, values


def run_lm_eval(folder: Path, checkpoint: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Wall-clock split and values of lm-eval's command line on one checkpoint."""
    output = folder / f"lm_eval-{checkpoint.name}"
    words = [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"),
        *("--model_args", f"pretrained={checkpoint},dtype=float32"),
        *("--tasks", ",".join(TASKS), "--include_path", str(FOLDER / "arith")),
        *("--batch_size", str(BATCH_SIZE), "--apply_chat_template"),
        *("--gen_kwargs", f"max_gen_toks={MAX_TOKENS}", "--output_path", str(output)),
    ]
    began = time.perf_counter()
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=FOLDER / "arith"
    )
    assert process.stderr is not None
    generating = finished = None
    log = b""
    # tqdm separates its updates by carriage returns: read what there is.
    while chunk := process.stderr.read1(4096):
        log += chunk
        now = time.perf_counter() - began
        if generating is None and b"Running generate_until requests" in log:
            generating = now
        if generating is not None and b"Running generate_until requests: 100%" in log:
            finished = finished or now
    if process.wait():
        sys.exit(f"lm_eval failed:\n{log[-3000:].decode(errors='replace')}")
    total = time.perf_counter() - began
    assert generating is not None, "lm-eval did not say when it began to generate"
    assert finished is not None, "lm-eval did not say when it had generated"
    [results] = output.rglob("results_*.json")
    tables = json.loads(results.read_text())["results"]
    values = {
        task: next(v for k, v in tables[task].items() if k.startswith("exact_match,"))
        for task in TASKS
    }
    return {
        "startup": generating,
        "generation": finished - generating,
        "rest": total - finished,
        "all": total,
    }, values


if __name__ == "__main__":
    print(main())
