"""Provenance around its numbers: rewards, files that fail, rows that no longer hold."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from ptharness_zoo import CHECKPOINTS, TRAJECTORIES

from ptharness.cli import main
from ptharness.cli.provenance import _remarks
from ptharness.errors import PluginError
from ptharness.evaluation import Request
from ptharness.observer import Observer
from ptharness.plugins import load_plugins
from ptharness.provenance import ProvenanceSettings, measure_provenance
from ptharness.provenance.rewards import rewarded
from ptharness.provenance.texts import Text
from ptharness.results import Results


def texts(count: int, columns: dict[str, Any] | None = None) -> list[Text]:
    about = {"prompt": [{"role": "user", "content": "q"}], "columns": columns or {}}
    return [Text(i, about, f"a{i}", np.zeros(2)) for i in range(count)]


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


WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (lambda **_: 1 / 0, "failed: ZeroDivisionError"),
    "leaves": (leaves, "failed: SystemExit: 3"),
    "asynchronous": (waits, "failed: TypeError: it is asynchronous"),
    "too few": (lambda **_: [1.0], "gave 1 rewards for 3 completions"),
    "infinite": (lambda **_: [math.inf] * 3, "gave inf; a reward is a number"),
    "huge": (lambda **_: [1e308] * 3, "gave 1e+308"),
    "text": (lambda **_: ["1"] * 3, "gave '1'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_reward_is_said(name: str) -> None:
    function, words = WRONG[name]
    with pytest.raises(PluginError, match="the reward function") as caught:
        rewarded(texts(3), function)
    assert words in str(caught.value)


def test_what_a_reward_prints_is_not_our_output(capsys: pytest.CaptureFixture[str]) -> None:
    def chatty(**_: Any) -> list[float]:
        print("hello")
        return [0.0] * 3

    rewarded(texts(3), chatty)
    assert capsys.readouterr().out == ""


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
    manifest: Path, observer: Observer | None = None, **settings: Any
) -> tuple[list[dict[str, Any]], list[Any]]:
    request = Request(manifest, manifest.parent / "out")
    chosen = ProvenanceSettings(prompts=12, per_prompt=2, samples=2, **settings)
    _, rows, failures = measure_provenance(request, chosen, load_plugins(), observer or Observer())
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
    row = {"reason": "why", "rare_token_share": share, "rare_below": 1e-4, "too_long": 0}
    said = _remarks({**row, "looks_filtered": None})
    assert said == ["why", "0.1 % of tokens below probability 0.0001"][: 1 + told]


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
