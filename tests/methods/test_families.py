"""What each family declares, as a function of the stage's settings, and what it recognises."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ptharness.errors import ManifestError, PtharnessError
from ptharness.evidence import declare, gather_evidence, strongest
from ptharness.methods import Method, StageSettings
from ptharness.plugins import load_plugins
from ptharness.registry import Catalogue
from ptharness.taxonomy import Interface, Provenance, Role
from tests.methods.folders import (
    DISTILLATION_KEYS,
    DPO_KEYS,
    GKD_KEYS,
    GRPO_KEYS,
    SFT_KEYS,
    with_card,
    with_log,
)

OFF, ON, MIXED = Provenance.OFF_POLICY, Provenance.ON_POLICY, Provenance.MIXED
EXPANSION, RESHAPING = Role.SUPPORT_EXPANSION, Role.POLICY_RESHAPING
KEEPING = Role.CONSOLIDATION
TOKENS, PREFERENCES = Interface.TOKEN_TARGETS, Interface.RANKED_PREFERENCES
REWARDS, PROCESS = Interface.REWARDS, Interface.PROCESS_FEEDBACK
VERIFIER, TEACHER = Interface.VERIFIER_FEEDBACK, Interface.TEACHER_TARGETS
SEVERAL = Interface.SEVERAL


@pytest.fixture(scope="module")
def methods() -> Catalogue[Method]:
    return load_plugins(installed=False).registry(["methods"]).methods


NAMES = {
    "sft": ["sft", "instruction_tuning"],
    "preference_optimization": ["dpo", "ipo", "kto", "orpo", "cpo", "simpo", "gpo"],
    "online_preference": ["online_dpo", "xpo", "iterative_dpo", "nash_md"],
    "on_policy_rl": [
        *("ppo", "grpo", "rloo", "reinforce", "dapo", "gspo", "rlhf", "rlaif", "rlvr")
    ],
    "process_supervision": ["prm", "stepwise_rl", "process_dpo"],
    "verifier_guided": [
        *("rejection_sampling", "rft", "star", "rest", "self_correction", "verifier_filtering"),
        *("best_of_n_distillation", "search_to_policy"),
    ],
    "distillation": [
        *("sequence_kd", "logit_kd", "gkd", "on_policy_distillation", "self_distillation"),
        "minillm",
    ],
    "hybrid": ["luffy", "srft", "uft", "repo", "interleaved", "merge"],
}


@pytest.mark.parametrize("family", NAMES)
def test_a_family_answers_to_its_names(family: str, methods: Catalogue[Method]) -> None:
    assert {methods.entry(name).name for name in (*NAMES[family], family)} == {family}


def test_the_families_are_those_of_the_survey(methods: Catalogue[Method]) -> None:
    assert {entry.name: {*entry.names} for entry in methods} == {
        family: {family, *names} for family, names in NAMES.items()
    }


@pytest.mark.parametrize(
    ("method", "options", "provenance", "interface", "roles"),
    [
        ("sft", {}, OFF, TOKENS, (EXPANSION, RESHAPING)),
        ("sft", {"coverage": "outside_support"}, OFF, TOKENS, (EXPANSION,)),
        ("sft", {"coverage": "inside_support"}, OFF, TOKENS, (RESHAPING,)),
        ("dpo", {}, OFF, PREFERENCES, (RESHAPING,)),
        ("kto", {"pairs": "offline"}, OFF, PREFERENCES, (RESHAPING,)),
        ("dpo", {"pairs": "fresh_rollouts"}, ON, PREFERENCES, (RESHAPING,)),
        ("simpo", {"pairs": "mixed"}, MIXED, PREFERENCES, (RESHAPING,)),
        ("online_dpo", {}, MIXED, PREFERENCES, (RESHAPING,)),
        ("xpo", {"candidates": "mixed"}, MIXED, PREFERENCES, (RESHAPING,)),
        ("nash_md", {"candidates": "fresh"}, ON, PREFERENCES, (RESHAPING,)),
        ("grpo", {}, ON, REWARDS, (RESHAPING,)),
        ("ppo", {"replay_buffer": True}, MIXED, REWARDS, (RESHAPING,)),
        ("ppo", {"replay_buffer": False}, ON, REWARDS, (RESHAPING,)),
        ("rlvr", {"rollouts": "stale"}, MIXED, REWARDS, (RESHAPING,)),
        ("grpo", {"guidance": "strong"}, ON, REWARDS, (RESHAPING, EXPANSION)),
        ("prm", {}, ON, PROCESS, (RESHAPING,)),
        ("stepwise_rl", {"labels": "offline"}, OFF, PROCESS, (RESHAPING,)),
        ("process_dpo", {}, OFF, PROCESS, (RESHAPING,)),
        ("process_dpo", {"labels": "rollouts"}, ON, PROCESS, (RESHAPING,)),
        ("stepwise_rl", {"labels": "mixed"}, MIXED, PROCESS, (RESHAPING,)),
        ("rejection_sampling", {}, MIXED, VERIFIER, (RESHAPING,)),
        ("star", {"traces": "cached"}, MIXED, VERIFIER, (RESHAPING, KEEPING)),
        ("rest", {"traces": "fresh"}, ON, VERIFIER, (RESHAPING,)),
        ("verifier_filtering", {"traces": "external"}, OFF, VERIFIER, (RESHAPING, EXPANSION)),
        ("best_of_n_distillation", {}, MIXED, VERIFIER, (RESHAPING, KEEPING)),
        ("search_to_policy", {}, MIXED, VERIFIER, (EXPANSION, KEEPING)),
        ("sequence_kd", {}, OFF, TEACHER, (KEEPING,)),
        ("logit_kd", {}, OFF, TEACHER, (KEEPING,)),
        ("logit_kd", {"prefixes": "student"}, ON, TEACHER, (RESHAPING, KEEPING)),
        ("gkd", {}, ON, TEACHER, (RESHAPING, KEEPING)),
        ("gkd", {"prefixes": "mixed"}, MIXED, TEACHER, (RESHAPING, KEEPING)),
        ("minillm", {"prefixes": "fixed"}, OFF, TEACHER, (KEEPING,)),
        ("self_distillation", {}, ON, TEACHER, (RESHAPING, KEEPING)),
        ("luffy", {}, MIXED, REWARDS, (EXPANSION, RESHAPING)),
        ("srft", {}, MIXED, SEVERAL, (EXPANSION, RESHAPING)),
        ("repo", {}, MIXED, REWARDS, (RESHAPING,)),
        ("merge", {}, MIXED, SEVERAL, (KEEPING,)),
        ("hybrid", {}, MIXED, SEVERAL, (EXPANSION, RESHAPING)),
        ("hybrid", {"parts": ["sft", "grpo"]}, MIXED, SEVERAL, (EXPANSION, RESHAPING)),
        ("interleaved", {"parts": ["grpo", "stepwise_rl"]}, ON, SEVERAL, (RESHAPING,)),
        ("hybrid", {"parts": ["dpo", "simpo"]}, OFF, PREFERENCES, (RESHAPING,)),
        ("hybrid", {"parts": ["grpo", "gkd"]}, ON, SEVERAL, (RESHAPING, KEEPING)),
    ],
)
def test_declarations_are_functions_of_the_settings(
    method: str,
    options: dict[str, Any],
    provenance: Provenance,
    interface: Interface,
    roles: tuple[Role, ...],
    methods: Catalogue[Method],
) -> None:
    declared = methods.get(method).declare(StageSettings(method, options=options))
    assert declared.provenance is provenance
    assert declared.interface is interface
    assert declared.roles == roles


def test_sft_on_a_teachers_outputs_consolidates(methods: Catalogue[Method]) -> None:
    declared = methods.get("sft").declare(StageSettings("sft", teacher="grpo"))
    assert declared.provenance is OFF
    assert declared.interface is TEACHER
    assert declared.roles == (KEEPING,)
    assert "'grpo'" in declared.reason


def test_a_distillation_says_who_the_teacher_is(methods: Catalogue[Method]) -> None:
    named = methods.get("gkd").declare(StageSettings("gkd", teacher="grpo"))
    assert "the teacher is 'grpo'" in named.reason
    unnamed = methods.get("gkd").declare(StageSettings("gkd"))
    assert "no checkpoint is named" in unnamed.reason
    own = methods.get("gkd").declare(StageSettings("self_distillation"))
    assert "the learner itself" in own.reason


def test_a_composition_gives_the_reasons_and_sources_of_its_parts(
    methods: Catalogue[Method],
) -> None:
    declared = declare(methods, StageSettings("hybrid", options={"parts": ["sft", "dpo"]}))
    for part in ("sft", "dpo"):
        alone = declare(methods, StageSettings(part))
        assert alone.reason in declared.reason
        assert set(alone.sources) <= set(declared.sources)


@pytest.mark.parametrize("name", [name for names in NAMES.values() for name in names])
def test_every_declaration_has_a_reason_and_the_literature(
    name: str, methods: Catalogue[Method]
) -> None:
    declared = methods.get(name).declare(StageSettings(name))
    assert len(declared.reason) > 30
    assert re.match(r"arXiv:2604\.07941 \(.*(section|table) ", declared.sources[0])
    assert len(declared.sources) >= 2
    assert not all(source.startswith("arXiv:2604.07941") for source in declared.sources)
    assert len(set(declared.sources)) == len(declared.sources)
    for source in declared.sources:
        assert re.match(r"(arXiv:\d{4}\.\d{5}|doi:10\.\S+) \(.+\)$", source)


@pytest.mark.parametrize(
    ("method", "options", "legal"),
    [
        ("sft", {"coverage": "inside"}, "unknown, outside_support, inside_support"),
        ("dpo", {"pairs": ["offline"]}, "offline, fresh_rollouts, mixed"),
        ("xpo", {"candidates": "old"}, "mixed, fresh"),
        ("grpo", {"replay_buffer": "yes"}, "true, false"),
        ("grpo", {"rollouts": None}, "fresh, stale"),
        ("grpo", {"guidance": "some"}, "none, strong"),
        ("prm", {"labels": 3}, "rollouts, offline, mixed"),
        ("rft", {"traces": "mine"}, "own, cached, fresh, external"),
        ("gkd", {"prefixes": "teacher"}, "fixed, student, mixed"),
    ],
)
def test_a_wrong_option_names_the_legal_values(
    method: str, options: dict[str, Any], legal: str, methods: Catalogue[Method]
) -> None:
    with pytest.raises(ManifestError) as raised:
        methods.get(method).declare(StageSettings(method, options=options))
    assert f"legal: {legal}" in str(raised.value)
    assert next(iter(options)) in str(raised.value)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ("sft", "give two or more methods"),
        (["sft"], "give two or more methods"),
        (["sft", "grpoo"], r"names 'grpoo', which is no method \(did you mean 'grpo'"),
        (["sft", 3], "holds 3; give names only"),
        (["sft", {"name": "grpo"}], r"holds \{'name': 'grpo'\}; give names only, without options"),
        (["sft", "sft"], "names 'sft' twice; give two or more that differ"),
        (["sft", "luffy"], "names 'luffy', a hybrid itself"),
    ],
)
def test_wrong_parts_are_named(parts: object, told: str, methods: Catalogue[Method]) -> None:
    with pytest.raises(ManifestError, match=told):
        methods.get("hybrid").declare(StageSettings("hybrid", options={"parts": parts}))


def test_a_merge_has_no_parts(methods: Catalogue[Method]) -> None:
    stage = StageSettings("merge", options={"parts": ["sft", "grpo"]})
    with pytest.raises(ManifestError, match=r"'parts' of method 'merge': a merge trains nothing"):
        methods.get("merge").declare(stage)


# --- detection --------------------------------------------------------------------------------


def best(folder: Path, methods: Catalogue[Method]) -> list[str]:
    """The methods whose evidence is strongest; more than one cannot be told apart."""
    found = gather_evidence(folder, methods)
    return [other.method for other in found if other.strength == found[0].strength]


SFT_LIKE = ["sft", "rejection_sampling", "sequence_kd"]


@pytest.mark.parametrize(
    ("tag", "method"),
    [
        *((tag, tag) for tag in ("dpo", "kto", "orpo", "cpo", "grpo", "rloo", "ppo", "gkd")),
        ("online-dpo", "online_dpo"),
        ("xpo", "xpo"),
        ("nash-md", "nash_md"),
        ("distillation", "on_policy_distillation"),
        ("minillm", "minillm"),
        ("sdft", "self_distillation"),
    ],
)
def test_trl_cards_are_recognised(
    tag: str, method: str, tmp_path: Path, methods: Catalogue[Method]
) -> None:
    found = strongest(gather_evidence(with_card(tmp_path, tag), methods), tmp_path)
    assert found is not None
    assert found.method == method
    assert tag in found.found


def test_what_leaves_the_same_traces_is_a_tie(tmp_path: Path, methods: Catalogue[Method]) -> None:
    assert best(with_card(tmp_path, "sft"), methods) == SFT_LIKE
    with pytest.raises(PtharnessError) as raised:
        strongest(gather_evidence(tmp_path, methods), tmp_path)
    assert all(name in str(raised.value) for name in SFT_LIKE)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (SFT_KEYS, SFT_LIKE),
        (DPO_KEYS, ["dpo"]),
        ((*DPO_KEYS, "log_odds_chosen", "nll_loss"), ["orpo"]),
        ((*DPO_KEYS, "nll_loss"), ["cpo"]),
        ((*DPO_KEYS, "kl"), ["kto"]),
        ((*DPO_KEYS, "objective/scores_margin", "objective/rlhf_reward"), ["online_dpo"]),
        (GRPO_KEYS, ["grpo"]),
        ((*GRPO_KEYS, "rewards/steps_are_right/mean"), ["stepwise_rl"]),
        ((*GRPO_KEYS, "rewards/misstep_free/mean"), ["grpo"]),
        (("objective/rlhf_reward", "policy/approxkl_avg"), ["ppo"]),
        (DISTILLATION_KEYS, ["on_policy_distillation"]),
        (GKD_KEYS, []),
        ((), []),
    ],
)
def test_trainer_states_are_recognised(
    keys: tuple[str, ...], found: list[str], tmp_path: Path, methods: Catalogue[Method]
) -> None:
    assert best(with_log(tmp_path, keys), methods) == found


def test_a_reward_on_steps_tells_process_supervision_from_a_grpo_card(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    with_card(tmp_path, "grpo")
    assert best(with_log(tmp_path, GRPO_KEYS), methods) == ["grpo"]
    with_log(tmp_path, (*GRPO_KEYS, "rewards/process_reward/mean"))
    assert best(tmp_path, methods) == ["stepwise_rl"]


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ("GRPOConfig", "grpo"),
        ("DPOConfig", "dpo"),
        ("OnlineDPOConfig", "online_dpo"),
        ("GKDConfig", "gkd"),
        ("DistillationConfig", "on_policy_distillation"),
        ("TrainingArguments", None),
    ],
)
def test_the_class_of_the_settings_is_read_without_unpickling(
    settings: str, method: str | None, tmp_path: Path, methods: Catalogue[Method]
) -> None:
    code = f"\x80\x02ctrl.trainer.some_config\n{settings}\nq\x00)\x81q\x01.".encode("latin-1")
    with zipfile.ZipFile(tmp_path / "training_args.bin", "w") as archive:
        archive.writestr("training_args/data.pkl", code)
    assert best(tmp_path, methods)[:1] == ([method] if method else [])


def test_two_trainers_on_one_card_are_a_hybrid(tmp_path: Path, methods: Catalogue[Method]) -> None:
    (tmp_path / "README.md").write_text("---\ntags: [trl, grpo, sft]\n---\n")
    with_log(tmp_path, (*GRPO_KEYS, "mean_token_accuracy"))
    assert best(tmp_path, methods) == ["hybrid"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("mergekit_config.yml", "models: [{model: a}, {model: b}]\nmerge_method: ties\n"),
        ("README.md", "---\nbase_model: [a, b]\nbase_model_relation: merge\n---\n"),
        ("README.md", "---\ntags: [mergekit, merge]\n---\n"),
    ],
)
def test_merges_are_recognised(
    file: str, text: str, tmp_path: Path, methods: Catalogue[Method]
) -> None:
    (tmp_path / file).write_text(text)
    assert best(tmp_path, methods) == ["merge"]


def test_a_tag_that_no_trainer_signed_is_weak_evidence(
    tmp_path: Path, methods: Catalogue[Method]
) -> None:
    (tmp_path / "README.md").write_text("---\ntags: [grpo, text-generation]\n---\n")
    found = gather_evidence(tmp_path, methods)
    assert found[0].method == "grpo"
    assert found[0].strength == 0.5
    with_log(tmp_path, DPO_KEYS)
    assert best(tmp_path, methods) == ["dpo"]


def test_a_reward_model_is_no_stage(tmp_path: Path, methods: Catalogue[Method]) -> None:
    assert gather_evidence(with_card(tmp_path, "reward-trainer"), methods) == []


def test_a_pickle_that_would_run_is_not_run(tmp_path: Path, methods: Catalogue[Method]) -> None:
    proof = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (proof,)

    content = pickle.dumps(Hostile())
    (tmp_path / "training_args.bin").write_bytes(content)
    assert gather_evidence(tmp_path, methods) == []
    with zipfile.ZipFile(tmp_path / "training_args.bin", "w") as archive:
        archive.writestr("x/data.pkl", content)
    assert gather_evidence(tmp_path, methods) == []
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": [{"reward": 1}]}))
    assert gather_evidence(tmp_path, methods) == []
    assert not proof.exists()
