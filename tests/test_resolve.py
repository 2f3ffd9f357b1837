from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptharness.cli import main
from ptharness.engines.fake import FakeEngine
from ptharness.errors import ManifestError, PluginError
from ptharness.manifest import read_manifest
from ptharness.methods import Method
from ptharness.plugins import load_plugins
from ptharness.registry import Registry
from ptharness.resolve import Evaluation, Overrides, resolve
from ptharness.taxonomy import Interface, Provenance, Role
from tests.conftest import write_checkpoint

Edited = Callable[..., Path]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_plugins(installed=False).registry()


def resolved(path: Path, registry: Registry, **overrides: Any) -> Evaluation:
    return resolve(read_manifest(path), registry, Overrides(**overrides))


def test_names_and_paths_are_looked_up(edited: Edited, registry: Registry) -> None:
    path = edited()
    evaluation = resolved(path, registry)
    folder = path.parent / "checkpoints"
    lineage = evaluation.lineage
    assert [c.name for c in lineage.checkpoints] == ["base", "sft", "grpo"]
    assert [c.directory for c in lineage.checkpoints] == [folder / n for n in lineage.by_name]
    sft, grpo = lineage.by_name["sft"].stage, lineage.by_name["grpo"].stage
    assert sft is not None
    assert grpo is not None
    assert (sft.provenance, sft.interface) == (Provenance.OFF_POLICY, Interface.TOKEN_TARGETS)
    assert grpo.provenance is Provenance.ON_POLICY
    assert grpo.roles == (Role.POLICY_RESHAPING,)
    assert grpo.reason
    assert evaluation.engine is FakeEngine
    assert evaluation.support_budget == 16
    assert evaluation.manifest_path == path
    assert evaluation.manifest_text == path.read_text()
    assert [task.task.name for task in evaluation.tasks] == ["arith_add", "arith_rot"]
    [task, _] = evaluation.tasks
    assert task.samples == 32
    assert task.overrides == {"temperature": 1.0}
    assert task.template.chat_template == "auto"


def test_a_task_beats_evaluate_and_null_takes_a_setting_back(
    edited: Edited, registry: Registry
) -> None:
    path = edited(
        *(
            "[arith_add, arith_rot]",
            "[arith_add, {task: arith_rot, temperature: null, top_k: 5, "
            "samples: 4, seed: 9, num_fewshot: 2, stop: [a, b], metric: acc, system_prompt: Hi}]",
        ),
        *("samples: 32", "samples: 32\n  max_tokens: 7\n  stop: x\n  seed: 3"),
    )
    plain, own = resolved(path, registry).tasks
    assert plain.overrides == {"temperature": 1.0, "max_tokens": 7, "stop": ("x",)}
    assert (plain.samples, plain.seed, plain.settings.num_fewshot) == (32, 3, None)
    assert own.overrides == {"top_k": 5, "max_tokens": 7, "stop": ("a", "b")}
    assert (own.samples, own.seed, own.settings.num_fewshot) == (4, 9, 2)
    assert own.settings.metric == "acc"
    assert own.template.system_prompt == "Hi"


def test_settings_that_the_task_itself_must_know(edited: Edited, registry: Registry) -> None:
    entry = '{task: arith_rot, think_end_token: "</think>", stop: "#", fewshot_seed: 0}'
    path = edited("tasks: [arith_add, arith_rot]", f"tasks: [arith_add, {entry}]\n  stop: [a, b]")
    [add, rot] = resolved(path, registry).tasks
    assert (add.settings.think_end_token, add.settings.stop) == (None, None)
    assert add.overrides["stop"] == ("a", "b")
    # Thoughts are not stopped: the stop strings are the scorer's.
    assert (rot.settings.think_end_token, rot.settings.stop) == ("</think>", ("#",))
    assert "stop" not in rot.overrides
    assert (rot.settings.fewshot_seed, rot.settings.fewshot_as_multiturn) == (0, None)


def test_groups_are_kept_where_all_their_tasks_are_evaluated(
    edited: Edited, registry: Registry
) -> None:
    path = edited("[arith_add, arith_rot]", "[two.yaml, arith_mul]")
    metrics = "aggregate_metric_list: [{metric: exact_match}]"
    text = f"group: two\ntask: [arith_add, {{group: one, task: [arith_rot], {metrics}}}]\n"
    (path.parent / "two.yaml").write_text(text + metrics)
    from ptharness_tasks import TASKS

    for name in ("arith_add", "arith_rot"):
        source = (TASKS / "arith" / f"{name}.yaml").read_text()
        (path.parent / f"{name}.yaml").write_text(source.replace("data/", f"{TASKS}/arith/data/"))
    everything = resolved(path, registry)
    tasks = {group.name: group.tasks for group in everything.groups}
    assert tasks == {"two": ("arith_add", "arith_rot"), "two-one": ("arith_rot",)}
    some = resolved(path, registry, tasks=("arith_rot", "arith_mul"))
    assert [group.name for group in some.groups] == ["two-one"]


def test_the_command_line_beats_the_manifest(edited: Edited, registry: Registry) -> None:
    path = edited("{name: fake}", "{name: vllm, dtype: float32}")
    evaluation = resolved(path, registry, tasks=("arith_rot",), samples=2, engine="fake")
    assert [task.task.name for task in evaluation.tasks] == ["arith_rot"]
    assert evaluation.tasks[0].samples == 2
    assert evaluation.engine_settings.name == "fake"
    assert evaluation.engine_settings.options == {}


def test_a_chat_template_file_is_read(edited: Edited, registry: Registry) -> None:
    path = edited("samples: 32", "samples: 32\n  chat_template: chat.jinja")
    (path.parent / "chat.jinja").write_text("{{ messages }}")
    assert resolved(path, registry).tasks[0].template.chat_template == "{{ messages }}"


def test_declarations_follow_settings_and_the_manifest_overrides_them(
    edited: Edited, registry: Registry
) -> None:
    path = edited(
        "method: grpo",
        "method: {name: grpo, replay_buffer: true}, role: [consolidation], interface: rewards",
        "method: sft",
        "method: {name: dpo, pairs: fresh_rollouts}, provenance: mixed, step: 5",
    )
    lineage = resolved(path, registry).lineage
    stages = {c.name: c.stage for c in lineage.checkpoints}
    assert stages["grpo"].provenance is Provenance.MIXED  # type: ignore[union-attr]
    assert stages["grpo"].roles == (Role.CONSOLIDATION,)  # type: ignore[union-attr]
    assert stages["sft"].provenance is Provenance.MIXED  # type: ignore[union-attr]
    assert lineage.by_name["sft"].step == 5
    assert stages["sft"].settings == {"pairs": "fresh_rollouts"}  # type: ignore[union-attr]


def test_a_method_of_ones_own_is_declared_in_the_manifest(
    edited: Edited, registry: Registry
) -> None:
    path = edited(
        "method: sft",
        "method: {name: mine, provenance: on_policy, interface: rewards, role: consolidation, "
        "whatever: [1]}",
    )
    stage = resolved(path, registry).lineage.by_name["sft"].stage
    assert stage is not None
    assert (stage.method, stage.provenance) == ("mine", Provenance.ON_POLICY)
    assert stage.interface is Interface.REWARDS
    assert stage.roles == (Role.CONSOLIDATION,)
    assert stage.settings == {"whatever": [1]}


def test_an_adapter_lies_on_its_parents_weights(edited: Edited, registry: Registry) -> None:
    path = edited("{path: checkpoints/grpo, parent: sft", "{adapter: checkpoints/grpo, parent: sft")
    grpo = resolved(path, registry).lineage.by_name["grpo"]
    assert grpo.directory == path.parent / "checkpoints" / "sft"
    assert grpo.adapter == path.parent / "checkpoints" / "grpo"


def test_parents_come_before_children_whatever_the_order(
    edited: Edited, registry: Registry
) -> None:
    path = edited(
        "  base: {path: checkpoints/base}\n",
        "  late: {adapter: checkpoints/grpo, parent: base, method: sft}\n"
        "  base: {path: checkpoints/base}\n",
    )
    assert list(resolved(path, registry).lineage.by_name) == ["base", "late", "sft", "grpo"]


def test_a_path_wins_over_a_hub_id_and_is_relative_to_the_manifest(
    lineage_folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    lineage = resolved(lineage_folder / "lineage.yaml", registry).lineage
    assert lineage.by_name["base"].directory == lineage_folder / "checkpoints" / "base"


WRONG: dict[str, tuple[tuple[str, ...], str, str]] = {
    "unknown method": (
        ("method: grpo", "method: grpoo"),
        "checkpoints.grpo.method",
        "unknown method 'grpoo' (did you mean 'grpo'",
    ),
    "unknown method says how to declare one": (
        ("method: grpo", "method: mine"),
        "checkpoints.grpo.method",
        "declare a new one as `method: {name: mine, provenance: ...",
    ),
    "half-declared method": (
        ("method: grpo", "method: {name: mine, provenance: mixed}"),
        "checkpoints.grpo.method",
        "add interface, role",
    ),
    "misspelt key of a method declared here": (
        ("method: grpo", "method: {name: mine, provenance: mixed, interface: rewards, roles: x}"),
        "checkpoints.grpo.method",
        "must be declared in full; add role; it also has 'roles' (did you mean 'role'?)",
    ),
    "unknown option of a method": (
        ("method: sft", "method: {name: sft, coverige: unknown}"),
        "checkpoints.sft.method",
        "no option 'coverige' (did you mean 'coverage'?)",
    ),
    "illegal option of a method": (
        ("method: sft", "method: {name: dpo, pairs: fresh}"),
        "checkpoints.sft.method",
        "legal: offline, fresh_rollouts, mixed",
    ),
    "unknown task": (
        ("arith_rot]", "arith_rott]"),
        "evaluate.tasks[1]",
        "unknown task 'arith_rott' (did you mean 'arith_rot'",
    ),
    "missing task file": (("arith_rot]", "mine.yaml]"), "evaluate.tasks[1]", "mine.yaml"),
    "task twice": (
        ("arith_rot]", "arith_add]"),
        "evaluate.tasks[1]",
        "is named twice, by 'arith_add' and 'arith_add'; remove one",
    ),
    "unknown engine": (
        ("{name: fake}", "fakee"),
        "engine.name",
        "unknown engine 'fakee' (did you mean 'fake'",
    ),
    "unknown option of an engine": (("{name: fake}", "{name: fake, anser: x}"), "engine", "anser"),
    "cycle": (
        ("parent: base", "parent: grpo"),
        "checkpoints.sft.parent",
        "form a cycle: sft -> grpo -> sft; remove one of these parents or teachers",
    ),
    "its own parent": (
        ("parent: base", "parent: sft"),
        "checkpoints.sft.parent",
        "form a cycle: sft -> sft",
    ),
    "missing parent": (
        ("parent: base", "parent: bose"),
        "checkpoints.sft.parent",
        "'bose' is not a checkpoint of this manifest (did you mean 'base'?)",
    ),
    "missing teacher": (
        ("method: grpo", "method: grpo, teacher: stf"),
        "checkpoints.grpo.teacher",
        "'stf' is not a checkpoint of this manifest (did you mean 'sft'?)",
    ),
    "missing path": (
        ("checkpoints/base", "checkpoints/bass"),
        "checkpoints.base.path",
        "give a folder relative to the manifest, or a hub id",
    ),
    "missing adapter": (
        ("{path: checkpoints/grpo", "{adapter: checkpoints/nope"),
        "checkpoints.grpo.adapter",
        "give a folder relative to the manifest, or a hub id",
    ),
    "adapter on an adapter": (
        (
            "{path: checkpoints/grpo",
            "{adapter: checkpoints/grpo",
            "{path: checkpoints/sft",
            "{adapter: checkpoints/sft",
        ),
        "checkpoints.grpo.parent",
        "merge that one into its weights first",
    ),
    "missing trajectories": (
        ("method: sft", "method: sft, trajectories: data.jsonl"),
        "checkpoints.sft.trajectories",
        "data.jsonl does not exist; give a file, or a folder that `datasets` saved",
    ),
    "missing chat template": (
        ("samples: 32", "samples: 32\n  chat_template: chat.jinja"),
        "evaluate.chat_template",
        "chat.jinja does not exist",
    ),
    "support budget above samples": (
        ("samples: 32", "samples: 32\n  support_budget: 32"),
        "evaluate.support_budget",
        "needs at least 33 samples, and task 'arith_add' has 32 samples; set samples: 33 or more",
    ),
    "support budget without samples": (
        ("samples: 32", "support_budget: 4"),
        "evaluate.support_budget",
        "has samples not set; set samples: 5",
    ),
    "support budget above a task's samples": (
        (
            "samples: 32",
            "samples: 32\n  support_budget: 16",
            "arith_rot]",
            "{task: arith_rot, samples: 16}]",
        ),
        "evaluate.tasks[1].samples",
        "task 'arith_rot' has 16 samples",
    ),
    "greedy samples": (
        ("temperature: 1.0", "temperature: 0"),
        "evaluate.temperature",
        "32 samples at temperature 0 would all be equal; set a temperature above 0, or samples: 1",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_name_is_one_line_with_file_key_and_remedy(
    what: str, edited: Edited, capsys: pytest.CaptureFixture[str]
) -> None:
    replacements, key, remedy = WRONG[what]
    path = edited(*replacements)
    code = main(["check", str(path)])
    line = capsys.readouterr().err
    assert code == 2
    assert f"error: {path}: {key}: " in line
    assert remedy in line
    assert line.splitlines()[-1].startswith("error: ")


def test_the_default_support_budget_needs_no_samples(edited: Edited, registry: Registry) -> None:
    evaluation = resolved(edited("  samples: 32\n", "", "  temperature: 1.0\n", ""), registry)
    assert evaluation.support_budget == 16
    assert evaluation.tasks[0].samples is None
    assert evaluation.tasks[0].overrides == {}


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        ({"tasks": ("arith_ad",)}, "--tasks", "did you mean 'arith_add'"),
        ({"engine": "vlm"}, "--engine", "did you mean 'vllm'"),
        ({"samples": 0}, "--samples", "at least 1, not 0"),
    ],
)
def test_wrong_overrides_name_the_option(
    overrides: dict[str, Any], key: str, said: str, edited: Edited, registry: Registry
) -> None:
    with pytest.raises(ManifestError, match=said) as raised:
        resolved(edited(), registry, **overrides)
    assert raised.value.key == key


def test_fewer_samples_on_the_command_line_than_the_budget_needs(
    edited: Edited, registry: Registry
) -> None:
    path = edited("samples: 32", "samples: 32\n  support_budget: 16")
    with pytest.raises(ManifestError, match="needs at least 17 samples"):
        resolved(path, registry, samples=4)


def test_a_method_plugin_that_raises_or_declares_nonsense_is_named(edited: Edited) -> None:
    registry = load_plugins(disabled=["sft"], installed=False).registry(["methods", "engines"])

    class Broken(Method):
        name, title = "sft", "broken"

        def declare(self, stage: Any) -> Any:
            return {"provenance": "off_policy"} if stage.options else 1 / 0

        options = ("quietly",)

    registry.methods.add(Broken())
    with pytest.raises(PluginError, match="failed to declare 'sft': ZeroDivisionError"):
        resolved(edited(), registry)
    with pytest.raises(PluginError, match="no Declaration"):
        resolved(edited("method: sft", "method: {name: sft, quietly: true}"), registry)


def test_a_long_chain_of_stages_is_no_matter(tmp_path: Path, registry: Registry) -> None:
    write_checkpoint(tmp_path / "c")
    chain = "".join(f"  c{i}: {{path: c, parent: c{i + 1}, method: sft}}\n" for i in range(1500))
    path = tmp_path / "m.yaml"
    path.write_text(
        f"lineage: long\ncheckpoints:\n{chain}  c1500: {{path: c}}\n"
        "evaluate: {tasks: arith_add}\nengine: fake\n"
    )
    lineage = resolved(path, registry).lineage
    assert [c.name for c in lineage.checkpoints][:2] == ["c1500", "c1499"]
    assert lineage.depths["c0"] == 1500
    assert sum(edge.relation == "path" for edge in lineage.edges()) == 1499


def test_a_ladder_of_merges_is_no_matter(tmp_path: Path, registry: Registry) -> None:
    write_checkpoint(tmp_path / "c")
    rungs = "".join(
        f"  {side}{i}: {{path: c, parent: [a{i - 1}, b{i - 1}], method: sft}}\n"
        for i in range(1, 40)
        for side in "ab"
    )
    path = tmp_path / "m.yaml"
    path.write_text(
        f"lineage: ladder\ncheckpoints:\n  a0: {{path: c}}\n  b0: {{path: c}}\n{rungs}"
        "evaluate: {tasks: arith_add}\nengine: fake\n"
    )
    lineage = resolved(path, registry).lineage
    assert sum(edge.relation == "path" for edge in lineage.edges()) == 38 * 2 * 2
