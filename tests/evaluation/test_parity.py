"""The whole way, vLLM and tables included, against lm-eval's own evaluator with `hf`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ptharness_tasks import TASKS
from ptharness_zoo import CHECKPOINTS

import ptharness

NAMES = ("arith_rev", "arith_add", "arith_add_choice")
LIMIT = 48


@pytest.mark.vllm
def test_metrics_table_equals_lm_evals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = {
        "lineage": "parity",
        "checkpoints": {
            "base": {"path": str(CHECKPOINTS / "base")},
            "sft": {"path": str(CHECKPOINTS / "sft"), "parent": "base", "method": "sft"},
        },
        "evaluate": {"tasks": list(NAMES)},
        "engine": {"name": "vllm", "dtype": "float32"},
    }
    path = tmp_path / "lineage.yaml"
    path.write_text(yaml.safe_dump(manifest))
    results = ptharness.evaluate(path, tmp_path / "out", limit=LIMIT)
    assert results.run["failures"] == []
    ours = results.metrics.set_index(["checkpoint", "task", "metric", "filter"])

    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    # Relative data files are found from the working folder there.
    monkeypatch.chdir(TASKS / "arith")
    manager = TaskManager(include_path=str(TASKS / "arith"), include_defaults=False)
    compared = 0
    for name in ("base", "sft"):
        theirs = simple_evaluate(
            model="hf",
            model_args=f"pretrained={CHECKPOINTS / name},dtype=float32",
            tasks=list(NAMES),
            task_manager=manager,
            apply_chat_template=True,
            limit=LIMIT,
            batch_size=16,
            device="cpu",
        )["results"]
        for task in NAMES:
            for key, value in theirs[task].items():
                metric, _, filter_ = key.partition(",")
                if not filter_ or metric.endswith("_stderr"):
                    continue
                row = ours.loc[(name, task, metric, filter_)]
                assert row["value"] == value, (name, task, key)
                assert row["stderr"] == pytest.approx(
                    theirs[task][f"{metric}_stderr,{filter_}"], rel=1e-12
                )
                assert (row["n"], row["samples"]) == (LIMIT, 1)
                compared += 1
    assert compared == 2 * 4, "exact_match twice, acc and acc_norm, of two checkpoints"
