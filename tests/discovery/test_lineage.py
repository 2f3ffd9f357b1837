"""From folders to a manifest: the answers, the questions, and YAML that `check` accepts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ptharness.discovery import Discovery, discover, manifest_text, questions_in
from ptharness.discovery.lineage import Found
from ptharness.errors import ManifestError, PluginError
from ptharness.manifest import read_manifest
from ptharness.methods import Declaration, Evidence, Method, StageSettings
from ptharness.plugins import load_plugins
from ptharness.registry import Catalogue
from ptharness.resolve import resolve
from ptharness.taxonomy import Interface, Provenance, Role
from tests.discovery.planted import Weights, fresh, trained, write_adapter, write_model
from tests.methods.folders import GRPO_KEYS, SFT_KEYS


@pytest.fixture(scope="module")
def methods() -> Catalogue[Method]:
    return load_plugins(installed=False).registry(["methods"]).methods


BASE = fresh(0)
SFT = trained(BASE, 1, 0.1)
GRPO = trained(SFT, 2, 0.03)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """base -> sft -> grpo with two steps, a copy of sft, and an adapter."""
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "sft", SFT, tags=["sft"], learning_rate=1e-3, steps=60)
    write_model(tmp_path / "grpo", GRPO, tags=["grpo"], learning_rate=2e-4)
    for step, part in ((10, 0.3), (40, 0.8)):
        between = {name: SFT[name] + part * (GRPO[name] - SFT[name]) for name in SFT}
        step_folder = tmp_path / "grpo" / f"checkpoint-{step}"
        write_model(step_folder, between, logged=GRPO_KEYS, learning_rate=2e-4, steps=step)
    write_model(tmp_path / "grpo" / "checkpoint-100", GRPO, logged=GRPO_KEYS, learning_rate=2e-4)
    write_model(tmp_path / "sft-copy", SFT, tags=["sft"])
    write_adapter(tmp_path / "lora", "../sft")
    return tmp_path


def found_in(discovery: Discovery) -> dict[str, Found]:
    return {found.name: found for found in discovery.checkpoints}


def written(discovery: Discovery, folder: Path) -> dict[str, Any]:
    """The manifest as YAML reads it; it must pass the manifest's own checks too."""
    text = manifest_text(discovery, "runs", folder, "lineage.yaml", ["arith_add"])
    path = folder / "lineage.yaml"
    path.write_text(text)
    resolve(read_manifest(path), load_plugins(installed=False).registry())
    content = yaml.safe_load(text)
    assert isinstance(content, dict)
    return content


def test_a_lineage_is_found_with_its_steps_copies_and_adapters(
    runs: Path, methods: Catalogue[Method]
) -> None:
    discovery = discover([runs], methods)
    entries = written(discovery, runs)["checkpoints"]
    assert entries == {
        "base": {"path": "base"},
        "sft": {"path": "sft", "parent": "base", "method": "sft"},
        "sft-copy": {"path": "sft-copy", "parent": "base", "method": "sft", "replicate": 1},
        "grpo-10": {
            "path": "grpo/checkpoint-10",
            "parent": "sft",
            "method": "grpo",
            "step": 10,
        },
        "grpo-40": {
            "path": "grpo/checkpoint-40",
            "parent": "sft",
            "method": "grpo",
            "step": 40,
        },
        "grpo": {"path": "grpo", "parent": "sft", "method": "grpo", "step": 100},
        "lora": {"adapter": "lora", "parent": "sft", "method": "sft"},
    }
    assert [(left.directory.name, left.reason) for left in discovery.passed_over] == [
        ("checkpoint-100", "the same weights as grpo")
    ]
    found = found_in(discovery)
    assert found["grpo"].parents.why.startswith("nearest weights: sft 0.0")
    assert found["lora"].parents.why == "adapter_config.json names ../sft"
    # What fine-tuning left may have come from three methods; what made the adapter, nothing says.
    assert found["sft"].method.candidates == ("rejection_sampling", "sequence_kd")
    assert not found["lora"].method.is_decided
    # Steps and copies ask nothing of their own, and show what their own folders hold.
    assert found["grpo-10"].parents.why == found["grpo-10"].method.why == "as grpo"
    assert "trainer_state.json" in found["grpo-10"].evidence[0].found
    assert "README.md" in found["grpo"].evidence[0].found
    assert questions_in((runs / "lineage.yaml").read_text()) == 2


def test_steps_without_a_final_checkpoint_are_a_stage_of_their_own(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    write_model(tmp_path / "base", BASE)
    for step, weights in ((10, trained(BASE, 5, 0.02)), (200, SFT)):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        write_model(folder, weights, logged=SFT_KEYS, learning_rate=1e-3, steps=step)
    entries = written(discover([tmp_path], methods), tmp_path)["checkpoints"]
    assert list(entries) == ["base", "run-10", "run-200"]
    assert {entry.get("parent") for entry in entries.values()} == {None, "base"}


def test_a_card_beats_the_weights(tmp_path: Path, methods: Catalogue[Method]) -> None:
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "sft", SFT, tags=["sft"], learning_rate=1e-3)
    write_model(tmp_path / "dpo", GRPO)
    (tmp_path / "dpo" / "README.md").write_text("---\nbase_model: base\ntags: [trl, dpo]\n---\n")
    found = found_in(discover([tmp_path], methods))
    assert found["dpo"].parents.names == ("base",)
    assert found["dpo"].parents.is_decided


def test_a_parent_that_is_not_here_is_told(tmp_path: Path, methods: Catalogue[Method]) -> None:
    write_model(tmp_path / "dpo", GRPO)
    (tmp_path / "dpo" / "README.md").write_text("---\nbase_model: o/sft\ntags: [trl, dpo]\n---\n")
    write_adapter(tmp_path / "lora", "org/somewhere")
    discovery = discover([tmp_path], methods)
    assert written(discovery, tmp_path)["checkpoints"] == {"dpo": {"path": "dpo"}}
    text = (tmp_path / "lineage.yaml").read_text()
    assert "# undecided, no parent found (README.md names o/sft, which is not among" in text
    assert "no other checkpoint has its shape)" in text
    assert "\n    # parent: NAME\n" in text
    assert "\n    # method: dpo\n" in text
    assert "\n  # lora:\n  #   adapter: lora\n" in text


def test_the_suggestions_of_a_question_can_be_uncommented(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    small = {name: values for name, values in GRPO.items() if "layers.1" not in name}
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "student", small, tags=["gkd"], learning_rate=1e-3)
    discovery = discover([tmp_path], methods)
    assert written(discovery, tmp_path)["checkpoints"]["student"] == {"path": "student"}
    text = (tmp_path / "lineage.yaml").read_text()
    assert questions_in(text) == 2  # parent and teacher; the method is told
    for key in ("parent", "method", "teacher"):
        text = re.sub(rf"    # {key}: (\S+)\n", rf"    {key}: \1\n", text)
    assert yaml.safe_load(text)["checkpoints"]["student"] == {
        "path": "student",
        "parent": "base",
        "method": "gkd",
        "teacher": "base",
    }


def test_adapters_without_any_base_are_refused(tmp_path: Path, methods: Catalogue[Method]) -> None:
    write_adapter(tmp_path / "lora", "../sft")
    with pytest.raises(ManifestError, match=r"only adapters found.*names \.\./sft, which is not"):
        discover([tmp_path], methods)


def test_a_checkpoint_without_a_readable_tokenizer_is_no_trouble(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    write_model(tmp_path / "base", BASE)
    student = write_model(tmp_path / "student", GRPO, tags=["gkd"], learning_rate=1e-3)
    (student / "tokenizer.json").write_bytes(b"\xff{")
    assert found_in(discover([tmp_path], methods))["student"].method.names == ("gkd",)


def test_the_first_of_several_of_one_shape_is_a_question(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    write_model(tmp_path / "sft", SFT, tags=["sft"], learning_rate=1e-3)
    write_model(tmp_path / "grpo", GRPO, tags=["grpo"], learning_rate=2e-4)
    found = found_in(discover([tmp_path], methods))
    assert found["sft"].parents.why.startswith("taken for the first of its shape")
    assert found["sft"].parents.candidates == ("grpo",)
    assert found["grpo"].parents.names == ("sft",)
    assert not found["grpo"].parents.is_decided


def test_a_merge_has_all_its_parents(tmp_path: Path, methods: Catalogue[Method]) -> None:
    for name, weights in {"one": SFT, "two": GRPO, "base": BASE}.items():
        write_model(tmp_path / name, weights)
    write_model(tmp_path / "both", {n: (SFT[n] + GRPO[n]) / 2 for n in SFT})
    (tmp_path / "both" / "mergekit_config.yml").write_text(
        "models: [{model: one}, {model: ./two}]\nmerge_method: linear\n"
    )
    entries = written(discover([tmp_path], methods), tmp_path)["checkpoints"]
    assert entries["both"] == {"path": "both", "parent": ["one", "two"], "method": "merge"}


def test_a_student_is_asked_for_its_teacher(tmp_path: Path, methods: Catalogue[Method]) -> None:
    small = {name: values for name, values in GRPO.items() if "layers.1" not in name}
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "grpo", GRPO, tags=["grpo"], learning_rate=1e-3)
    write_model(tmp_path / "small", small)
    write_model(tmp_path / "student", trained(small, 9, 0.1), tags=["gkd"], learning_rate=1e-3)
    discovery = discover([tmp_path], methods)
    student = found_in(discovery)["student"]
    assert student.parents.names == ("small",)
    assert student.teacher.candidates == ("base", "grpo", "small")
    written(discovery, tmp_path)
    assert (
        "# undecided, teacher: base or grpo or small (gkd learns"
        in (tmp_path / "lineage.yaml").read_text()
    )


def test_cards_that_name_each_other_are_a_question(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    for name, other in (("one", "two"), ("two", "three"), ("three", "one"), ("self", "self")):
        write_model(tmp_path / name, trained(BASE, hash(name) % 1000, 0.1))
        (tmp_path / name / "README.md").write_text(
            f"---\nbase_model: {other}\ntags: [trl, dpo]\n---\n"
        )
    written(discover([tmp_path], methods), tmp_path)
    assert questions_in((tmp_path / "lineage.yaml").read_text()) >= 1


def test_hostile_text_cannot_leave_its_comment(tmp_path: Path, methods: Catalogue[Method]) -> None:
    evil = "x\\nengine: {name: evil}\\u2028checkpoints: {}\\x85lineage: evil"
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "weird: [name] #\n\u2028evil: {}", SFT, tags=["sft"])
    write_model(tmp_path / "dpo", GRPO)
    (tmp_path / "dpo" / "README.md").write_text(
        f'---\nbase_model: "{evil}"\ntags: [trl, dpo]\n---\n'
    )
    content = written(discover([tmp_path], methods), tmp_path)
    assert set(content) == {"lineage", "checkpoints", "evaluate"}
    assert content["lineage"] == "runs"
    assert len(content["checkpoints"]) == 3


def test_a_chain_longer_than_pythons_stack(tmp_path: Path, methods: Catalogue[Method]) -> None:
    tiny: Weights = fresh(0, {"weight": (4, 4)})
    for number in range(1100):
        write_model(tmp_path / f"stage-{number}", trained(tiny, number, 0.1))
        (tmp_path / f"stage-{number}" / "README.md").write_text(
            f"---\nbase_model: stage-{number - 1}\n---\n"
        )
    discovery = discover([tmp_path], methods)
    assert found_in(discovery)["stage-1099"].parents.names == ("stage-1098",)


def test_nothing_found_says_what_a_checkpoint_is(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    with pytest.raises(ManifestError, match=r"no checkpoint in .*config\.json and \*\.safetensors"):
        discover([tmp_path], methods)
    (write_model(tmp_path / "bad", BASE) / "config.json").write_text("{")
    with pytest.raises(ManifestError, match=r"bad: config\.json names no model_type"):
        discover([tmp_path], methods)


class Falling(Method):
    name, title = "falling", "falls"

    def declare(self, stage: StageSettings) -> Declaration:
        return Declaration(Provenance.MIXED, Interface.REWARDS, (Role.CONSOLIDATION,), "")

    def detect(self, directory: Path) -> Evidence | None:
        raise ValueError("no luck")


def test_a_plugin_that_raises_is_named(tmp_path: Path) -> None:
    registry = load_plugins(installed=False).registry(["methods"])
    registry.methods.add(Falling())
    write_model(tmp_path / "base", BASE)
    with pytest.raises(PluginError, match="no luck"):
        discover([tmp_path], registry.methods)


def test_a_stage_whose_final_weights_cannot_be_read_is_its_last_step(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    write_model(tmp_path / "base", BASE)
    final = write_model(tmp_path / "grpo", GRPO, tags=["grpo"])
    content = (final / "model.safetensors").read_bytes()
    (final / "model.safetensors").write_bytes(content.replace(b'"dtype"', b'"dtypo"', 1))
    write_model(final / "checkpoint-10", GRPO, logged=GRPO_KEYS, learning_rate=1e-3, steps=10)
    discovery = discover([tmp_path], methods)
    assert list(found_in(discovery)) == ["base", "grpo-10"]
    assert discovery.passed_over[0].directory == final


def test_names_that_yaml_would_read_otherwise_are_quoted(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    names = (
        "1e-5",
        "1e5",
        "null",
        "yes",
        "0x10",
        "1.0",
        "2024-01-01",
        "~x",
        "line\nbreak",
        "\U0001f468\u200d\U0001f4bb",
    )
    for seed, name in enumerate(names):
        write_model(tmp_path / name, trained(BASE, seed, 0.1))
    entries = written(discover([tmp_path], methods), tmp_path)["checkpoints"]
    found = {Path(entry["path"]).name for entry in entries.values()}
    assert found == set(names)
    text = (tmp_path / "lineage.yaml").read_text()
    assert "line\\nbreak" in text


def test_two_roots_of_nearly_the_same_weights(tmp_path: Path, methods: Catalogue[Method]) -> None:
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "base-bf16", BASE, dtype="BF16")
    write_model(tmp_path / "sft", SFT, tags=["sft"], learning_rate=1e-3)
    found = found_in(discover([tmp_path], methods))
    assert found["sft"].parents.names in {("base",), ("base-bf16",)}


def test_a_log_that_tells_too_little_excludes_nobody(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    """The last rate of a schedule is 0, and no bound: what the weights leave open is a question."""
    write_model(tmp_path / "base", BASE)
    one = write_model(tmp_path / "one", trained(BASE, 1, 0.03), tags=["dpo"])
    write_model(tmp_path / "two", trained(BASE, 2, 0.05), tags=["grpo"], learning_rate=1e-3)
    (one / "trainer_state.json").write_text(
        '{"global_step": 100, "log_history": [{"learning_rate": 0.0}]}'
    )
    found = found_in(discover([tmp_path], methods))
    assert found["one"].parents.names == ("base",)
    (one / "trainer_state.json").write_text(
        '{"global_step": 100, "log_history": [{"learning_rate": 1e-9}, {"learning_rate": 1e-9}, '
        '{"learning_rate": 1e-9}]}'
    )
    far = found_in(discover([tmp_path], methods))["one"].parents
    assert not far.is_decided
    assert "cannot have moved that far" in far.why


def test_a_step_may_be_the_parent(tmp_path: Path, methods: Catalogue[Method]) -> None:
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "sft", SFT, tags=["sft"], learning_rate=1e-3)
    write_model(tmp_path / "sft" / "checkpoint-50", trained(BASE, 1, 0.05), logged=SFT_KEYS)
    write_adapter(tmp_path / "lora", "../sft/checkpoint-50")
    entries = written(discover([tmp_path], methods), tmp_path)["checkpoints"]
    assert entries["lora"]["parent"] == "sft-50"


def test_a_name_alone_is_a_question(tmp_path: Path, methods: Catalogue[Method]) -> None:
    write_model(tmp_path / "base", BASE)
    dpo = write_model(tmp_path / "dpo", GRPO)
    (dpo / "README.md").write_text("---\nbase_model: other/base\ntags: [trl, dpo]\n---\n")
    answer = found_in(discover([tmp_path], methods))["dpo"].parents
    assert answer.names == ("base",)
    assert not answer.is_decided


def test_a_merge_with_a_parent_missing_is_a_question(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    write_model(tmp_path / "one", SFT)
    write_model(tmp_path / "both", trained(SFT, 4, 0.01))
    recipe = tmp_path / "both" / "mergekit_config.yml"
    recipe.write_text("models: [{model: ../one}, {model: org/missing}]\n")
    answer = found_in(discover([tmp_path], methods))["both"].parents
    assert answer.names == ("one",)
    assert not answer.is_decided
    assert "org/missing, which is not among these folders" in answer.why
    recipe.write_text("models: [{model: org/gone}, {model: org/missing}]\n")
    answer = found_in(discover([tmp_path], methods))["both"].parents
    assert answer.names == ()
    assert not answer.is_decided


def test_a_copy_without_traces_does_not_hide_those_of_the_stage(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "m", SFT)
    write_model(tmp_path / "grpo-run", SFT, tags=["grpo"], learning_rate=1e-3)
    found = found_in(discover([tmp_path], methods))
    assert found["grpo-run"].method.names == ("grpo",)
    assert found["m"].replicate == 1
    assert found["m"].parents.names == ("base",)


def test_only_unusable_checkpoints_are_named(tmp_path: Path, methods: Catalogue[Method]) -> None:
    weights = {name: values.copy() for name, values in BASE.items()}
    weights["model.norm.weight"][0] = float("nan")
    write_model(tmp_path / "diverged", weights)
    with pytest.raises(ManifestError, match=r"no checkpoint that can be used; .*diverged: .*NaN"):
        discover([tmp_path], methods)


def test_a_name_that_is_no_text_is_passed_over(tmp_path: Path, methods: Catalogue[Method]) -> None:
    write_model(tmp_path / "base", BASE)
    write_model(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), BASE)
    discovery = discover([tmp_path], methods)
    assert list(found_in(discovery)) == ["base"]
    assert discovery.passed_over[0].reason == "its name is not UTF-8; rename it"


def test_adapters_that_no_manifest_can_hold_wait_in_comments(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    write_model(tmp_path / "base", BASE)
    write_adapter(tmp_path / "first", "../base")
    write_adapter(tmp_path / "second", "../first")
    write_adapter(tmp_path / "lost", "org/nowhere")
    child = write_model(tmp_path / "child", SFT)
    (child / "README.md").write_text("---\nbase_model: ../lost\ntags: [trl, dpo]\n---\n")
    entries = written(discover([tmp_path], methods), tmp_path)["checkpoints"]
    assert entries == {
        "base": {"path": "base"},
        "first": {"adapter": "first", "parent": "base", "method": "sft"},
        "child": {"path": "child"},
    }
