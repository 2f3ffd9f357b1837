"""docs/how-to/write-a-task.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ptharness.prompts import Template
from ptharness.tasks.base import Document, TaskSettings
from ptharness.tasks.catalogue import PathTasks
from tests.tasks.reference import CHECKPOINT, ROOT, scored

PAGE = (ROOT / "docs" / "how-to" / "write-a-task.md").read_text()


def test_the_example_runs(tmp_path: Path) -> None:
    files = re.findall(r"in `([a-z.]+)`:\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL)
    assert [name for name, _ in files] == ["riddles.jsonl", "riddles.yaml"]
    for name, text in files:
        (tmp_path / name).write_text(text)
    manifest = next(
        yaml.safe_load(block)
        for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
        if block.startswith("evaluate:")
    )
    (entry,) = manifest["evaluate"]["tasks"]
    (task,) = PathTasks().find(entry["task"], tmp_path)
    loaded = task.load(TaskSettings())
    prompts = loaded.prompts(CHECKPOINT, Template("none"))
    assert prompts.rows["prompt"][0].as_py() == "What is 2 + 3?\nAnswer:"
    assert prompts.rows["cluster"].to_pylist() == ["sums", "differences", "sums"]
    assert prompts.header.primary == ("exact_match", "number")
    assert prompts.header.generation["until"] == ["\n"]
    answers = [["it is 5", "6"], [" 3.", "three"], ["-8", "8"]]
    documents = [Document(i, [texts]) for i, texts in enumerate(answers)]
    (aggregate,) = loaded.aggregate(scored(loaded, documents))
    assert (aggregate.value, aggregate.samples) == (0.5, 2)
