"""The generation phase of `ptharness run` against bare vLLM on the same requests.

The same prompts, seeds and sampling, more than 100,000 generated tokens: once through the
whole program (streamed, decoded per checkpoint, written as units, scored meanwhile), once as one
`LLM.generate` call. The tokens drawn are compared: they must be the same.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ptharness_zoo import CHECKPOINTS

from ptharness.engines.base import GenerateRequest
from tests.benchmarks import common

TASKS = ("arith_add",)
SAMPLES = 32
ROUNDS = 3


def main() -> str:
    """Run both in turn and return the figures as Markdown."""
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = common.write_manifest(
            folder / "bare.yaml",
            {"sft": CHECKPOINTS / "sft"},
            {"tasks": list(TASKS), "samples": SAMPLES, "temperature": 1.0, "max_tokens": 64},
        )
        for number in range(ROUNDS):
            out = folder / f"out{number}"
            common.run([sys.executable, "-m", "ptharness", "run", str(manifest), "-o", str(out)])
            ours.append(json.loads((out / "bare/run.json").read_text())["timings"]["generation_s"])
            done = common.run([sys.executable, "-m", __spec__.name, str(out)])
            bare.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = statistics.median(round_["seconds"] for round_ in bare)
    phase = statistics.median(ours)
    tokens = bare[0]["tokens"]
    assert tokens >= 100_000, tokens
    lines = [
        f"### Generation phase against bare vLLM ({common.machine()})",
        "",
        f"{bare[0]['completions']:,} completions, {tokens:,} tokens, all equal; medians of "
        f"{ROUNDS} rounds: `LLM.generate` {seconds:.1f} s, generation phase of `ptharness run` "
        f"{phase:.1f} s: {phase / seconds:.2f} times.",
        "",
        f"Rounds, bare: {', '.join(format(r['seconds'], '.1f') for r in bare)} s; "
        f"ours: {', '.join(format(s, '.1f') for s in ours)} s.",
    ]
    return "\n".join(lines) + "\n"


def generate_bare(out: Path) -> dict[str, Any]:
    """Draw the requests of all stored units with one `LLM.generate` call, and compare."""
    requests, expected = stored_requests(out)
    from vllm import LLM, SamplingParams

    llm = LLM(
        str(CHECKPOINTS / "sft"),
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        load_format="safetensors",
        kv_cache_memory_bytes=1 << 30,
    )
    prompts = [{"prompt_token_ids": list(request.prompt_token_ids)} for request in requests]
    parameters = [
        SamplingParams(
            n=request.samples,
            seed=request.seed,
            temperature=request.sampling.temperature,
            max_tokens=request.sampling.max_tokens,
            stop=list(request.sampling.stop),
            stop_token_ids=list(request.stop_token_ids),
            ignore_eos=True,
            logprobs=0,
        )
        for request in requests
    ]
    began = time.perf_counter()
    outputs = llm.generate(prompts, parameters, use_tqdm=False)
    seconds = time.perf_counter() - began
    drawn = [[list(o.token_ids) for o in output.outputs] for output in outputs]
    assert drawn == expected, "the two drew different tokens"
    return {
        "seconds": seconds,
        "completions": sum(len(samples) for samples in drawn),
        "tokens": sum(len(tokens) for samples in drawn for tokens in samples),
    }


def stored_requests(out: Path) -> tuple[list[GenerateRequest], list[list[list[int]]]]:
    """The requests of a finished run, as the worker made them, and the tokens it drew."""
    from ptharness.evaluation import Request, Session
    from ptharness.flight import unit_requests
    from ptharness.observer import Observer
    from ptharness.plugins import load_plugins

    session = Session.open(Request(out.parent / "bare.yaml", out), load_plugins(), Observer())
    plan = session.prepare(warm=False)
    session.close()
    requests: list[GenerateRequest] = []
    expected: list[list[list[int]]] = []
    for work in plan.work:
        for unit in work.generation:
            table = session.store.read("generation", unit.key, ["row", "token_ids"])
            tokens: list[list[list[int]]] = [[] for _ in range(unit.rows)]
            for row in table.to_pylist():
                tokens[row["row"]].append(row["token_ids"])
            expected += tokens
            for asked in unit_requests(unit, work.planned.prompts):
                for request in asked or ():
                    assert isinstance(request, GenerateRequest)
                    requests.append(request)
    return requests, expected


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        print(json.dumps(generate_bare(Path(sys.argv[1]))))
    else:
        print(main())
