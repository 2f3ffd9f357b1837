"""Provenance around its numbers: rewards, files that fail, rows that no longer hold."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from ptharness_zoo import CHECKPOINTS, TRAJECTORIES

from ptharness.cli import main
from ptharness.cli.provenance import _gap, _remarks
from ptharness.errors import PluginError
from ptharness.evaluation import Request
from ptharness.observer import Observer
from ptharness.planner import Plan
from ptharness.plugins import load_plugins
from ptharness.provenance import ProvenanceSettings, RewardFunction, measure_provenance
from ptharness.provenance.rewards import rewarded
from ptharness.provenance.texts import Text
from ptharness.results import Results
from ptharness.trajectories import Message, Trajectory


def texts(count: int, columns: dict[str, Any] | None = None) -> list[Text]:
    of = Trajectory((Message("user", "q"),), "a", "given", None, "here", columns or {})
    return [Text(i, of, f"a{i}", np.zeros(2)) for i in range(count)]


def test_a_reward_function_is_called_as_trl_does() -> None:
    seen: dict[str, Any] = {}

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        seen.update(columns, prompts=prompts, completions=completions)
        return [1.0, None, np.float32(0.5)]  # type: ignore[list-item]

    found = [text.reward for text in rewarded(texts(3, {"answer": "42"}), reward)]
    assert found[0] == 1.0
    assert math.isnan(found[1])
    assert found[2] == 0.5
    assert seen["answer"] == ["42"] * 3
    assert seen["completions"][1] == [{"role": "assistant", "content": "a1"}]


def leaves(**_: Any) -> list[float]:
    raise SystemExit(3)


async def waits(**_: Any) -> list[float]:
    return [1.0]


class Mute:
    """A reward that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (lambda **_: 1 / 0, "failed: ZeroDivisionError"),
    "leaves": (leaves, "failed: SystemExit: 3"),
    "asynchronous": (waits, "failed: TypeError: it is asynchronous"),
    "too few": (lambda **_: [1.0], "gave 1 rewards for 3 completions"),
    "infinite": (lambda **_: [math.inf] * 3, "gave inf; a reward is a number"),
    "huge": (lambda **_: [1e308] * 3, "gave 1e+308"),
    "text": (lambda **_: ["1"] * 3, "gave '1'"),
    "a mapping": (lambda **_: {0: 1.0, 1: 1.0, 2: 1.0}, "TypeError: it returned a dict, and not"),
    "a set": (lambda **_: {1.0, 2.0, 3.0}, "TypeError: it returned a set, and not"),
    "one text": (lambda **_: "123", "TypeError: it returned a str, and not"),
    "rows of an array": (lambda **_: np.ones((3, 2)), "gave array([1., 1.])"),
    "an integer of many digits": (lambda **_: [10**5000] * 3, "gave a int; a reward is a number"),
    "without words": (lambda **_: [Mute()] * 3, "gave a Mute; a reward is a number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_reward_is_said(name: str) -> None:
    function, words = WRONG[name]
    with pytest.raises(PluginError, match="the reward function") as caught:
        rewarded(texts(3), function)
    assert words in str(caught.value)


CHATTY = """
import ctypes, os, subprocess, sys
from ptharness.provenance.rewards import rewarded
from ptharness.provenance.texts import Text
from ptharness.trajectories import Trajectory
import numpy as np

kept = sys.stdout

def chatty(**_):
    print("from Python")
    print("by who kept it", file=kept)
    os.write(1, b"to the descriptor\\n")
    subprocess.run(["echo", "of a process"])
    ctypes.CDLL(None).puts(b"from C")
    return [0.0]

print("before")
rewarded([Text(0, Trajectory("q", "a", "given", None, "here"), "a", np.zeros(2))], chatty)
print("after")
"""


def test_what_a_reward_prints_is_not_our_output() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHATTY], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "before\nafter\n"
    for words in ("from Python", "by who kept it", "to the descriptor", "of a process", "from C"):
        assert words in done.stderr


@pytest.mark.parametrize("leaving", ["sys.exit(0)", "raise SystemExit('bye')"])
def test_a_file_of_rewards_that_leaves_is_an_error(
    manifest: Path, capsys: pytest.CaptureFixture[str], leaving: str
) -> None:
    rewards = manifest.parent / "leaving_rewards.py"
    rewards.write_text(f"import sys\nprint('loading')\n{leaving}\n")
    assert main(["provenance", str(manifest), "--reward", f"{rewards}:is_right"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"error: {rewards}: failed to import: SystemExit" in told.err


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """base -> sft -> grpo of the zoo with their trajectories, and the fake engine."""
    entries: dict[str, Any] = {"base": {"path": str(CHECKPOINTS / "base")}}
    for name, parent in (("sft", "base"), ("grpo", "sft")):
        shutil.copy(TRAJECTORIES / f"{name}.jsonl.gz", tmp_path)
        entries[name] = {
            "path": str(CHECKPOINTS / name),
            "parent": parent,
            "method": name,
            "trajectories": f"{name}.jsonl.gz",
        }
    content = {
        "lineage": "small",
        "checkpoints": entries,
        "evaluate": {"tasks": ["arith_rev"]},
        "engine": {"name": "fake"},
    }
    path = tmp_path / "lineage.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def measure(
    manifest: Path,
    observer: Observer | None = None,
    reward: RewardFunction | None = None,
    **settings: Any,
) -> tuple[list[dict[str, Any]], list[Any]]:
    request = Request(manifest, manifest.parent / "out")
    chosen = ProvenanceSettings(prompts=12, per_prompt=2, samples=2, **settings)
    _, rows, failures = measure_provenance(
        request, chosen, load_plugins(), observer or Observer(), reward
    )
    return rows, list(failures)


def test_a_file_is_measured_under_any_checkpoint(manifest: Path) -> None:
    file = TRAJECTORIES / "rejection.jsonl.gz"
    request = Request(manifest, manifest.parent / "out", checkpoints=("s*", "base"))
    chosen = ProvenanceSettings(prompts=12, per_prompt=2, samples=2, file=file)
    path, rows, failures = measure_provenance(request, chosen, load_plugins(), Observer())
    assert (path, tuple(failures)) == (None, ())
    assert [row["parent"] for row in rows] == ["base", "sft"]
    for row in rows:
        assert row["file"] == str(file)
        assert (row["checkpoint"], row["provenance_declared"]) == (None, None)
        assert row["prompts"] == 12
        assert row["given_bits_per_byte"] > 0
    assert rows[0]["given_bits_per_byte"] != rows[1]["given_bits_per_byte"]
    assert not list(manifest.parent.rglob("provenance.parquet")), "it is of no stage"


def test_a_file_of_no_stage_from_the_command_line(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["provenance", str(manifest), "-o", str(manifest.parent / "out")]
    new = manifest.parent / "new.jsonl"
    few = ("--prompts", "12", "--samples", "2")
    assert main([*words, "--file", str(new), *few]) == 2
    assert f"{new}: " in capsys.readouterr().err
    lines = [json.dumps({"prompt": f"rev {x}", "completion": f":{x}"}) for x in "abcdefgh"]
    new.write_text("\n".join(lines))
    assert main([*words, "--file", str(new), "--checkpoints", "sft", *few]) == 0
    shown = capsys.readouterr().out
    assert "bits per byte" in shown
    assert "the checkpoint's own answers" in shown
    assert "the parent's" not in shown
    assert "table: " not in shown
    assert main([*words, "--file", str(new), "--checkpoints", "none", *few]) == 2
    assert "'none' is no checkpoint" in capsys.readouterr().err
    assert main([*words, "--file", str(new), "--stages", "sft"]) == 2
    assert "--file or --stages, not both" in capsys.readouterr().err
    assert main([*words, "--checkpoints", "sft"]) == 2
    assert "--checkpoints goes with --file" in capsys.readouterr().err


class Reading(Observer):
    """Remembers which training sets were read."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def reading(self, file: str, rows: int) -> None:
        """Each is told of at its first row."""
        self.files += [file] * (rows == 0)


def test_training_sets_are_read_once(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTHARNESS_CACHE", str(manifest.parent / "cache"))
    first, second = Reading(), Reading()
    rows, _ = measure(manifest, first)
    again, _ = measure(manifest, second)
    assert first.files == ["sft.jsonl.gz", "grpo.jsonl.gz"]
    assert second.files == []
    assert again == rows


def test_a_merge_has_no_parent_to_compare_with(manifest: Path) -> None:
    manifest.write_text(manifest.read_text().replace("parent: sft", "parent: [base, sft]"))
    rows, failures = measure(manifest)
    assert [row["checkpoint"] for row in rows] == ["sft"]
    (failure,) = failures
    assert (failure.checkpoint, failure.stage) == ("grpo", "provenance")
    assert "has 2 parents" in failure.message
    assert f"--file {manifest.parent / 'grpo.jsonl.gz'} compares them" in failure.message


def test_a_stage_may_be_renamed(manifest: Path) -> None:
    before, _ = measure(manifest, stages=("grpo",))
    manifest.write_text(manifest.read_text().replace("  grpo:", "  tuned:"))
    after, failures = measure(manifest, stages=("tuned",))
    assert failures == []
    assert [row["checkpoint"] for row in after] == ["tuned"]
    assert after[0]["own_nats_per_token"] == before[0]["own_nats_per_token"]


def test_text_that_the_parent_cannot_spell_has_no_bits_per_byte(manifest: Path) -> None:
    rows = [{"prompt": f"rev ab{i}", "completion": "ba"} for i in range(12)]
    rows[3]["completion"] = "bÄ"
    file = manifest.parent / "sft.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest.write_text(manifest.read_text().replace("sft.jsonl.gz", "sft.jsonl"))
    measured, _ = measure(manifest, stages=("sft",))
    (row,) = measured
    assert (row["given"], row["misspelled"]) == (12, 1)
    assert row["given_bits_per_byte"] is None
    assert row["own_bits_per_byte"] > 0
    assert "the parent's tokenizer cannot spell 1 of 12 trajectories" in row["reason"]
    rows[3]["completion"] = "bb"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ((row,), _) = measure(manifest, stages=("sft",))
    assert row["misspelled"] == 0
    # Two letters and their end.
    nats = 3 * sum(row["given_nats_per_token"])
    assert row["given_bits_per_byte"] == pytest.approx(nats / math.log(2) / 24)
    assert "spell" not in row["reason"]


def write_training_set(manifest: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """What `sft` is trained on, in place of the zoo's."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (manifest.parent / "sft.jsonl").write_text(lines)
    manifest.write_text(manifest.read_text().replace("sft.jsonl.gz", "sft.jsonl"))


def test_a_reward_function_gets_the_columns_of_the_row(manifest: Path) -> None:
    """For the own samples those of a row with their prompt; nothing is dropped for its length."""
    rows = [
        {"prompt": f"rev a{i}", "completion": "b", "answer": [f"{i}", "x" * 2000], "pair": i}
        for i in range(12)
    ]
    write_training_set(manifest, rows)
    calls: list[list[tuple[str, list[str], int]]] = []

    def reward(prompts: Any, completions: Any, answer: Any, pair: Any) -> list[float]:
        calls.append(list(zip(prompts, answer, pair, strict=True)))
        return [0.0] * len(completions)

    measure(manifest, reward=reward, stages=("sft",))
    expected = {(row["prompt"], *row["answer"], row["pair"]) for row in rows}
    for call in calls:
        assert {(prompt, *answer, pair) for prompt, answer, pair in call} == expected
    assert [len(call) for call in calls] == [12, 24]


def test_rewards_of_an_earlier_run_stay(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def right(completions: Any, **_: Any) -> list[float]:
        return [float(len(one[0]["content"])) for one in completions]

    def rewards() -> list[tuple[Any, ...]]:
        table = pd.read_parquet(manifest.parent / "out" / "small" / "provenance.parquet")
        names = ["reward_difference", "reward_ci_low", "reward_ci_high", "looks_filtered"]
        return [tuple(row) for row in table[names].itertuples(index=False)]

    measure(manifest, reward=right)
    first = rewards()
    assert all(row[0] is not None for row in first)
    again, _ = measure(manifest)
    assert rewards() == first
    assert [row["reward_difference"] for row in again] == [row[0] for row in first]
    words = ["provenance", str(manifest), "-o", str(manifest.parent / "out"), "--prompts", "12"]
    assert main([*words, "--samples", "2"]) == 0
    assert "rewards: those of an earlier run with --reward" in capsys.readouterr().out
    # Other samples: what they are worth is not known.
    assert main([*words, "--samples", "3"]) == 0
    assert "rewards: " not in capsys.readouterr().out
    assert np.isnan([row[0] for row in rewards()]).all()


def test_two_stages_of_one_file_and_parent_both_have_rows(manifest: Path) -> None:
    content = yaml.safe_load(manifest.read_text())
    content["checkpoints"]["other"] = {
        **content["checkpoints"]["sft"],
        "path": content["checkpoints"]["grpo"]["path"],
    }
    manifest.write_text(yaml.safe_dump(content, sort_keys=False))
    rows, failures = measure(manifest, stages=("sft", "other"))
    assert failures == []
    assert [row["checkpoint"] for row in rows] == ["sft", "other"]
    assert rows[0]["given_nats_per_token"] == rows[1]["given_nats_per_token"]


def test_a_stage_whose_parent_cannot_be_read_fails_by_name(manifest: Path) -> None:
    content = yaml.safe_load(manifest.read_text())
    broken = manifest.parent / "broken"
    shutil.copytree(content["checkpoints"]["sft"]["path"], broken)
    (broken / "model.safetensors").write_bytes(b"cut short")
    content["checkpoints"]["sft"]["path"] = str(broken)
    manifest.write_text(yaml.safe_dump(content, sort_keys=False))
    rows, failures = measure(manifest)
    assert [row["checkpoint"] for row in rows] == ["sft"]
    assert [(f.checkpoint, f.stage) for f in failures] == [
        ("sft", "checkpoint"),
        ("grpo", "provenance"),
    ]
    assert failures[1].message.startswith("not measured under sft: ")
    assert "model.safetensors" in failures[1].message
    _, failures = measure(manifest, file=TRAJECTORIES / "grpo.jsonl.gz")
    assert [(f.checkpoint, f.stage) for f in failures] == [("sft", "checkpoint")]


class Planned(Observer):
    """Remembers how much was to be done."""

    def __init__(self) -> None:
        self.units: list[str] = []

    def planned(self, plan: Plan, cached: int) -> None:
        self.units += [unit.task for job in plan.jobs for unit in job.units]


def test_a_stage_that_does_not_fit_at_all_is_told_by_its_lengths(manifest: Path) -> None:
    """Its own samples would compare with nothing, and are not made."""
    long = [{"prompt": f"rev a{i}", "completion": "b" * (600 + i)} for i in range(12)]
    write_training_set(manifest, long)
    seen = Planned()
    rows, failures = measure(manifest, seen)
    assert [row["checkpoint"] for row in rows] == ["grpo"]
    assert seen.units == ["own answers for grpo", "trajectories of grpo"]
    (failure,) = failures
    assert (failure.checkpoint, failure.task, failure.stage) == ("sft", "", "prompts")
    tokens = len("rev a0") + 600 + 1
    assert failure.message.startswith(
        f"under base: none of its 12 prompts fits with its completions: they have {tokens:,} to "
    )
    assert "and the model takes 511 with the completion; measure it under a checkpoint with" in (
        failure.message
    )
    assert "num_fewshot" not in failure.message


def test_a_base_model_reads_messages_by_the_template_of_its_child(manifest: Path) -> None:
    base = manifest.parent / "plain"
    content = yaml.safe_load(manifest.read_text())
    shutil.copytree(content["checkpoints"]["base"]["path"], base)
    (base / "chat_template.jinja").unlink()
    content["checkpoints"]["base"]["path"] = str(base)
    manifest.write_text(yaml.safe_dump(content, sort_keys=False))
    rows, failures = measure(manifest, file=TRAJECTORIES / "rejection.jsonl.gz")
    assert failures == []
    assert [row["parent"] for row in rows] == ["base", "sft", "grpo"]
    del content["checkpoints"]["sft"], content["checkpoints"]["grpo"]
    manifest.write_text(yaml.safe_dump(content, sort_keys=False))
    rows, failures = measure(manifest, file=TRAJECTORIES / "rejection.jsonl.gz")
    assert rows == []
    assert (failures[0].checkpoint, failures[0].task) == ("base", "rejection.jsonl.gz")
    assert "is messages, and neither the tokenizer of the checkpoint" in failures[0].message


def test_pairs_in_a_file_have_their_sides_and_rewards(manifest: Path) -> None:
    def right(completions: Any, **_: Any) -> list[float]:
        return [float(len(one[0]["content"])) for one in completions]

    rows, failures = measure(manifest, reward=right, file=TRAJECTORIES / "dpo.jsonl.gz")
    assert failures == []
    sides = ["all", "chosen", "rejected"]
    assert [(row["parent"], row["side"]) for row in rows] == [
        (name, side) for name in ("base", "sft", "grpo") for side in sides
    ]
    for place in range(0, 9, 3):
        whole, chosen, rejected = rows[place : place + 3]
        assert chosen["given"] == rejected["given"] == whole["given"] / 2
        assert all(row["reward_difference"] is not None for row in (whole, chosen, rejected))


def test_rows_that_no_longer_hold_go(manifest: Path) -> None:
    folder = manifest.parent / "out" / "small"
    measure(manifest)
    arguments = ["run", str(manifest), "-o", str(manifest.parent / "out"), "--limit", "4", "-q"]
    assert main(arguments) == 0
    whole = pd.read_parquet(folder / "provenance.parquet")
    assert list(whole.checkpoint) == ["sft", "grpo"]
    assert set(whole.engine) == {"fake"}
    # Another training set of grpo: what was measured is not of it.
    shutil.copy(TRAJECTORIES / "narrow.jsonl.gz", manifest.parent / "grpo.jsonl.gz")
    assert main(arguments) == 0
    assert list(Results(folder).provenance.checkpoint) == ["sft"]
    # One stage measured again: the other keeps its row.
    measure(manifest, stages=("grpo",))
    assert list(Results(folder).provenance.checkpoint) == ["sft", "grpo"]
    # A renamed checkpoint is another one.
    text = (
        manifest.read_text().replace("  sft:", "  tuned:").replace("parent: sft", "parent: tuned")
    )
    manifest.write_text(text)
    assert main(arguments) == 0
    assert not (folder / "provenance.parquet").exists()
    assert "Not measured" in (folder / "report.html").read_text()


def test_a_table_with_other_columns_does_not_stop_a_run(manifest: Path) -> None:
    folder = manifest.parent / "out" / "small"
    folder.mkdir(parents=True)
    for name in ("provenance", "distances"):
        pd.DataFrame({"checkpoint": ["sft"], "other": [1]}).to_parquet(folder / f"{name}.parquet")
    arguments = ["run", str(manifest), "-o", str(manifest.parent / "out"), "--limit", "4", "-q"]
    assert main(arguments) == 0
    assert not (folder / "provenance.parquet").exists()
    assert not (folder / "distances.parquet").exists()


def test_a_broken_file_fails_its_stage_alone_and_by_name(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (manifest.parent / "bad.jsonl").write_text('{"prompt": "q", "completion": "a"}\n\nnot json\n')
    manifest.write_text(manifest.read_text().replace("sft.jsonl.gz", "bad.jsonl"))
    rows, failures = measure(manifest)
    assert [row["checkpoint"] for row in rows] == ["grpo"]
    (failure,) = failures
    assert (failure.checkpoint, failure.stage) == ("sft", "trajectories")
    assert "bad.jsonl line 3: is not JSON (Expecting value at column 1)" in failure.message
    words = ["provenance", str(manifest), "-o", str(manifest.parent / "out"), "--stages", "sft"]
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {manifest}: checkpoints.sft.trajectories: ")


@pytest.mark.parametrize(("share", "told"), [(0.0004, False), (0.0006, True), (None, False)])
def test_rare_tokens_are_told_where_there_are_some(share: float | None, told: bool) -> None:
    said = _remarks({**ROW, "rare_token_share": share})
    assert said == ["why", "0.1 % of tokens below probability 0.0001"][: 1 + told]


ROW = {
    "reason": "why",
    "rare_token_share": None,
    "rare_below": 1e-4,
    "too_long": 0,
    "truncated": 0,
    "own": 1600,
    "reward_difference": None,
    "looks_filtered": None,
}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"truncated": 16}, []),
        ({"truncated": 17}, ["17 of 1,600 of the parent's own answers were cut off at the token"]),
        ({"too_long": 1}, ["1 prompt did not fit the parent's context"]),
        ({"too_long": 2}, ["2 prompts did not fit"]),
        ({"reward_difference": 0.25}, ["reward +0.25 against the parent's own"]),
        (
            {"reward_difference": 0.25, "looks_filtered": True},
            ["reward +0.25 against the parent's own: looks selected"],
        ),
    ],
)
def test_what_is_remarked(fields: dict[str, Any], told: list[str]) -> None:
    said = _remarks({**ROW, **fields})[1:]
    assert len(said) == len(told)
    assert all(text.startswith(words) for text, words in zip(said, told, strict=True))


def test_a_gap_of_nothing_is_not_below_nothing() -> None:
    row = {"gap_nats_per_token": -0.0004, "gap_ci_low": -0.0001, "gap_ci_high": 0.05}
    assert _gap(row) == "+0.000 [0.000, 0.050]"


def test_why_nothing_is_said_of_selection(manifest: Path) -> None:
    def few(prompts: Any, completions: Any, pair: Any) -> list[float | None]:
        return [float(len(c)) if p < 3 else None for c, p in zip(completions, pair, strict=True)]

    rows = [{"prompt": f"rev a{i}", "completion": "b" * i, "pair": i} for i in range(1, 13)]
    write_training_set(manifest, rows)
    ((row,), _) = measure(manifest, reward=few, stages=("sft",))
    assert row["looks_filtered"] is None
    told = "rewards are known on both sides of 2 prompts; 10 show whether it was selected"
    assert told in row["reason"]

    def same(completions: Any, **_: Any) -> list[float]:
        return [1.0] * len(completions)

    ((row,), _) = measure(manifest, reward=same, stages=("sft",))
    assert (row["reward_difference"], row["looks_filtered"]) == (0.0, None)
    assert "all rewards are equal" in row["reason"]


@pytest.mark.parametrize("gap", ["nan", "inf", "0", "-1"])
def test_a_gap_is_a_positive_number(manifest: Path, gap: str) -> None:
    assert main(["provenance", str(manifest), "--gap", gap]) == 2


def test_distances_need_two_checkpoints(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(manifest.parent / "out")
    assert main(["distances", str(manifest), "-o", out, "--checkpoints", "base"]) == 2
    assert "--checkpoints: a distance is between two checkpoints" in capsys.readouterr().err


def test_json_is_json(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["provenance", str(manifest), "-o", str(manifest.parent / "out"), "--prompts", "12"]
    assert main([*words, "--samples", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["checkpoint"] for row in found["stages"]} == {"sft", "grpo"}
