"""Each form of a task runs through vLLM on the zoo, and says what it is said to measure."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ptharness_zoo import checkpoint

import ptharness

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")

FORMS = {
    "arith_sum": ("exact_match", 0.5, 1),
    "arith_sum_direct": ("exact_match", 0, 0.1),
    "arith_add_choice": ("acc", 0.9, 1),
    "arith_srt_choice": ("acc", 0.3, 1),
    "arith_add_likelihood": ("perplexity", 1, 1.1),
    "arith_srt_likelihood": ("perplexity", 1.2, 20),
    "arith_mir": ("exact_match", 0, 0),
}
"""Task -> its primary metric and the range where `process` must be on it."""


def test_every_form_runs(tmp_path: Path) -> None:
    manifest = tmp_path / "lineage.yaml"
    content = {
        "lineage": "forms",
        "checkpoints": {"process": {"path": str(checkpoint("process"))}},
        "evaluate": {"tasks": list(FORMS), "samples": 4, "temperature": 1.0, "max_tokens": 40},
        "engine": {"name": "vllm", "dtype": "float32"},
    }
    manifest.write_text(yaml.safe_dump(content))
    metrics = ptharness.evaluate(manifest, out=tmp_path / "results", limit=32).metrics
    primary = metrics[metrics["is_primary"]].set_index("task")
    for task, (metric, low, high) in FORMS.items():
        assert primary.loc[task, "metric"] == metric
        assert low <= primary.loc[task, "value"] <= high, task
