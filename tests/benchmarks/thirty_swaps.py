"""One vLLM through thirty swaps with requests between them: its memory, and a swap's seconds.

Beside the swaps stands what they save: the same checkpoints, each in a fresh engine of the same
process. The memory is the process's resident set.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from ptharness.engines.base import EngineSettings, GenerateRequest
from ptharness.engines.vllm import VllmEngine
from ptharness.lineage import Checkpoint
from ptharness.protocol import Sampling, derive_seed
from tests.benchmarks import common

SWAPS = 30
COLD_STARTS = 6
REQUESTS = 200
SETTINGS = EngineSettings("vllm", {"dtype": "float32"}, needed_tokens=128)
SHOWN = (0, 1, 5, 10, 20, 30)


def main() -> str:
    """Swap, then start afresh, and return the figures as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        paths = common.six_checkpoints(Path(name))
        checkpoints = [Checkpoint(name, path, str(path)) for name, path in paths.items()]
        engine = VllmEngine(SETTINGS)
        memory, swaps = [], []
        for checkpoint in islice(cycle(checkpoints), SWAPS + 1):
            report = engine.load(checkpoint)
            if memory:
                assert (report.how, report.verified) == ("swap", True), report
                swaps.append(report.seconds)
            assert sum(1 for _ in engine.generate(requests())) == REQUESTS
            memory.append(resident_mib())
        engine.close()
        starts, after_starts = [], []
        for checkpoint in islice(cycle(checkpoints), COLD_STARTS):
            engine = VllmEngine(SETTINGS)
            starts.append(engine.load(checkpoint).seconds)
            assert sum(1 for _ in engine.generate(requests())) == REQUESTS
            after_starts.append(resident_mib())
            engine.close()
    lines = [
        f"### Thirty swaps in one process ({common.machine()})",
        "",
        f"| swaps | {' | '.join(map(str, SHOWN))} |",
        f"|---|{'---|' * len(SHOWN)}",
        f"| resident memory MiB | {' | '.join(f'{memory[n]:.0f}' for n in SHOWN)} |",
        "",
        f"From swap 5 to swap {SWAPS} the memory grew by {memory[SWAPS] - memory[5]:.1f} MiB. A "
        f"swap took {statistics.median(swaps):.2f} s (median; {max(swaps):.2f} s the longest), a "
        f"cold start in the same process {statistics.median(starts):.2f} s; over {COLD_STARTS} "
        f"cold starts the memory went from {after_starts[0]:.0f} to {after_starts[-1]:.0f} MiB.",
    ]
    return "\n".join(lines) + "\n"


def requests() -> Iterator[GenerateRequest]:
    """Requests of twenty token ids, all different."""
    sampling = Sampling(temperature=1.0, max_tokens=32)
    for index in range(REQUESTS):
        prompt = tuple(6 + (index * 7 + 3 * place) % 40 for place in range(20))
        yield GenerateRequest(index, prompt, 1, derive_seed(index), sampling)


def resident_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    print(main())
