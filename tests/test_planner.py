"""Keys: every ingredient is changed in turn; what is made again follows design and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ptharness.engines.base import EngineSettings
from ptharness.engines.vllm import VllmEngine
from ptharness.errors import CheckpointError
from ptharness.lineage import Checkpoint, Stage
from ptharness.planner import PlannedTask, Work, make_plan, plan_work, read_prints
from ptharness.prompts import PromptSet, PromptSetHeader
from ptharness.protocol import SAMPLE_BLOCK, SHARD_DOCUMENTS, Sampling, resolve_sampling
from ptharness.schema import PROMPTS
from ptharness.tasks.base import LoadedTask, Task, TaskSettings
from ptharness.taxonomy import Interface, Provenance, Role
from tests.conftest import write_checkpoint, write_lora, write_safetensors

DOCUMENTS = 150


class NamedTask(Task):
    """A task that is planned and never loaded."""

    def __init__(self, name: str = "task") -> None:
        self.name = name

    def inputs_digest(self, settings: TaskSettings) -> str:
        return self.name

    def load(self, settings: TaskSettings) -> LoadedTask:
        raise AssertionError("planning loads nothing")


def prompt_set(
    kind: Any = "generate", prompt: str = "p{}", gold: str = "g", **header: Any
) -> PromptSet:
    rows = [
        {
            "document": i,
            "request": 0,
            "item": f"{i}-x",
            "cluster": f"{i}-x",
            "document_digest": f"{prompt} {gold} {i}",
            "prompt": prompt.format(i),
            "prompt_token_ids": [ord(character) for character in prompt.format(i)],
            "continuation_token_ids": [1, 2] if kind == "loglikelihood" else None,
            "gold": gold,
        }
        for i in range(DOCUMENTS)
    ]
    made = PromptSetHeader(
        **{
            "task": "task",
            "kind": kind,
            "documents": DOCUMENTS,
            "metrics": (("exact_match", "none"),),
            "primary": ("exact_match", "none"),
            "score_digest": "s",
            **header,
        }
    )
    stored = PromptSet(made, pa.Table.from_pylist(rows, schema=PROMPTS)).to_table()
    return PromptSet.from_table(stored)


class Case:
    """Everything that a plan of one checkpoint x task is made from; tests change one thing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.checkpoint = Checkpoint("sft", directory, str(directory))
        self.prompts = prompt_set()
        self.sampling: Sampling | None = Sampling(temperature=1.0, stop=("\n",))
        self.samples, self.seed, self.limit = 24, 0, None
        self.task = NamedTask()
        self.options: dict[str, Any] = {"dtype": "float32"}
        self.needed_tokens: int | None = None
        self.context: int | None = None
        self.distributions = False

    def work(self) -> Work:
        planned = PlannedTask(
            self.task,
            TaskSettings(),
            "set",
            self.prompts,
            self.sampling,
            self.samples,
            "protocol",
            {},
            self.seed,
            self.context,
            self.distributions,
        )
        settings = EngineSettings("vllm", self.options, self.needed_tokens)
        return plan_work(
            replace(self.checkpoint, directory=self.directory),
            read_prints(replace(self.checkpoint, directory=self.directory)),
            planned,
            VllmEngine.identity(settings),
            limit=self.limit,
        )

    def keys(self) -> tuple[set[str], set[str]]:
        work = self.work()
        return {unit.key for unit in work.generation}, {unit.key for unit in work.scores}


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setenv("PTHARNESS_CACHE", str(tmp_path / "cache"))
    directory = write_checkpoint(tmp_path / "checkpoint", eos_token_id=2)
    return Case(directory)


def edit_config(case: Case, **changes: Any) -> None:
    path = case.directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def other_weights(case: Case) -> None:
    write_safetensors(case.directory / "model.safetensors", 12345.0)


def other_tokenizer(case: Case) -> None:
    (case.directory / "tokenizer.json").write_text("{}")


def other_engine_version(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptharness.engines import vllm_start

    monkeypatch.setattr(vllm_start, "installed", lambda: ("vllm", "99.0"))


def sampling(**changes: Any) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        assert case.sampling
        case.sampling = replace(case.sampling, **changes)

    return change


def setting(**changes: Any) -> Callable[[Case], None]:
    return lambda case: case.__dict__.update(changes)


def stage(case: Case) -> None:
    made = Stage("dpo", ("x",), Provenance.MIXED, Interface.REWARDS, (Role.CONSOLIDATION,))
    case.checkpoint = replace(case.checkpoint, name="other", source="elsewhere", stage=made, step=4)


def moved(case: Case) -> None:
    new = case.directory.parent / "moved"
    shutil.copytree(case.directory, new)
    case.directory = new


def tokenizer_names_an_end(case: Case) -> None:
    added = [{"id": 9, "content": "<end>"}]
    (case.directory / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (case.directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))


GENERATED_AGAIN: Mapping[str, Callable[[Case], None]] = {
    "weights": other_weights,
    "architecture": lambda case: edit_config(case, rope_theta=5e5),
    "tokenizer": other_tokenizer,
    "end-of-sequence ids": lambda case: edit_config(case, eos_token_id=[2, 7]),
    "prompt token ids": setting(prompts=prompt_set(prompt="q{}")),
    "temperature": sampling(temperature=0.7),
    "top_p": sampling(top_p=0.9),
    "top_k": sampling(top_k=5),
    "min_p": sampling(min_p=0.1),
    "repetition penalty": sampling(repetition_penalty=1.1),
    "presence penalty": sampling(presence_penalty=0.1),
    "frequency penalty": sampling(frequency_penalty=0.1),
    "max tokens": sampling(max_tokens=7),
    "stop strings": sampling(stop=("END",)),
    "special tokens": sampling(skip_special_tokens=False),
    "whole distributions": setting(distributions=True),
    "root seed": setting(seed=1),
    "replicate": lambda case: setattr(case, "checkpoint", replace(case.checkpoint, replicate=1)),
    "engine dtype": setting(options={"dtype": "bfloat16"}),
    "quantisation": setting(options={"dtype": "float32", "quantization": "fp8"}),
    "KV-cache dtype": setting(options={"dtype": "float32", "kv_cache_dtype": "fp8"}),
    "a context that leaves less room": setting(context=256),
    "maximum length set by the user": setting(options={"dtype": "float32", "max_model_len": 99}),
}

SCORED_AGAIN: Mapping[str, Callable[[Case], None]] = {
    "filters, metrics, their source": setting(prompts=prompt_set(score_digest="t")),
    "gold data": setting(prompts=prompt_set(gold="h")),
    "primary metric": setting(prompts=prompt_set(primary=("other", "none"))),
}

NEITHER: Mapping[str, Callable[[Case], None]] = {
    "path": moved,
    "name, source, parents, method, provenance, role, step": stage,
    "task name": setting(task=NamedTask("other")),
    "a context in which all fits": setting(context=262),
    "tokens that the plan needs": setting(needed_tokens=4000),
    "memory": setting(options={"dtype": "float32", "gpu_memory_utilization": 0.5}),
    "batch size": setting(options={"dtype": "float32", "max_num_seqs": 7}),
    "tensor-parallel size": setting(options={"dtype": "float32", "tensor_parallel_size": 2}),
    "notes in the config": lambda case: edit_config(case, transformers_version="1", use_cache=True),
}


def test_same_inputs_same_keys(case: Case) -> None:
    assert case.keys() == case.keys()
    generation, scores = case.keys()
    assert len(generation) == 3 * 2, "150 documents in shards of 64; 24 samples in blocks of 16"
    assert len(scores) == 3


@pytest.mark.parametrize("ingredient", GENERATED_AGAIN)
def test_generated_and_scored_again(case: Case, ingredient: str) -> None:
    before = case.keys()
    GENERATED_AGAIN[ingredient](case)
    after = case.keys()
    assert before[0].isdisjoint(after[0])
    assert before[1].isdisjoint(after[1])


def test_another_engine_version_generates_again(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = case.keys()
    other_engine_version(case, monkeypatch)
    assert before[0].isdisjoint(case.keys()[0])


@pytest.mark.parametrize("ingredient", SCORED_AGAIN)
def test_scored_again_only(case: Case, ingredient: str) -> None:
    before = case.keys()
    SCORED_AGAIN[ingredient](case)
    after = case.keys()
    assert before[0] == after[0]
    assert before[1].isdisjoint(after[1])


@pytest.mark.parametrize("ingredient", NEITHER)
def test_neither_generated_nor_scored_again(case: Case, ingredient: str) -> None:
    before = case.keys()
    NEITHER[ingredient](case)
    assert case.keys() == before


def test_more_samples_keep_full_blocks(case: Case) -> None:
    few = case.keys()[0]
    case.samples = 16
    full = case.keys()[0]
    case.samples = 48
    many = case.keys()[0]
    assert full < many
    assert full < few
    assert len(many) == 3 * 3


def test_a_limit_keeps_full_shards(case: Case) -> None:
    everything = case.keys()
    case.limit = SHARD_DOCUMENTS + 1
    limited = case.keys()
    assert len(everything[0] & limited[0]) == 2
    assert len(everything[1] & limited[1]) == 1


def test_log_likelihoods_do_not_depend_on_seeds(case: Case) -> None:
    case.prompts, case.sampling, case.samples = prompt_set("loglikelihood"), None, 1
    before = case.keys()
    case.seed, case.checkpoint = 5, replace(case.checkpoint, replicate=3)
    assert case.keys() == before
    case.prompts = prompt_set("loglikelihood", prompt="other {}")
    assert case.keys()[0].isdisjoint(before[0])


def test_equal_prompts_are_told_apart_by_occurrence() -> None:
    rows = prompt_set(prompt="always the same").rows
    assert rows["occurrence"].to_pylist() == list(range(DOCUMENTS))
    assert len(set(rows["prompt_digest"].to_pylist())) == 1


def test_checkpoints_of_one_architecture_follow_each_other(tmp_path: Path) -> None:
    cases = {}
    for number, (name, width) in enumerate([("a", 8), ("b", 16), ("c", 8)]):
        directory = write_checkpoint(tmp_path / name, hidden_size=width)
        write_safetensors(directory / "model.safetensors", float(number))
        cases[name] = Case(directory)
        cases[name].checkpoint = replace(cases[name].checkpoint, name=name)
    work = [case.work() for case in cases.values()]
    prints = {name: read_prints(case.checkpoint) for name, case in cases.items()}
    plan = make_plan(work, prints, done=set())
    assert [job.names for job in plan.jobs] == [("a",), ("c",), ("b",)]
    assert plan.engine_starts == 2
    done = {unit.key for w in work for unit in w.generation if w.checkpoint.name != "b"}
    rest = make_plan(work, prints, done)
    assert [job.names for job in rest.jobs] == [("b",)]
    assert rest.engine_starts == 1


def test_adapters_on_one_base_are_one_job_for_an_engine_of_their_own(tmp_path: Path) -> None:
    cases = {name: Case(tmp_path / name) for name in ("base", "sft")}
    for number, (name, case) in enumerate(cases.items()):
        write_safetensors(write_checkpoint(tmp_path / name) / "model.safetensors", float(number))
        case.checkpoint = replace(case.checkpoint, name=name)
    for number, (name, base) in enumerate([("a", "base"), ("b", "sft"), ("c", "sft")]):
        write_lora(tmp_path / name, base, float(number))
        cases[name] = Case(tmp_path / base)
        cases[name].checkpoint = replace(cases[name].checkpoint, name=name, adapter=tmp_path / name)
    work = [case.work() for case in cases.values()]
    prints = {name: read_prints(case.checkpoint) for name, case in cases.items()}
    each = len(work[0].generation)
    assert len({unit.key for w in work for unit in w.generation}) == 5 * each
    plan = make_plan(work, prints, done=set())
    assert [job.names for job in plan.jobs] == [("base",), ("sft",), ("a",), ("b", "c")]
    assert plan.engine_starts == 3
    assert [unit.checkpoint for unit in plan.jobs[3].units] == ["b"] * each + ["c"] * each


def test_an_adapter_without_a_config_is_an_error_in_words(tmp_path: Path) -> None:
    case = Case(write_checkpoint(tmp_path / "base"))
    checkpoint = replace(case.checkpoint, adapter=write_lora(tmp_path / "lora"))
    config = tmp_path / "lora" / "adapter_config.json"
    config.unlink()
    with pytest.raises(CheckpointError, match=rf"\({config}: No such file or directory\)"):
        read_prints(checkpoint)


@pytest.mark.parametrize(
    ("task", "manifest", "expected"),
    [
        ({"do_sample": False, "temperature": 0.7}, {}, Sampling(temperature=0.0)),
        ({"do_sample": True}, {}, Sampling(temperature=1.0)),
        ({"do_sample": False}, {"temperature": 0.6}, Sampling(temperature=0.6)),
        ({"until": "\n", "max_gen_toks": 9}, {}, Sampling(stop=("\n",), max_tokens=9)),
        ({"until": ["a", "b"]}, {"stop": ("c",)}, Sampling(stop=("c",))),
        ({"max_gen_toks": 9}, {"max_tokens": 5, "top_p": 0.5}, Sampling(top_p=0.5, max_tokens=5)),
    ],
)
def test_the_manifest_is_laid_over_the_task(
    task: dict[str, Any], manifest: dict[str, Any], expected: Sampling
) -> None:
    assert resolve_sampling(task, manifest) == expected


def test_the_tokenizers_own_end_stops_too(case: Case) -> None:
    assert read_prints(case.checkpoint).stop_token_ids == (2,)
    tokenizer_names_an_end(case)
    assert read_prints(case.checkpoint).stop_token_ids == (2, 9)


def test_blocks_are_what_the_constants_say() -> None:
    assert (SAMPLE_BLOCK, SHARD_DOCUMENTS) == (16, 64), "changing these regenerates every unit"


def test_an_engine_that_does_not_swap_starts_for_each_checkpoint(case: Case) -> None:
    first = case.work()
    other_weights(case)
    case.checkpoint = replace(case.checkpoint, name="other")
    work = [first, case.work()]
    prints = {w.checkpoint.name: read_prints(w.checkpoint) for w in work}
    assert make_plan(work, prints, ()).engine_starts == 1
    assert make_plan(work, prints, (), swaps=False).engine_starts == 2
