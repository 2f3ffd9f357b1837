"""Run every benchmark and print its figures as Markdown, for docs/benchmarks.md."""

from __future__ import annotations

from tests.benchmarks import against_lm_eval, analysis_scale, generation_overhead

for benchmark in (generation_overhead, against_lm_eval, analysis_scale):
    print(benchmark.main(), flush=True)
