"""A whole run with prompts that do not fit the context of one of the checkpoints."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.evaluation.conftest import Command, Toys


def write_config(folder: Path, **keys: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


@pytest.fixture
def tight(toys: Toys) -> Toys:
    """Prompts of 8 to 57 tokens; `grpo` has 40 positions, others no limit."""
    write_config(toys.folder / "checkpoints" / "grpo", max_position_embeddings=40)
    toys.task(documents=50, lengths=list(range(8, 58)))
    return toys


def test_what_does_not_fit_is_counted_and_the_rest_is_evaluated(tight: Toys) -> None:
    results = tight.run()
    assert results.run["failures"] == []
    samples = results.samples
    own = samples[samples.checkpoint == "grpo"]
    assert len(own) == 50 * 20
    # A prompt of 40 tokens leaves no room for one more.
    unasked = own[own.finish_reason == "too_long"]
    assert sorted(set(unasked.prompt_tokens)) == list(range(40, 58))
    assert len(unasked) == 18 * 20
    assert not unasked.correct.any()
    assert unasked.error.str.contains("does not fit: a request may have 40").all()
    assert unasked.completion.isna().all()
    assert unasked.logprob_nats.isna().all()
    asked = own[own.finish_reason != "too_long"]
    assert asked.correct.mean() > 0.3
    assert (asked.prompt_tokens + asked.completion_tokens <= 40).all()
    others = samples[samples.checkpoint != "grpo"]
    assert not (others.finish_reason == "too_long").any()


def test_the_share_stands_beside_the_accuracy(tight: Toys) -> None:
    results = tight.run()
    metrics = results.metrics.set_index(["checkpoint", "metric"]).value
    assert metrics["grpo", "too_long_rate"] == pytest.approx(18 / 50)
    assert ("sft", "too_long_rate") not in metrics
    correct = results.samples[results.samples.checkpoint == "grpo"].correct
    assert metrics["grpo", "exact_match"] == pytest.approx(correct.mean())
    by_name = {entry["checkpoint"]: entry for entry in results.run["evaluated"]}
    assert (by_name["grpo"]["context"], by_name["grpo"]["too_long"]) == (40, 18)
    # 16 new tokens: prompts of 25 to 39 tokens have less room.
    assert by_name["grpo"]["shortened"] == 15
    assert (by_name["sft"]["too_long"], by_name["sft"]["shortened"]) == (0, 0)


def test_a_task_of_which_nothing_fits_fails_by_name(toys: Toys) -> None:
    write_config(toys.folder / "checkpoints" / "grpo", max_position_embeddings=8)
    results = toys.run()
    (failure,) = results.run["failures"]
    assert (failure["checkpoint"], failure["task"]) == ("grpo", "toy")
    assert "none of its 100 prompts fits" in failure["message"]
    assert set(results.samples.checkpoint) == {"base", "sft"}


def test_a_person_and_a_program_are_told(tight: Toys, command: Command) -> None:
    manifest = tight.folder / "lineage.yaml"
    done = subprocess.run(
        command("run", manifest, "-o", tight.out), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert "grpo x toy: 18 of 50 prompts do not fit and count as failed" in done.stderr
    assert "15 of 50 leave less than max_tokens" in done.stderr
    assert "too long 36.0 %" in done.stdout
    planned = subprocess.run(
        command("plan", manifest, "-o", tight.out, "--json"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    rows = {row["checkpoint"]: row for row in json.loads(planned.stdout)["work"]}
    assert rows["grpo"]["prompts_too_long"] == 18
    assert rows["base"]["prompts_too_long"] == 0


def test_a_comparison_and_the_report_say_so_too(tight: Toys, command: Command) -> None:
    results = tight.run()
    done = subprocess.run(
        command("compare", results.path, "sft", "grpo"), capture_output=True, text=True, timeout=120
    )
    assert "prompts too long for the context on toy: sft 0.0 %, grpo 36.0 %" in done.stdout
    page = (results.path / "report.html").read_text()
    assert "grpo 36.0 % of prompts did not fit the context and count as failed." in page
