"""Results folders with every table, made up from a few known numbers: no model, no analysis.

`write_results(folder, Made(...))` writes the published tables and, unless told otherwise, the
analysis tables. Nothing in them is random: a value is a function of the names and the scope, so
that a test can say what the report must show.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ptharness.schema import ANALYSIS, LIKELIHOODS, PUBLISHED, SAMPLES

RLO, ZERO_WIDTH, SEPARATOR = "\u202e", "\u200b", "\u2028"
HOSTILE = (
    "<script>window.planted = 1</script>",
    "</script><script>window.planted = 2</script>",
    '<img src=x onerror="window.planted = 3">',
    "\" onmouseover='window.planted = 4' x=\"",
    "<svg/onload=window.planted=5><!-- ]]> {{ 7 * 7 }} {% raw %}",
    f"right{RLO}left zero{ZERO_WIDTH}width line{SEPARATOR}break \x1b[31m\x00",
    "broken \ufffd\ufffd <a href='javascript:window.planted = 6'>go</a> &amp; &lt;",
)
"""What models, manifests and plugins may write; `window.planted` betrays what ran."""

DEPTH = 8
"""Samples per item; the made-up support budget is a quarter of it."""


@dataclass(frozen=True)
class Stage:
    """A checkpoint of a made-up lineage."""

    name: str
    parents: tuple[str, ...] = ()
    method: str | None = None
    provenance: str | None = None
    role: tuple[str, ...] = ()
    measured: str = "none"
    verdict: str = "undetermined"
    teacher: str | None = None
    replicate: int = 0
    weights: str | None = None
    attrition: bool = False
    harmful: bool = False


LINEAGE = (
    Stage("base"),
    Stage(
        "sft",
        ("base",),
        "sft",
        "off_policy",
        ("support_expansion", "policy_reshaping"),
        "support_expansion",
        "supported",
        attrition=True,
    ),
    Stage(
        "grpo",
        ("sft",),
        "grpo",
        "on_policy",
        ("policy_reshaping",),
        "policy_reshaping",
        "supported",
    ),
    Stage(
        "student",
        ("grpo",),
        "sequence_kd",
        "off_policy",
        ("consolidation",),
        "consolidation",
        "supported",
        teacher="grpo",
    ),
    Stage(
        "dpo",
        ("sft",),
        "dpo",
        "off_policy",
        ("policy_reshaping",),
        "mixed",
        "supported",
        harmful=True,
    ),
    Stage("srft", ("sft",), "srft", "mixed", ("support_expansion",), "none", "contradicted"),
    Stage(
        "sft-again",
        ("base",),
        "sft",
        "off_policy",
        ("support_expansion", "policy_reshaping"),
        "undetermined",
        replicate=1,
        weights="sft",
    ),
)

NO_ATTEMPTS = "multiple choice: there are no attempts, so only the change is defined"


@dataclass(frozen=True)
class Made:
    """What to make up."""

    stages: tuple[Stage, ...] = LINEAGE
    tasks: tuple[str, ...] = ("add", "rot", "swp")
    choices: tuple[str, ...] = ("pick",)
    analysis: tuple[str, ...] = tuple(ANALYSIS)
    undefined: bool = False
    hostile: bool = False
    failures: tuple[Mapping[str, Any], ...] = ()
    certified_items: int = 6
    sampled: int | None = None
    """Tasks with samples; all, unless told otherwise."""
    run: Mapping[str, Any] = field(default_factory=dict)


def many(checkpoints: int, tasks: int) -> Made:
    """A long lineage: a main path with a fork at every other checkpoint, on many tasks."""
    stages = [Stage("base")]
    spine = "base"
    for number in range(1, checkpoints):
        name = f"stage-{number:02d}"
        stages.append(
            Stage(
                name,
                (spine,),
                "grpo",
                ("on_policy", "off_policy", "mixed")[number % 3],
                ("policy_reshaping",),
                ("policy_reshaping", "mixed", "none", "support_expansion")[number % 4],
            )
        )
        if number % 2:
            spine = name
    return Made(
        tuple(stages),
        tuple(f"a_task_of_number_{n:02d}" for n in range(tasks)),
        choices=(),
        sampled=2,
    )


def value(*names: object) -> float:
    """A number in [0, 1) that depends on nothing but the names."""
    return zlib.crc32("|".join(map(str, names)).encode()) % 9973 / 9973


def write_results(folder: Path, made: Made | None = None) -> Path:
    """Write a results folder and return it."""
    made = made or Made()
    folder.mkdir(parents=True, exist_ok=True)
    maker = _Maker(made)
    for name, rows in (
        ("checkpoints", maker.checkpoints()),
        ("documents", maker.documents()),
        ("items", maker.items()),
        ("metrics", maker.metrics()),
    ):
        _write(folder / f"{name}.parquet", list(rows), PUBLISHED[name])
    for (checkpoint, task), rows in maker.samples().items():
        place = folder / "samples" / checkpoint / f"{task}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        _write(place, rows, SAMPLES)
    for name in made.analysis:
        rows = list(getattr(maker, name)())
        if made.undefined:
            for row in rows:
                if "estimate" in row:
                    row.update(estimate=None, ci_low=None, ci_high=None, reason="needs n >= k + 1")
        if made.undefined and name == "certified":
            rows = []
        _write(folder / f"{name}.parquet", rows, ANALYSIS[name])
    for name in LIKELIHOODS if made.analysis else ():
        _write(folder / f"{name}.parquet", list(getattr(maker, name)()), LIKELIHOODS[name])
    (folder / "run.json").write_text(json.dumps(maker.run()), encoding="utf-8")
    return folder


def _write(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    whole = [{**dict.fromkeys(schema.names), **row} for row in rows]
    table = pa.Table.from_pylist(whole, schema.with_metadata({"schema_version": "1"}))
    pq.write_table(table, path)


class _Maker:
    def __init__(self, made: Made) -> None:
        self.made = made
        self.stages = {stage.name: stage for stage in made.stages}
        self.text = HOSTILE if made.hostile else ("the answer is 42", "no idea", "7 + 5 = 12")
        scopes = [("task", task) for task in made.tasks]
        self.scopes = scopes + ([("pooled", "pooled")] if scopes else [])

    def position(self, name: str) -> int:
        parents = self.stages[name].parents
        return 1 + max(map(self.position, parents)) if parents else 0

    def tags(self, name: str) -> dict[str, Any]:
        stage = self.stages[name]
        return {
            "lineage": "made-up",
            "checkpoint": name,
            "stage": self.position(name),
            "parents": list(stage.parents),
            "method": stage.method,
            "interface": "token_targets" if stage.parents else None,
            "provenance": stage.provenance,
            "role": list(stage.role),
        }

    def checkpoints(self) -> Iterator[dict[str, Any]]:
        for stage in self.made.stages:
            yield {
                **self.tags(stage.name),
                "teacher": stage.teacher,
                "path": f"checkpoints/{stage.name}",
                "replicate": stage.replicate,
                "fingerprint": stage.weights or stage.name,
                "parameters": 1000,
                "declaration": self.text[0],
            }

    def item_names(self) -> list[str]:
        return [f"{n}-item" for n in range(max(4, self.made.certified_items))]

    def documents(self) -> Iterator[dict[str, Any]]:
        for task in (*self.made.tasks, *self.made.choices):
            for number, item in enumerate(self.item_names()):
                text = self.text[number % len(self.text)]
                yield {
                    "lineage": "made-up",
                    "task": task,
                    "item": item,
                    "cluster": item,
                    "prompt": f"question {number}: {text}",
                    "gold": text,
                    "metadata": "{}",
                }

    def items(self) -> Iterator[dict[str, Any]]:
        for stage in self.made.stages:
            for task in (*self.made.tasks, *self.made.choices):
                for item in self.item_names():
                    solved = round(DEPTH * value(stage.name, task, item))
                    yield {
                        **self.tags(stage.name),
                        "task": task,
                        "item": item,
                        "cluster": item,
                        "n": DEPTH,
                        "c": solved,
                        "mean_score": solved / DEPTH,
                        "completion_tokens": 10 * DEPTH,
                        "truncated": 0,
                    }

    def metrics(self) -> Iterator[dict[str, Any]]:
        for stage in self.made.stages:
            for task in (*self.made.tasks, *self.made.choices):
                share = value(stage.name, task, "metric")
                yield {
                    **self.tags(stage.name),
                    "task": task,
                    "metric": "acc",
                    "filter": "none",
                    "value": share,
                    "ci_low": share - 0.05,
                    "ci_high": share + 0.05,
                    "n": len(self.item_names()),
                    "samples": DEPTH,
                    "is_primary": True,
                }

    def samples(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        return {
            (stage.name, task): [
                {
                    **self.tags(stage.name),
                    "task": task,
                    "item": item,
                    "cluster": item,
                    "sample": sample,
                    "completion": f"{stage.name} says: {self.text[(i + sample) % len(self.text)]}"
                    + "\nand more" * (sample == 1),
                    "finish_reason": "stop",
                    "completion_tokens": 10,
                    "correct": sample % 2 == 1,
                    "protocol": "p1",
                }
                for i, item in enumerate(self.item_names())
                for sample in range(DEPTH if i < 2 else 3)
            ]
            for stage in self.made.stages
            for task in self.made.tasks[: self.made.sampled]
        }

    def pairs(self) -> Iterator[tuple[str, str, str]]:
        """Every source, target and relation that an analysis of the lineage has."""
        for stage in self.made.stages:
            for parent in stage.parents:
                yield parent, stage.name, "edge"
            for root in self.roots(stage.name):
                if root not in stage.parents and stage.parents:
                    yield root, stage.name, "path"
            if stage.teacher:
                yield stage.teacher, stage.name, "teacher"

    def roots(self, name: str) -> set[str]:
        parents = self.stages[name].parents
        return set().union(*map(self.roots, parents)) if parents else {name}

    def pair(self, source: str, target: str, relation: str) -> dict[str, Any]:
        return {
            **self.tags(target),
            "source": source,
            "target": target,
            "relation": relation,
            "comparable": "same",
        }

    def scope(self, scope: str, task: str) -> dict[str, Any]:
        tasks = len(self.made.tasks) if scope == "pooled" else 1
        return {"scope": scope, "task": task, "tasks": tasks, "items": 12 * tasks, "level": 0.95}

    def estimate(
        self, quantity: str, estimate: float | None, k: int | None = None, **more: Any
    ) -> dict[str, Any]:
        known = estimate is not None
        return {
            "quantity": quantity,
            "estimate": estimate,
            "k": k,
            "ci_low": estimate - 0.03 if known else None,
            "ci_high": estimate + 0.03 if known else None,
            "ci_method": "bootstrap_t" if known else None,
            "p": 0.01 if known else None,
            "q": 0.02 if known else None,
            "reason": None if known else "needs n >= 2 k samples",
            **more,
        }

    def accuracy(self, name: str, task: str) -> float:
        """pass@1; of pooled, the mean over the tasks, as everything pooled is."""
        if task == "pooled":
            return sum(self.accuracy(name, each) for each in self.made.tasks) / len(self.made.tasks)
        return 0.1 + 0.8 * value(name, task)

    def cells(self, source: str, target: str, task: str, k: int = 2) -> dict[str, float]:
        delta = self.accuracy(target, task) - self.accuracy(source, task)
        expansion = 0.1 * value(source, target, task, k)
        attrition = -0.05 * value(target, source, task, k)
        rest = 0.001
        return {
            "delta": delta,
            "exp": expansion,
            "att": attrition,
            "res": rest,
            "rsh": delta - expansion - attrition - rest,
        }

    def edges(self) -> Iterator[dict[str, Any]]:
        for source, target, relation in self.pairs():
            for scope, task in self.scopes:
                start = {**self.pair(source, target, relation), **self.scope(scope, task)}
                if relation == "teacher":
                    for quantity in (
                        "recovered_gap",
                        "support_transfer",
                        "novelty",
                        "amortisation",
                    ):
                        known = quantity != "amortisation"
                        share = value(quantity, target, task) if known else None
                        yield {**start, **self.estimate(quantity, share, 2)}
                    continue
                cells = self.cells(source, target, task)
                for quantity, estimate in cells.items():
                    k = None if quantity == "delta" else 2
                    yield {**start, **self.estimate(quantity, estimate, k)}
                up = max(cells["rsh"], 0) + 0.01
                yield {**start, **self.estimate("rsh_up", up, 2)}
                yield {**start, **self.estimate("rsh_down", cells["rsh"] - up, 2)}
                yield {**start, **self.estimate("same_model_new", 0.02, 2)}
                yield {**start, **self.estimate("movement", None)}
                if scope == "task":
                    yield {**start, **self.estimate("crossover", 3.0, None, ci_low=2, ci_high=4)}
                    yield {**start, **self.estimate("certified_new", 1.0, 2)}

            yield from self.on_choices(source, target, relation)

    @property
    def choice_scopes(self) -> list[tuple[str, str]]:
        """Where there is no task but multiple choice, it has the mean over all."""
        scopes = [("task", task) for task in self.made.choices]
        return scopes + ([("pooled", "pooled")] if scopes and not self.made.tasks else [])

    def on_choices(self, source: str, target: str, relation: str) -> Iterator[dict[str, Any]]:
        """What an analysis has of multiple choice: a change, and what was forgotten."""
        for scope, task in self.choice_scopes:
            start = {**self.pair(source, target, relation), **self.scope(scope, task), "tasks": 1}
            lost, gained = value(source, target, task), value(target, source, task)
            yield {**start, **self.estimate("delta", gained - lost)}
            for cell in ("exp", "rsh", "rsh_up", "rsh_down", "att", "res", "new", "lost"):
                yield {**start, **self.estimate(cell, None, 2, reason=NO_ATTEMPTS)}
            if scope == "task":
                yield {**start, **self.estimate("choice_probability", value(task, target) - 0.5)}
                yield {**start, **self.estimate("forgetting", lost)}
                yield {**start, **self.estimate("backward_transfer", gained)}

    def verdicts(self) -> Iterator[dict[str, Any]]:
        for source, target, relation in self.pairs():
            stage = self.stages[target]
            for scope, task in self.choice_scopes:
                yield {
                    **self.pair(source, target, relation),
                    **self.scope(scope, task),
                    "role_declared": list(stage.role),
                    "role_measured": "undetermined",
                    "attrition": False,
                    "harmful_reshaping": False,
                    "verdict": "undetermined",
                    "reason": NO_ATTEMPTS,
                }
            for scope, task in self.scopes:
                reason = f"it rests on {len(self.made.tasks)} tasks; {self.text[0]}"
                yield {
                    **self.pair(source, target, relation),
                    **self.scope(scope, task),
                    "role_declared": list(stage.role),
                    "role_measured": "undetermined" if self.made.undefined else stage.measured,
                    "attrition": stage.attrition,
                    "harmful_reshaping": stage.harmful,
                    "verdict": stage.verdict,
                    "reason": reason,
                }

    def measures(self) -> Iterator[dict[str, Any]]:
        for stage in self.made.stages:
            for scope, task in self.scopes:
                start = {**self.tags(stage.name), **self.scope(scope, task)}
                at_one = self.accuracy(stage.name, task)
                for k in (1, 2, 4, 8):
                    share = 1 - (1 - at_one) ** (1 + 0.4 * math.log2(k))
                    yield {**start, **self.estimate("pass_at_k", share, k)}
                yield {**start, **self.estimate("tokens_per_solve", 10 / at_one)}
                yield {**start, **self.estimate("completion_tokens", 10.0)}
                yield {**start, **self.estimate("truncation_rate", 0.0)}

    def retention(self) -> Iterator[dict[str, Any]]:
        for later in self.made.stages:
            line = later
            while line.parents:
                source = line.parents[0]
                if line.name != later.name:
                    for scope, task in self.scopes:
                        share = None if task == "swp" else 0.5 + value(source, later.name, task)
                        yield {
                            **self.pair(source, line.name, "edge"),
                            **self.tags(later.name),
                            **self.scope(scope, task),
                            **self.estimate("retention", share),
                        }
                line = self.stages[source]

    def turnover(self) -> Iterator[dict[str, Any]]:
        names = list(self.stages)
        for index, source in enumerate(names):
            for target in names[index + 1 :]:
                for scope, task in self.scopes:
                    start = {**self.pair(source, target, "pair"), **self.scope(scope, task)}
                    new, lost = 0.2 * value(source, target), 0.2 * value(target, source)
                    for quantity, share in (
                        ("new", new),
                        ("lost", lost),
                        ("kept", 0.5),
                        ("neither", 0.5 - new - lost),
                        ("same_model_new", 0.02),
                    ):
                        yield {**start, **self.estimate(quantity, share, 2)}

    def provenance(self) -> Iterator[dict[str, Any]]:
        for stage in self.made.stages:
            if not stage.parents:
                continue
            gap = 3 * value(stage.name, "gap")
            numbers = [round(3 * value(stage.name, n), 3) for n in range(40)]
            yield {
                **self.tags(stage.name),
                "parent": stage.parents[0],
                "side": "all",
                "provenance_declared": "on_policy",
                "provenance_measured": "mixed",
                "reason": HOSTILE[1] if self.made.hostile else "in between",
                "prompts": 20,
                "given": 40,
                "own": 40,
                "gap_nats_per_token": None if self.made.undefined else gap,
                "gap_ci_low": None if self.made.undefined else gap - 0.1,
                "gap_ci_high": None if self.made.undefined else gap + 0.1,
                "auc": None if self.made.undefined else 0.6,
                "given_nats_per_token": [] if self.made.undefined else numbers,
                "own_nats_per_token": [] if self.made.undefined else numbers[::-1],
            }

    def distances(self) -> Iterator[dict[str, Any]]:
        for source in self.made.stages:
            for target in self.made.stages:
                if source == target:
                    continue
                undefined = self.made.undefined
                nats = None if undefined else 3 * value(source.name, target.name)
                yield {
                    "lineage": "made-up",
                    "source": source.name,
                    "target": target.name,
                    "relation": "child" if target.name in source.parents else "other",
                    **self.scope("pooled", "pooled"),
                    "method": "sampled",
                    "excess_bits_per_byte": None if undefined else 0.5,
                    "nats_per_token": nats,
                    "nats_per_token_ci_low": None if nats is None else nats - 0.1,
                    "nats_per_token_ci_high": None if nats is None else nats + 0.1,
                    "level": 0.95,
                    "items": 20,
                    "samples": 40,
                    "reason": "another vocabulary" if undefined else None,
                }

    def token_likelihoods(self) -> Iterator[dict[str, Any]]:
        for stage in self.made.stages:
            if stage.parents and self.made.tasks:
                yield {
                    "lineage": "made-up",
                    "source": stage.name,
                    "target": stage.parents[0],
                    "task": self.made.tasks[0],
                    "item": "0-abc",
                    "sample": 0,
                    "prompt": self.text[0],
                    "nats": 9.0,
                    "tokens": [*self.text, "\n"],
                    "source_logprobs_nats": [-0.1, -0.1, -0.1, -0.1],
                    "target_logprobs_nats": [-0.1, -1.0, -9.0, -0.5],
                    "divergences_nats": None,
                }

    def sensitivity(self) -> Iterator[dict[str, Any]]:
        for source, target, relation in self.pairs():
            if relation == "edge":
                for scope, task in self.scopes:
                    for k in (4, 8, 16, 32):
                        start = {**self.pair(source, target, "edge"), **self.scope(scope, task)}
                        for quantity, share in self.cells(source, target, task, k).items():
                            if quantity != "delta":
                                known = share if k < 32 else None
                                yield {**start, **self.estimate(quantity, known, k)}

    def certified(self) -> Iterator[dict[str, Any]]:
        for source, target, relation in self.pairs():
            if relation == "edge":
                for task in self.made.tasks:
                    for number, item in enumerate(self.item_names()[: self.made.certified_items]):
                        yield {
                            **self.pair(source, target, "edge"),
                            "task": task,
                            "item": item,
                            "direction": ("newly_reachable", "no_longer_reachable")[number % 2],
                            "k": 2,
                            "source_n": DEPTH,
                            "source_c": 0,
                            "target_n": DEPTH,
                            "target_c": 7,
                            "p": 0.001 * (number + 1),
                            "q": 0.002 * (number + 1),
                        }

    def run(self) -> dict[str, Any]:
        tasks = {
            task: {"kind": "generate", "primary": ["acc", "none"], "binary": True, "version": "1"}
            for task in self.made.tasks
        } | {
            task: {
                "kind": "loglikelihood",
                "primary": ["acc", "none"],
                "binary": True,
                "version": "1",
            }
            for task in self.made.choices
        }
        return {
            "schema_version": "1",
            "state": "made-up",
            "lineage": "made-up",
            "started": "2026-01-02T03:04:05+00:00",
            "finished": "2026-01-02T03:05:06+00:00",
            "command": ["ptharness", "run", self.text[0]],
            "versions": {"ptharness": "0.1.0", "vllm": self.text[0]},
            "machine": {"platform": "made-up", "cpus": 2},
            "engine": {"name": "fake", "options": {}, "identity": {"engine": "fake"}},
            "seeds": {"root": 0},
            "support_budget": 2,
            "tasks": tasks,
            "protocols": {
                f"p-{task}": {
                    "task": task,
                    "kind": "generate",
                    "samples": DEPTH,
                    "sampling": {"temperature": 1.0, "max_tokens": 40, "stop": [self.text[1]]},
                    "chat_template_used": False,
                }
                for task in self.made.tasks[:1]
            },
            "failures": list(self.made.failures),
            "engine_loads": [],
            "timings": {"generation_s": 1.5},
            **self.made.run,
        }
