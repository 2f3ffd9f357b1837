"""The trajectories of a stage as a task for its parent: to score them, or to ask their prompts.

Both halves have the same prompts, so that what was given can be compared with what the parent
says itself. Nothing is scored as right or wrong here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from ptharness.errors import TaskError
from ptharness.fingerprint import digest, files_digest
from ptharness.prompts import Kind, PromptSet, PromptSetHeader, Template
from ptharness.schema import PROMPTS
from ptharness.tasks.base import LoadedTask, Task, TaskSettings
from ptharness.tasks.encoding import PromptEncoder, chat_renderer
from ptharness.tasks.unscored import UnscoredTask
from ptharness.tokenizer import load_tokenizer, special_token_ids, spells
from ptharness.trajectories import Message, Trajectory

VERSION = 4
LEAST_ROOM = 64
"""Tokens that an own sample may have where what was given is short."""

Ids = list[int]


@dataclass(frozen=True)
class TrajectoryTask(Task):
    """Trajectories of a stage that were chosen from its file.

    `kind` generate asks their prompts, loglikelihood scores them. Messages are rendered by the
    chat template of the checkpoint that is asked, else by that of `child`, a tokenizer's folder: a
    base model learns its template in the stage.
    """

    name: str
    trajectories: tuple[Trajectory, ...]
    kind: Kind
    child: Path

    too_long_remedy: ClassVar[str] = (
        "measure it under a checkpoint with a longer context, or raise the engine's max_model_len "
        "if that is what bounds it"
    )

    def inputs_digest(self, settings: TaskSettings) -> str:
        """Covers the trajectories and what renders them; not the file that they are from."""
        names = ("tokenizer_config.json", "chat_template.jinja")
        templates = files_digest([self.child / n for n in names if (self.child / n).is_file()])
        content = [(t.prompt, t.completion) for t in self.trajectories]
        # Only what the prompt set holds: sides, rewards and columns stay beside it.
        # A prompt set says whose it is, and a stage under another name asks the same.
        return digest(VERSION, self.name, content, self.kind, templates, settings)

    def load(self, _: TaskSettings) -> LoadedTask:
        return _Loaded(self)


class _Loaded(UnscoredTask):
    def __init__(self, task: TrajectoryTask) -> None:
        self.task = task
        self.by_prompt = by_prompt(task.trajectories)

    def prompts(self, tokenizer_directory: Path, template: Template) -> PromptSet:
        """Raises `TaskError` where messages meet no chat template."""
        renderer = _Renderer(load_tokenizer(tokenizer_directory), template, self.task.child)
        rows: list[dict[str, Any]] = []
        longest = 0
        for document, given in enumerate(self.by_prompt):
            prompt = given[0].prompt
            text, prompt_ids = renderer.prompt(prompt, given[0].where)
            completions = [renderer.completion(one, text, prompt_ids) for one in given]
            longest = max(longest, *(len(ids) for ids in completions))
            name = f"{document}-{digest(prompt)[:8]}"
            common = {
                "document": document,
                "item": name,
                "cluster": name,
                "document_digest": digest(prompt),
                "prompt": text,
                "prompt_token_ids": prompt_ids,
            }
            if self.task.kind == "generate":
                rows.append({**common, "request": 0, "metadata": "{}"})
                continue
            for request, (trajectory, ids) in enumerate(zip(given, completions, strict=True)):
                about = {"spelled": renderer.spells(trajectory.completion)}
                rows.append(
                    {
                        **common,
                        "request": request,
                        "continuation": trajectory.completion,
                        "continuation_token_ids": ids,
                        "metadata": json.dumps(about),
                    }
                )
        room = max(LEAST_ROOM, 2 * longest)
        header = PromptSetHeader(
            task=self.task.name,
            kind=self.task.kind,
            documents=len(self.by_prompt),
            generation={"temperature": 1.0, "max_gen_toks": room, "until": []},
        )
        return PromptSet(header, pa.Table.from_pylist(rows, schema=PROMPTS))


class _Renderer:
    """Texts and token ids of prompts and completions for one tokenizer."""

    def __init__(self, tokenizer: Any, template: Template, child: Path) -> None:
        self.tokenizer = tokenizer
        self.encoder = PromptEncoder(tokenizer)
        # An unknown character ends nothing; some tokenizers name one token for both.
        self.special = special_token_ids(tokenizer) - {tokenizer.unk_token_id}
        self.special.add(tokenizer.eos_token_id)
        if chat_renderer(tokenizer, template) is None and template.chat_template == "auto":
            learned = getattr(load_tokenizer(child), "chat_template", None)
            template = Template(learned or "none")
        self.render = chat_renderer(tokenizer, template)
        self.own = (
            {} if template.chat_template == "auto" else {"chat_template": template.chat_template}
        )

    def prompt(self, prompt: str | tuple[Message, ...], where: str) -> tuple[str, Ids]:
        text = prompt if isinstance(prompt, str) else self._conversation(prompt, where)
        return text, self.encoder.prompts([text])[0]

    def _conversation(self, turns: Sequence[Message], where: str) -> str:
        if self.render is None:
            raise TaskError(
                f"{where}: is messages, and neither the tokenizer of the checkpoint that is asked "
                "nor that of its child has a chat template; set evaluate.chat_template"
            )
        return str(self.render(as_messages(turns)))

    def completion(self, trajectory: Trajectory, prompt: str, prompt_ids: Ids) -> Ids:
        """Its token ids after its prompt with the token that ends it, as the template has it."""
        after = prompt, prompt_ids
        (plain,) = self.encoder.continuations([(*after, trajectory.completion)])
        ids = plain
        if not isinstance(trajectory.prompt, str):
            answer = Message("assistant", trajectory.completion)
            whole = self._whole((*trajectory.prompt, answer))
            if whole.startswith(prompt):
                rest = whole.removeprefix(prompt)
                (ended,) = self.encoder.continuations([(*after, rest)])
                ids = self._up_to_its_end(ended, plain)
        eos = self.tokenizer.eos_token_id
        if eos in ids:
            return ids[: ids.index(eos) + 1]
        has_end = bool(ids) and ids[-1] in self.special
        return ids if has_end or eos is None else [*ids, int(eos)]

    def _up_to_its_end(self, ids: Ids, plain: Ids) -> Ids:
        """What a template makes of a completion, up to the first special token of its own.

        Those of the completion (of a tool call, say) do not end it. A template whose end is no
        token here was made for another tokenizer.
        """
        places = [place for place, token in enumerate(ids) if token in self.special]
        inside = sum(token in self.special for token in plain)
        return ids[: places[inside] + 1] if len(places) > inside else plain

    def spells(self, text: str) -> bool:
        """Whether its tokens are this text: no unknown character in it, nothing normalised."""
        return spells(
            self.tokenizer, self.tokenizer(text, add_special_tokens=False)["input_ids"], text
        )

    def _whole(self, turns: Sequence[Message]) -> str:
        messages = as_messages(turns)
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **self.own))


def by_prompt(trajectories: Sequence[Trajectory]) -> list[list[Trajectory]]:
    """Those of each document of the prompt sets, in the order of its requests."""
    found: dict[Any, list[Trajectory]] = {}
    for trajectory in trajectories:
        found.setdefault(trajectory.prompt, []).append(trajectory)
    return list(found.values())


def as_messages(turns: Sequence[Message]) -> list[dict[str, str]]:
    """Turns as a chat template takes them."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def are_spelled(rows: pa.Table) -> list[bool]:
    """Of each row of a prompt set of trajectories, whether its tokens are its text."""
    return [bool(json.loads(text)["spelled"]) for text in rows["metadata"].to_pylist()]
