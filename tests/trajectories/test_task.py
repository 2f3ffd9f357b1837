"""What a parent is asked to score of a trajectory, with the zoo's tokenizer of single letters."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ptharness_zoo import CHECKPOINTS

from ptharness.prompts import Template
from ptharness.tasks.base import TaskSettings
from ptharness.tasks.trajectories import TrajectoryTask
from ptharness.tokenizer import load_tokenizer
from ptharness.trajectories import Message, Trajectory

PARENT = CHECKPOINTS / "base"
ASKED = (Message("user", "rev ab"),)


def scored(
    prompt: str | tuple[Message, ...], completion: str, template: str = "auto"
) -> tuple[str, bool]:
    """The tokens that are scored, as text, and whether they are said to be the completion."""
    trajectory = Trajectory(prompt, completion, "given", None, "here")
    task = TrajectoryTask("sft-given", (trajectory,), "loglikelihood", PARENT)
    rows = task.load(TaskSettings()).prompts(PARENT, Template(template)).rows
    (row,) = rows.to_pylist()
    about: dict[str, Any] = json.loads(row["metadata"])
    text: str = load_tokenizer(PARENT).decode(row["continuation_token_ids"])
    return text, about["spelled"]


WHAT_IS_SCORED = {
    "with its end": (":ba", ":ba<eos>", True),
    "an unknown letter ends nothing": (":bÄa", ":b<unk>a<eos>", False),
    "nor does one at the end": (":bÄ", ":b<unk><eos>", False),
    "a special token inside ends nothing": (":b<bot>a", ":b<bot>a<eos>", True),
    "nothing is said after the end": (":ba<eos>a", ":ba<eos>", True),
}


@pytest.mark.parametrize("prompt", [ASKED, "rev ab"], ids=["messages", "text"])
@pytest.mark.parametrize("name", WHAT_IS_SCORED)
def test_what_is_scored(name: str, prompt: Any) -> None:
    completion, *expected = WHAT_IS_SCORED[name]
    assert list(scored(prompt, completion)) == expected


def test_a_prompt_set_holds_no_columns() -> None:
    """A reward function gets them from the file; they may be large."""
    plain = Trajectory("q", "a", "given", 1.0, "here")
    columns = replace(plain, columns={"answer": "x" * 5000}, side="chosen", reward=None)
    digests = set()
    for kind in ("generate", "loglikelihood"):
        for one in (plain, columns):
            task = TrajectoryTask("sft", (one,), kind, PARENT)
            digests.add(task.inputs_digest(TaskSettings()))
            rows = task.load(TaskSettings()).prompts(PARENT, Template("auto")).rows
            assert len(rows["metadata"][0].as_py()) < 100
    assert len(digests) == 2


def test_a_text_that_ends_with_another_special_token_has_its_end() -> None:
    assert scored("rev ab", ":ba<user>") == (":ba<user>", True)


def test_an_end_that_the_parent_has_no_token_for_is_left_out() -> None:
    """A template of another tokenizer: the parent ends an answer in its own way."""
    template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}[/]{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    assert scored(ASKED, ":ba", template) == (":ba<eos>", True)
