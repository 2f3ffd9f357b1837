"""Adapters side by side in one engine, against one at a time, and against swapped merged weights.

The same requests of eight adapters on the zoo's sft, greedy, in one process: few requests for
each, where one adapter alone leaves most of a batch empty, and many. Each way runs once to warm up;
of the rounds after that the medians are shown. The tokens are compared.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ptharness_zoo import CHECKPOINTS

from ptharness.engines.base import EngineSettings, GenerateRequest, LoadReport
from ptharness.engines.vllm import VllmEngine
from ptharness.engines.vllm_start import prepare_environment
from ptharness.lineage import Checkpoint
from ptharness.protocol import Sampling, derive_seed
from tests.benchmarks import common
from tests.engines.lora import make_adapter, merge

ADAPTERS = 8
RANK = 8
REQUESTS = (8, 200)
ROUNDS = 3
SETTINGS = EngineSettings("vllm", {"dtype": "float32"}, needed_tokens=128)
Tokens = dict[tuple[str, int], tuple[int, ...]]


def main() -> str:
    """Run the three ways and return the figures as Markdown."""
    # As a worker does, before torch is imported: it decides on the number of threads.
    prepare_environment()
    lines = [
        f"### {ADAPTERS} adapters of rank {RANK} ({common.machine()})",
        "",
        "| requests per adapter | way | loading s | generation s | tokens/s |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder, sft = Path(name), CHECKPOINTS / "sft"
        adapters, merged = [], []
        for seed in range(ADAPTERS):
            path = make_adapter(folder / f"a{seed}", sft, seed=seed, rank=RANK, scale=0.08)
            adapters.append(Checkpoint(path.name, sft, path.name, adapter=path))
            merged.append(Checkpoint(path.name, merge(path, sft, folder / f"m{seed}"), path.name))
        # The first start of a process also imports vLLM.
        engine = VllmEngine(SETTINGS)
        engine.load(merged[0])
        ways = {
            "merged, swapped": lambda count: one_by_one(engine, merged, count),
            "adapters, one at a time": lambda count: one_by_one(engine, adapters, count),
            "adapters, side by side": lambda count: side_by_side(engine, adapters, count),
        }
        for count in REQUESTS:
            found = []
            for way, run in ways.items():
                run(count)
                rounds = [run(count) for _ in range(ROUNDS)]
                found.append(rounds[0][2])
                loading, seconds = (statistics.median(r[n] for r in rounds) for n in (0, 1))
                tokens = sum(map(len, found[-1].values()))
                lines.append(
                    f"| {count} | {way} | {loading:.2f} | {seconds:.2f} | {tokens / seconds:,.0f} |"
                )
            assert all(other == found[0] for other in found), "the tokens differ"
        engine.close()
    lines += ["", "All ways draw the same tokens. Starting the engine anew is not in the seconds."]
    return "\n".join(lines) + "\n"


def one_by_one(
    engine: VllmEngine, checkpoints: Sequence[Checkpoint], count: int
) -> tuple[float, float, Tokens]:
    """Seconds of loading and of generation, and the tokens drawn."""
    loading = seconds = 0.0
    tokens: Tokens = {}
    for checkpoint in checkpoints:
        loading += engine.load(checkpoint).seconds
        began = time.perf_counter()
        tokens |= drawn(engine, list(requests(checkpoint.name, count)))
        seconds += time.perf_counter() - began
    return loading, seconds, tokens


def side_by_side(
    engine: VllmEngine, checkpoints: Sequence[Checkpoint], count: int
) -> tuple[float, float, Tokens]:
    """The same with every adapter loaded, its requests in turn with the others'."""
    reports = engine.load_adapters(checkpoints)
    loading = sum(report.seconds for report in reports if isinstance(report, LoadReport))
    turns = zip(*(requests(checkpoint.name, count) for checkpoint in checkpoints), strict=True)
    began = time.perf_counter()
    tokens = drawn(engine, [request for turn in turns for request in turn])
    return loading, time.perf_counter() - began, tokens


def requests(checkpoint: str, count: int) -> Iterator[GenerateRequest]:
    """Requests of twenty token ids, all different."""
    sampling = Sampling(temperature=0.0, max_tokens=32)
    for index in range(count):
        prompt = tuple(6 + (index * 7 + 3 * place) % 40 for place in range(20))
        yield GenerateRequest(
            index, prompt, 1, derive_seed(index), sampling, (), checkpoint=checkpoint
        )


def drawn(engine: VllmEngine, asked: list[GenerateRequest]) -> Tokens:
    """The tokens of each checkpoint's requests."""
    numbered = [
        GenerateRequest(number, one.prompt_token_ids, 1, one.seed, one.sampling, (), one.checkpoint)
        for number, one in enumerate(asked)
    ]
    return {
        (asked[result.index].checkpoint, asked[result.index].index): result.completions[0].token_ids
        for result in engine.generate(numbered)
    }


if __name__ == "__main__":
    print(main())
