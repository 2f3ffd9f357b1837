"""Data sets that cannot be had: which one it is, and that the hub is not waited for twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptharness.tasks import hub

PROGRAM = """
import json, sys
from pathlib import Path
import huggingface_hub
from ptharness.errors import TaskError
from ptharness.tasks.base import TaskSettings
from ptharness.tasks.catalogue import PathTasks

asked, get_session = [], huggingface_hub.get_session
huggingface_hub.get_session = lambda: asked.append(1) or get_session()
messages = []
for name in sys.argv[2:]:
    (task,) = PathTasks().find(name, Path(sys.argv[1]))
    try:
        task.load(TaskSettings())
    except TaskError as error:
        messages.append(str(error))
print(json.dumps([messages, len(asked)]))
"""
TASK = """
task: {name}
dataset_path: {path}
dataset_name: second
test_split: test
doc_to_text: question
doc_to_target: answer
"""
CLASS = """
from lm_eval.api.task import ConfigurableTask

class Own(ConfigurableTask):
    DATASET_PATH = "nobody/third"
    DATASET_NAME = "main"
    def __init__(self, config=None):
        super().__init__(config={"task": "c", "test_split": "test", "doc_to_text": "question",
                                 "doc_to_target": "answer"})
"""


@pytest.mark.parametrize("offline", ["0", "1"])
def test_the_data_set_is_named_and_the_hub_asked_once(tmp_path: Path, offline: str) -> None:
    (tmp_path / "a.yaml").write_text(TASK.format(name="a", path="nobody/first"))
    (tmp_path / "b.yaml").write_text(TASK.format(name="b", path="nobody/other"))
    (tmp_path / "c.yaml").write_text("task: c\nclass: !function own.Own\n")
    (tmp_path / "own.py").write_text(CLASS)
    environment = {
        **os.environ,
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nothing listens there
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": offline,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), "a.yaml", "b.yaml", "c.yaml"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    messages, asked = json.loads(done.stdout.splitlines()[-1])
    assert asked == 1
    told: tuple[str, ...] = tuple(
        f"'nobody/{name}' (configuration 'second')" for name in ("first", "other")
    )
    told = (*told, "'nobody/third' (configuration 'main')")
    for name, data_set, message in zip("abc", told, messages, strict=True):
        assert message.startswith(f"task '{name}': its data set {data_set} cannot be had here")
        assert "carry its cache over (HF_HOME)" in message


def test_the_libraries_are_offline_only_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    with hub.cached_if_unreachable({"dataset_path": "nobody/first"}):
        assert constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    assert not datasets.config.HF_HUB_OFFLINE
    for local in ("json", str(tmp_path)):
        with hub.cached_if_unreachable({"dataset_path": local}):
            assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    with hub.cached_if_unreachable({"dataset_path": "nobody/first"}):
        assert not constants.HF_HUB_OFFLINE
