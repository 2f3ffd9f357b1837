"""Measured provenance on the zoo, whose stages' trajectories are known: vLLM asks the parents."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ptharness_zoo import MANIFEST

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")

REWARDS = '''
def right(prompts, completions, **columns):
    """The reward that grpo and rejection were trained with, for the skills that these show."""
    rewards = []
    for (prompt,), (completion,) in zip(prompts, completions):
        skill, word, *rest = prompt["content"].split()
        answers = {"rev": word[::-1], "sum": str(sum(int(n) for n in [word, *rest] if n.isdigit()))}
        said = completion["content"].rsplit(":", 1)[-1]
        rewards.append(float(said == answers[skill]) if skill in answers else None)
    return rewards
'''
STAGES = "sft,grpo,dpo,rejection,hybrid"


def measure(folder: Path, *options: str) -> tuple[dict[tuple[str, str], dict[str, object]], str]:
    """Rows by stage and side, and what a person was told."""
    words = [sys.executable, "-m", "ptharness", "provenance", str(MANIFEST), "-o", str(folder)]
    done = subprocess.run(
        [*words, "--prompts", "60", *options, "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    rows = json.loads(done.stdout)["stages"]
    return {(row["checkpoint"], row["side"]): row for row in rows}, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("provenance")
    (folder / "rewards.py").write_text(REWARDS)
    return folder


def test_the_planted_provenance_is_measured(folder: Path) -> None:
    rows, told = measure(folder, "--stages", STAGES, "--reward", f"{folder}/rewards.py:right")
    measured = {key: row["provenance_measured"] for key, row in rows.items()}
    # Demonstrations of a skill that the base does not have.
    assert measured["sft", "all"] == "parent_unlike"
    assert rows["sft", "all"]["gap_nats_per_token"] > 1  # type: ignore[operator]
    assert rows["sft", "all"]["rare_token_share"] > 0.01  # type: ignore[operator]
    # The first rollouts are the parent's own samples.
    assert measured["grpo", "all"] == "parent_like"
    assert rows["grpo", "all"]["looks_filtered"] is False
    # Right ones of the parent's own samples.
    assert measured["rejection", "all"] == "mixed"
    assert rows["rejection", "all"]["looks_filtered"] is True
    # Pairs that the parent wrote, declared external: their two sides lie about its own text.
    assert measured["dpo", "all"] == "parent_like"
    assert rows["dpo", "all"]["provenance_declared"] == "off_policy"
    chosen, rejected = (rows["dpo", side]["gap_nats_per_token"] for side in ("chosen", "rejected"))
    assert chosen < 0 < rejected  # type: ignore[operator]
    # Rollouts beside demonstrations of a skill that the parent does not have.
    assert measured["hybrid", "all"] == "mixed"
    assert 0.4 <= rows["hybrid", "all"]["like_share"] <= 0.8  # type: ignore[operator]
    assert "in 1 engine start" in told


def test_distillation_shows_its_variant(tmp_path: Path) -> None:
    """Two declared apart, on the words of a teacher or on own rollouts; both are the parent's, for
    that teacher is the parent of the first."""
    rows, _ = measure(tmp_path, "--stages", "student*", "--prompts", "200")
    for stage, declared in (("student_skd", "off_policy"), ("student", "on_policy")):
        row = rows[stage, "all"]
        assert (row["provenance_declared"], row["provenance_measured"]) == (declared, "parent_like")
    # What the teacher said is not what base would: no stage says so, but its file does.
    file = str(MANIFEST.parent / "trajectories" / "student_skd.jsonl.gz")
    rows, _ = measure(tmp_path, "--file", file, "--checkpoints", "base", "--prompts", "200")
    (row,) = rows.values()
    assert row["parent"] == "base"
    assert row["provenance_measured"] in ("mixed", "parent_unlike")
    assert row["gap_ci_low"] > 0.1  # type: ignore[operator]


def test_what_is_scored_is_kept(folder: Path) -> None:
    """The same again generates nothing, and the stages that are not named keep their rows.

    So do the rewards that were given before.
    """
    before = pd.read_parquet(folder / "zoo" / "provenance.parquet")
    rows, told = measure(folder, "--stages", "sft")
    assert "nothing to generate" in told
    assert set(rows) == {("sft", "all")}
    table = pd.read_parquet(folder / "zoo" / "provenance.parquet")
    assert set(table.checkpoint) == set(STAGES.split(","))
    whole = table[table.side == "all"].set_index("checkpoint")
    assert bool(whole.looks_filtered["rejection"])
    assert whole.reward_difference.notna()["sft"]
    pd.testing.assert_frame_equal(table, before)


def test_the_table_opens_in_pandas(folder: Path) -> None:
    table = pd.read_parquet(folder / "zoo" / "provenance.parquet").set_index("checkpoint")
    grpo = table.loc["grpo"]
    assert grpo["parent"] == "sft"
    assert len(grpo["given_nats_per_token"]) == grpo["given"]
    assert len(grpo["own_nats_per_token"]) == grpo["own"] == 8 * grpo["prompts"]
