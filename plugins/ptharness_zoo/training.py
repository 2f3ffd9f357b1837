"""Training the zoo again: stages in order, two at a time, each in a child process.

A stage works in a folder of its own below the output folder; what it made is moved into place when
it is whole, so an interruption leaves no half-written checkpoint. The children have one thread
each, on which the weights depend.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import ptharness_zoo
from ptharness.errors import PtharnessError
from ptharness_zoo.places import check_places, is_trained, missing, place_of
from ptharness_zoo.stages import Stage

AT_ONCE = 2
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
MANIFESTS = ("lineage.yaml", "demo.yaml")
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
}


class Watcher:
    """What is told how the training goes; it does nothing itself."""

    def started(self, stage: Stage) -> None:
        """A stage's process has started."""

    def finished(self, stage: Stage, seconds: float) -> None:
        """A stage's checkpoint is in place."""


@dataclass
class Running:
    """A stage in its child process."""

    stage: Stage
    folder: Path
    process: subprocess.Popen[bytes]
    since: float = field(default_factory=time.monotonic)

    def stop(self) -> None:
        """End the process and remove what it has made so far."""
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def check_libraries() -> None:
    """Raise the exact install command where a library for training is missing."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise PtharnessError(
            f'training the zoo needs {", ".join(missing)}: pip install "ptharness[zoo]"'
        )


def train(stages: Sequence[Stage], out: Path, watcher: Watcher) -> None:
    """Train `stages` into `out`, each as soon as what it needs is there.

    What a stage needs is taken from `out`, and from the bundled zoo if `out` lacks it. Raises
    `PtharnessError` before anything starts where something in `out` is in the way; later, naming
    the stage that failed. Then, and on Ctrl-C, all others are stopped.
    """
    check_libraries()
    try:
        check_places(stages, out)
        out.mkdir(parents=True, exist_ok=True)
        waiting = list(stages)
        running: list[Running] = []
        try:
            while waiting or running:
                _start_ready(waiting, running, out, watcher)
                time.sleep(0.2)
                for each in [each for each in running if each.process.poll() is not None]:
                    _finish(each, out)
                    running.remove(each)
                    watcher.finished(each.stage, time.monotonic() - each.since)
        finally:
            for each in running:
                each.stop()
        _add_manifests(out)
    except OSError as error:
        raise PtharnessError(f"{error.filename or out}: {error.strerror or error}") from error


def child_command(stage: Stage) -> list[str]:
    """What trains a stage in the current folder."""
    return [sys.executable, "-P", "-m", "ptharness_zoo.recipe.one_stage", stage.name]


def _start_ready(waiting: list[Stage], running: list[Running], out: Path, watcher: Watcher) -> None:
    for stage in tuple(waiting):
        unmade = {each.name for each in waiting} | {each.stage.name for each in running}
        if len(running) < AT_ONCE and unmade.isdisjoint(stage.needs):
            waiting.remove(stage)
            running.append(_start(stage, out))
            watcher.started(stage)


def _start(stage: Stage, out: Path) -> Running:
    folder = Path(tempfile.mkdtemp(prefix=f".training-{stage.name}-", dir=out))
    try:
        for name in stage.needs:
            made = is_trained(name, out)
            source = place_of(name, out) if made else ptharness_zoo.checkpoint(name)
            shutil.copytree(source, folder / name)
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                child_command(stage),
                cwd=folder,
                env={**os.environ, **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Running(stage, folder, process)


def _finish(done: Running, out: Path) -> None:
    """Move what a stage made into place, or say why it failed."""
    name = done.stage.name
    log = done.folder / "log.txt"
    if done.process.returncode != 0:
        kept = out / f"{name}.log"
        log.replace(kept)
        lines = kept.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise PtharnessError(
            f"stage {name} failed with exit code {done.process.returncode}: "
            f"{lines[-1] if lines else 'it printed nothing'}; {kept} holds all that it printed"
        )
    _put(done.folder / name, place_of(name, out))
    if done.stage.has_trajectories:
        _put(done.folder / f"{name}.jsonl.gz", out / "trajectories" / f"{name}.jsonl.gz")
    shutil.rmtree(done.folder)


def _put(made: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    made.replace(place)


def _add_manifests(out: Path) -> None:
    """Lay the manifests beside a whole zoo, so that it can be run like the bundled one."""
    if not missing(out):
        for name in MANIFESTS:
            with suppress(shutil.SameFileError):
                shutil.copy(ptharness_zoo.MANIFEST.parent / name, out / name)
