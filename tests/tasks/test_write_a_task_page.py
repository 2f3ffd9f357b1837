"""docs/how-to/write-a-task.md does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from ptharness.manifest import read_manifest
from ptharness.prompts import Template
from ptharness.tasks.base import Aggregation, Document, TaskSettings
from ptharness.tasks.catalogue import PathTasks
from tests.tasks.reference import CHECKPOINT, ROOT, scored

PAGE = (ROOT / "docs" / "how-to" / "write-a-task.md").read_text()


def block(beginning: str) -> str:
    """The one YAML block of the page that begins so."""
    found = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    (one,) = (text for text in found if text.startswith(beginning))
    return str(one)


def test_the_rolling_task_and_the_group_load(tmp_path: Path) -> None:
    (tmp_path / "texts.yaml").write_text(block("task: texts"))
    (tmp_path / "texts.jsonl").write_text('{"text": "a cat sat"}\n{"text": "on a mat"}\n')
    (task,) = PathTasks().find("texts.yaml", tmp_path)
    header = task.load(TaskSettings()).prompts(CHECKPOINT, Template()).header
    assert (header.kind, header.metrics) == ("loglikelihood_rolling", (("bits_per_byte", "none"),))

    (tmp_path / "reasoning.yaml").write_text(block("group: reasoning"))
    (tmp_path / "riddles.yaml").write_text(block("task: riddles"))
    groups = {g.name: g for g in PathTasks().groups("reasoning.yaml", tmp_path)}
    sums = ("arithmetic_2da", "arithmetic_3da")
    assert groups["reasoning"].tasks == ("riddles", "arc_easy", *sums)
    assert groups["reasoning"].aggregations == (Aggregation("exact_match", ("number",), False),)
    assert groups["reasoning-sums"].tasks == sums
    assert groups["reasoning-sums"].aggregations == (Aggregation("acc", None, True),)


def test_the_contract_runs_as_the_page_says(tmp_path: Path) -> None:
    for name, text in re.findall(r"in `([a-z.]+)`:\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL):
        (tmp_path / name).write_text(text)
    (suite,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "test_riddles.py").write_text(suite)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"1[5-9] passed, 1 skipped", ran.stdout), ran.stdout


def test_thoughts_are_set_as_the_page_says(tmp_path: Path) -> None:
    text = block("evaluate:\n  think_end_token")
    path = tmp_path / "lineage.yaml"
    path.write_text("lineage: l\ncheckpoints: {a: {path: x}}\n" + text)
    assert read_manifest(path).evaluate.think_end_token == "</think>"


def test_the_example_runs(tmp_path: Path) -> None:
    files = re.findall(r"in `([a-z.]+)`:\n\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL)
    assert [name for name, _ in files] == ["riddles.jsonl", "riddles.yaml"]
    for name, text in files:
        (tmp_path / name).write_text(text)
    manifest = yaml.safe_load(block("evaluate:\n  tasks"))
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
