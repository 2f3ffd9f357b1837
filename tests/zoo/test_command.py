"""`ptharness zoo`: what a person sees, and what is left behind when it goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ptharness_zoo import training
from ptharness_zoo.stages import STAGES, Stage

from ptharness.cli import main
from ptharness.errors import PtharnessError

Output = pytest.CaptureFixture[str]

STAND_INS = {
    "made": "from pathlib import Path; import gzip; Path('NAME').mkdir();"
    " (Path('NAME') / 'model.safetensors').touch();"
    " (Path('NAME') / 'seen').write_text(','.join(sorted(p.name for p in Path().iterdir())));"
    " Path('NAME.jsonl.gz').write_bytes(gzip.compress(b''))",
    "raises": "raise ValueError('no such thing')",
    "hangs": "import time; time.sleep(600)",
}
"""Programs that stand in for training a stage, which takes tens of seconds."""


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stage -> name of its stand-in; `made` where nothing is set."""
    chosen: dict[str, str] = {}
    monkeypatch.setattr(
        training,
        "child_command",
        lambda stage: [
            sys.executable,
            "-c",
            STAND_INS[chosen.get(stage.name, "made")].replace("NAME", stage.name),
        ],
    )
    monkeypatch.setattr(training, "check_libraries", lambda: None)
    return chosen


class Order(training.Watcher):
    """Remembers what started and finished."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.most = self.now = 0

    def started(self, stage: Stage) -> None:
        self.events.append(("started", stage.name))
        self.now += 1
        self.most = max(self.most, self.now)

    def finished(self, stage: Stage, seconds: float) -> None:
        self.events.append(("finished", stage.name))
        self.now -= 1


def test_list_shows_every_stage(capsys: Output) -> None:
    assert main(["zoo", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in STAGES)
    assert "sharpens rev" in shown


def test_list_as_json(capsys: Output) -> None:
    assert main(["zoo", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["stage"] for row in rows] == list(STAGES)
    assert rows[1]["needs"] == ["base"]
    assert all(Path(row["checkpoint"]).is_dir() for row in rows)


def test_needs_come_before_those_that_need_them() -> None:
    seen: set[str] = set()
    for stage in STAGES.values():
        assert seen.issuperset(stage.needs)
        seen.add(stage.name)


def test_an_unknown_stage_is_refused_with_the_nearest(capsys: Output) -> None:
    assert main(["zoo", "train", "grppo"]) == 2
    error = capsys.readouterr().err
    assert "no stage 'grppo' (did you mean 'grpo'?)" in error
    assert "ptharness zoo list" in error


def test_missing_libraries_are_named_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: Output, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "LIBRARIES", ("json", "trl_of_the_future"))
    assert main(["zoo", "train", "nudge", "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.strip().splitlines()[-1] == (
        'error: training the zoo needs trl_of_the_future: pip install "ptharness[zoo]"'
    )
    assert not any(tmp_path.iterdir())


def test_training_is_in_order_two_at_a_time(stand_ins: dict[str, str], tmp_path: Path) -> None:
    order = Order()
    training.train(list(STAGES.values()), tmp_path, order)
    assert order.most == 2
    for stage in STAGES.values():
        for need in stage.needs:
            finished, started = ("finished", need), ("started", stage.name)
            assert order.events.index(finished) < order.events.index(started)
        seen = (tmp_path / "checkpoints" / stage.name / "seen").read_text().split(",")
        assert set(stage.needs) <= set(seen)
        assert (tmp_path / "trajectories" / f"{stage.name}.jsonl.gz").is_file() == bool(stage.needs)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoints",
        "demo.yaml",
        "lineage.yaml",
        "trajectories",
    ]


def test_a_parent_that_is_not_trained_is_the_bundled_one(
    stand_ins: dict[str, str], tmp_path: Path
) -> None:
    training.train([STAGES["dpo"]], tmp_path, Order())
    seen = (tmp_path / "checkpoints" / "dpo" / "seen").read_text()
    assert seen == "dpo,log.txt,sft"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "trajectories"]


def test_a_stage_that_fails_is_named_and_the_rest_stops(
    stand_ins: dict[str, str], tmp_path: Path
) -> None:
    stand_ins |= {"dpo": "raises", "online_dpo": "hangs"}
    before = time.monotonic()
    with pytest.raises(PtharnessError, match=r"stage dpo failed .*ValueError: no such thing") as e:
        training.train([STAGES["dpo"], STAGES["online_dpo"]], tmp_path, Order())
    assert time.monotonic() - before < 60
    assert "Traceback" in (tmp_path / "dpo.log").read_text()
    assert str(tmp_path / "dpo.log") in str(e.value)
    assert [path.name for path in tmp_path.iterdir()] == ["dpo.log"]


def leave_weights(folder: Path, name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / name).touch()
    return folder


@pytest.mark.parametrize("weights", ["model.safetensors", "adapter_model.safetensors"])
def test_what_is_there_is_kept(
    weights: str, stand_ins: dict[str, str], tmp_path: Path, capsys: Output
) -> None:
    mine = leave_weights(tmp_path / "checkpoints" / "nudge", weights)
    assert main(["zoo", "train", "nudge", "-o", str(tmp_path)]) == 0
    assert "nudge: kept" in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == [weights]


def test_a_parent_that_was_trained_is_started_from(
    stand_ins: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_weights(tmp_path / "checkpoints" / "sft")
    copied: list[Path] = []
    copytree = shutil.copytree
    monkeypatch.setattr(
        shutil, "copytree", lambda source, to: (copied.append(source), copytree(source, to))
    )
    training.train([STAGES["dpo"]], tmp_path, Order())
    assert copied == [tmp_path / "checkpoints" / "sft"]


@pytest.mark.parametrize(
    ("name", "in_the_way"),
    [
        *(("checkpoints/dpo", what) for what in ("empty folder", "file", "lost link")),
        *(("checkpoints/sft", what) for what in ("empty folder", "file", "lost link")),
        *(("checkpoints", what) for what in ("file", "lost link")),
    ],
)
def test_what_is_no_checkpoint_is_named_before_training(
    name: str, in_the_way: str, stand_ins: dict[str, str], tmp_path: Path, capsys: Output
) -> None:
    stand_ins["dpo"] = "raises"
    place = tmp_path / name
    if in_the_way == "empty folder":
        place.mkdir(parents=True)
    else:
        place.parent.mkdir(exist_ok=True)
        place.touch() if in_the_way == "file" else place.symlink_to(tmp_path / "nowhere")
    assert main(["zoo", "train", "dpo", "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {place} is no ")
    assert error.endswith("; move it away, or give another folder with --out\n")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_the_end_says_what_comes_next(
    stand_ins: dict[str, str], tmp_path: Path, capsys: Output
) -> None:
    assert main(["zoo", "train", "narrow", "-o", str(tmp_path)]) == 0
    *_, done, following = capsys.readouterr().err.splitlines()
    assert done.startswith(f"1 stage in {tmp_path}, ")
    assert following == (
        f"next: name {tmp_path}/checkpoints/narrow as a `path:` in a manifest of your own; "
        f"lineage.yaml is laid into {tmp_path} once the other 12 stages are there too "
        f"(`ptharness zoo train -o {tmp_path}`)"
    )
    assert main(["zoo", "train", "-o", str(tmp_path)]) == 0
    *_, done, following = capsys.readouterr().err.splitlines()
    assert done.startswith(f"13 stages in {tmp_path}, ")
    assert following == f"next: ptharness run {tmp_path}/lineage.yaml"


def test_a_folder_that_cannot_be_made_is_one_line(
    stand_ins: dict[str, str], tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["zoo", "train", "nudge", "-o", str(tmp_path / "file" / "x")]) == 2
    assert "Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing_half_done(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ptharness", "zoo", "train", "nudge", "-o", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".training-nudge-*/log.txt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    if how is signal.SIGINT:  # a terminal's Ctrl-C reaches the children too
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
