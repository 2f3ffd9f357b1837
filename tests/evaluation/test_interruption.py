"""Killed, interrupted, or run twice at once: nothing finished is lost or doubled."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.evaluation.conftest import Command, Toys

KILLS = 20


def children_of(folder: Path) -> list[int]:
    """Processes of ptharness whose output goes into a log below `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if (process / "fd" / "2").readlink().is_relative_to(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + 30
    while children_of(folder):
        assert time.monotonic() < deadline, f"left behind: {children_of(folder)}"
        time.sleep(0.1)


def assert_complete(toys: Toys) -> None:
    """The tables are whole, and equal those of a run that nobody disturbed."""
    results = toys.run()
    samples = results.samples
    assert len(samples) == 3 * 100 * 20
    assert not samples.duplicated(["checkpoint", "task", "item", "sample"]).any()
    assert not list((toys.out / "units").rglob("*.tmp.parquet"))
    undisturbed = Toys(toys.folder)
    undisturbed.out = toys.folder / "undisturbed"
    other = undisturbed.run().samples
    columns = ["checkpoint", "item", "sample", "completion", "correct", "seed", "unit"]
    assert samples[columns].astype(str).equals(other[columns].astype(str))
    assert toys.units("generation").keys() == undisturbed.units("generation").keys()


def test_killed_at_twenty_random_moments(toys: Toys, command: Command) -> None:
    toys.manifest(delay_s=0.004)
    words = command("run", toys.folder / "lineage.yaml", "-o", toys.out, "--quiet")
    moments = random.Random(0)
    progress = []
    for _ in range(KILLS):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.2, 3.0))
        process.kill()
        process.wait()
        progress.append(len(toys.units("generation")))
    wait_until_gone(toys.out)
    assert progress == sorted(progress), "a finished unit is never lost"
    toys.manifest()
    assert_complete(toys)


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(toys: Toys, command: Command) -> None:
    toys.manifest(delay_s=0.02)
    words = command("run", toys.folder / "lineage.yaml", "-o", toys.out)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(toys.units("generation")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.strip().endswith("the same command goes on where it stopped")
    assert "Traceback" not in stderr
    wait_until_gone(toys.out)
    finished = toys.units("generation")
    assert 3 <= len(finished) < 12
    toys.manifest()
    assert_complete(toys)
    assert finished.items() <= toys.units("generation").items()


def test_two_runs_at_once_both_finish(toys: Toys, command: Command) -> None:
    words = command("run", toys.folder / "lineage.yaml", "-o", toys.out, "--quiet")
    both = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    assert_complete(toys)


def test_a_rerun_with_nothing_to_do_imports_nothing_heavy(toys: Toys, command: Command) -> None:
    toys.run()
    arguments = command("run", toys.folder / "lineage.yaml", "-o", toys.out)[3:]
    script = (
        "import sys; from ptharness.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'vllm', 'lm_eval', 'transformers', 'datasets'} & set(sys.modules);"
        "print('heavy:', heavy, file=sys.stderr); sys.exit(code or bool(heavy))"
    )
    words = [command()[0], "-c", script, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing to generate" in done.stderr
    assert "grpo" in done.stdout


def test_files_in_the_working_folder_are_not_imported(toys: Toys, command: Command) -> None:
    (toys.folder / "pickle.py").write_text("open('ran', 'w').close()\nraise SystemExit(3)\n")
    words = command("run", "lineage.yaml", "-o", "results", "--limit", "2")
    # As the installed script does, and unlike `python -m`, which looks into the folder first.
    words.insert(1, "-P")
    done = subprocess.run(words, cwd=toys.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (toys.folder / "ran").exists()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM])
def test_a_polite_kill_ends_as_cleanly(
    toys: Toys, command: Command, signal_number: signal.Signals
) -> None:
    toys.manifest(delay_s=0.02)
    words = command("run", toys.folder / "lineage.yaml", "-o", toys.out)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not toys.units("generation"):
        time.sleep(0.05)
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    wait_until_gone(toys.out)
