"""Log-likelihoods: our vLLM engine against lm-eval's `vllm` and `hf` backends.

One random Llama with a vocabulary of 8,192 words, in float32; three workloads of token ids that
all three see alike. Each program runs in a process of its own, its model loaded and warm; only the
scoring is timed, once, since it takes minutes. The values are compared.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import common
from tests.benchmarks.against_lm_eval import named_vllm

WORDS, POSITIONS = 8192, 512
WINDOW = 509
"""Tokens that a rolling window scores: what all three can take with a position to spare."""
PROGRAMS = ("ptharness", "lm-eval vllm", "lm-eval hf")
WORKLOADS = ("choices of 6 tokens", "choices of one token", "rolling")

Pair = tuple[str, str]


def main() -> str:
    """Time all three programs and return the figures as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(folder / "checkpoint")
        found = {program: run_program(folder, program) for program in PROGRAMS}
    lines = [
        f"### Log-likelihoods ({common.machine()})",
        "",
        f"| | {' | '.join(f'{program} s' for program in PROGRAMS)} | times `vllm` | times `hf` | "
        "largest difference nats |",
        "|---|---|---|---|---|---|---|",
    ]
    for workload in WORKLOADS:
        seconds = {program: found[program][workload]["seconds"] for program in PROGRAMS}
        ours = found["ptharness"][workload]["values"]
        worst = max(
            abs(a - b)
            for program in PROGRAMS[1:]
            for a, b in zip(ours, found[program][workload]["values"], strict=True)
        )
        lines.append(
            f"| {workload} | {' | '.join(f'{seconds[p]:.2f}' for p in PROGRAMS)} | "
            f"{seconds['lm-eval vllm'] / seconds['ptharness']:.1f} | "
            f"{seconds['lm-eval hf'] / seconds['ptharness']:.1f} | {worst:.1e} |"
        )
    return "\n".join(lines) + "\n"


def pairs(workload: str) -> list[Pair]:
    """Contexts and continuations as text; of a rolling workload the texts beside nothing."""
    generator = random.Random(workload)

    def words(count: int) -> str:
        return " ".join(f"w{generator.randrange(WORDS - 8)}" for _ in range(count))

    if workload == "rolling":
        return [("", words(4000)) for _ in range(20)]
    items, length, rest = (250, 300, 6) if workload == "choices of 6 tokens" else (500, 10, 1)
    made = []
    for _ in range(items):
        context = words(length)
        made += [(context, f" {words(rest)}") for _ in range(4)]
    return made


def write_checkpoint(directory: Path) -> None:
    """A random Llama and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    vocabulary = {
        word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(WORDS - 4))])
    }
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(directory)


def run_program(folder: Path, program: str) -> dict[str, Any]:
    """Seconds and values of every workload, from a process of its own."""
    # All three with a thread per core: beside scorers, ours would leave one core to them.
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    if program == "lm-eval vllm":
        environment |= {"PYTHONPATH": f"{named_vllm(folder)}:{Path.cwd()}"}
    result = folder / "result.json"
    words = [sys.executable, "-m", "tests.benchmarks.log_likelihoods", program]
    common.run([*words, str(folder / "checkpoint"), str(result)], env=environment)
    return dict(json.loads(result.read_text()))


def measure(program: str, checkpoint: Path) -> dict[str, Any]:
    """Load, warm up, and time every workload."""
    score = SCORERS[program](checkpoint)
    found = {}
    for workload in WORKLOADS:
        asked = pairs(workload)
        warm = score(workload, asked[:8])
        assert len(warm) == 8
        began = time.perf_counter()
        values = score(workload, asked)
        found[workload] = {"seconds": time.perf_counter() - began, "values": values}
    return found


Score = Callable[[str, list[Pair]], list[float]]


def ours(checkpoint: Path) -> Score:
    """Our vLLM engine: encodes as the program does, then scores."""
    from ptharness.context import rolling_windows
    from ptharness.engines.base import EngineSettings, ScoreRequest
    from ptharness.engines.vllm import VllmEngine
    from ptharness.lineage import Checkpoint
    from ptharness.tasks.encoding import PromptEncoder
    from ptharness.tokenizer import load_tokenizer

    engine = VllmEngine(EngineSettings("vllm", {"dtype": "float32"}, needed_tokens=POSITIONS))
    engine.load(Checkpoint("random", checkpoint, str(checkpoint)))
    encoder = PromptEncoder(load_tokenizer(checkpoint))

    def score(workload: str, asked: list[Pair]) -> list[float]:
        # Its prefix cache would remember what it was warmed up with.
        engine._require_running().llm.reset_prefix_cache()
        windows: list[tuple[int, Any]] = []
        if workload == "rolling":
            for place, (_, text) in enumerate(asked):
                ids = encoder.tokenizer(text)["input_ids"]
                cut = rolling_windows([encoder.prefix_token_id()], ids, WINDOW + 1)
                windows += [(place, window) for window in cut]
        else:
            windows = list(enumerate(encoder.pairs(asked)))
        requests = [
            ScoreRequest(i, tuple(context), tuple(rest))
            for i, (_, (context, rest)) in enumerate(windows)
        ]
        sums = [0.0] * len(asked)
        for result in engine.score(requests):
            sums[windows[result.index][0]] += sum(result.token_logprobs_nats)
        return sums

    return score


def lm_eval(make: Callable[[Path], Any]) -> Callable[[Path], Score]:
    """One of lm-eval's models."""

    def load(checkpoint: Path) -> Score:
        from lm_eval.api.instance import Instance

        model = make(checkpoint)

        def score(workload: str, asked: list[Pair]) -> list[float]:
            kind = "loglikelihood_rolling" if workload == "rolling" else "loglikelihood"
            arguments = [(text,) if kind != "loglikelihood" else (c, text) for c, text in asked]
            if hasattr(model, "model") and hasattr(model.model, "reset_prefix_cache"):
                model.model.reset_prefix_cache()
            instances = [
                Instance(request_type=kind, doc={}, arguments=one, idx=0, metadata=("", i, 1))
                for i, one in enumerate(arguments)
            ]
            results = getattr(model, kind)(instances, disable_tqdm=True)
            return [float(r if isinstance(r, float) else r[0]) for r in results]

        return score

    return load


def make_vllm(checkpoint: Path) -> Any:
    from lm_eval.models.vllm_causallms import VLLM

    from ptharness.engines.vllm_start import KV_CACHE_BYTES_ON_CPU

    model = VLLM(
        pretrained=str(checkpoint),
        dtype="float32",
        enforce_eager=True,
        kv_cache_memory_bytes=KV_CACHE_BYTES_ON_CPU,
        batch_size="auto",
    )
    # Its windows leave one position to the context and one to what is generated.
    model._max_length = WINDOW + 2
    return model


def make_hf(checkpoint: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(
        pretrained=str(checkpoint),
        dtype="float32",
        device="cpu",
        batch_size=16,
        max_length=WINDOW,
    )


SCORERS: dict[str, Callable[[Path], Score]] = {
    "ptharness": ours,
    "lm-eval vllm": lm_eval(make_vllm),
    "lm-eval hf": lm_eval(make_hf),
}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        name, directory, output = sys.argv[1:]
        Path(output).write_text(json.dumps(measure(name, Path(directory))))
    else:
        print(main())
