"""A whole run with prompts that do not fit the context of one of the checkpoints."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ptharness.cli import main
from ptharness.evaluation import Request, Session
from ptharness.observer import Observer
from ptharness.plugins import load_plugins
from tests.evaluation.conftest import PLUGIN, Command, Toys


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


def planned(toys: Toys, limit: int | None) -> tuple[dict[str, str], list[str]]:
    """Messages of failures by checkpoint, and the checkpoints that an engine would start for."""
    request = Request(toys.folder / "lineage.yaml", toys.out, limit=limit)
    session = Session.open(request, load_plugins([PLUGIN]), Observer())
    try:
        plan = session.prepare(warm=False)
    finally:
        session.close()
    names = [name for job in plan.jobs for name in job.names]
    return {failure.checkpoint: failure.message for failure in session.failures}, names


def test_whether_anything_fits_is_asked_of_the_documents_that_are_asked(toys: Toys) -> None:
    write_config(toys.folder / "checkpoints" / "grpo", max_position_embeddings=40)
    toys.task(documents=50, lengths=[*range(60, 40, -1), *range(10, 40)])
    failed, asked = planned(toys, limit=20)
    assert asked == ["base", "sft"]
    assert failed == {
        "grpo": "none of the first 20 of its 50 prompts fits: the shortest has 41 tokens and the "
        "model takes 40 with the completion; lower num_fewshot if it shows worked examples, or "
        "leave it out for this checkpoint"
    }
    for limit in (21, None):
        assert planned(toys, limit) == ({}, ["base", "sft", "grpo"])


@pytest.mark.parametrize(
    ("shots", "advice"),
    [(0, "; leave it out"), (2, "; lower num_fewshot for this task, or leave it out")],
)
def test_fewer_worked_examples_are_advised_where_there_are_some(
    toys: Toys, shots: int, advice: str
) -> None:
    write_config(toys.folder / "checkpoints" / "grpo", max_position_embeddings=8)
    toys.manifest("[toy]", f"[{{task: toy, num_fewshot: {shots}}}]")
    message = planned(toys, None)[0]["grpo"]
    assert message.startswith("none of its 100 prompts fits")
    assert advice in message


def test_a_model_without_a_position_fails_by_name(
    toys: Toys, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = toys.folder / "checkpoints" / "grpo"
    write_config(folder, max_position_embeddings=0)
    manifest = str(toys.folder / "lineage.yaml")
    assert main(["--plugin", str(PLUGIN), "plan", manifest, "-o", str(toys.out)]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 start, in the order: base, sft" in shown
    assert f"failed: grpo: {folder / 'config.json'}: max_position_embeddings is 0;" in shown


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
