"""Run every benchmark and print its figures as Markdown, for docs/benchmarks.md."""

from __future__ import annotations

from tests.benchmarks import (
    adapters,
    against_lm_eval,
    analysis_scale,
    generation_overhead,
    log_likelihoods,
    start_up,
    thirty_swaps,
)

for benchmark in (
    start_up,
    generation_overhead,
    against_lm_eval,
    analysis_scale,
    adapters,
    log_likelihoods,
    thirty_swaps,
):
    print(benchmark.main(), flush=True)
