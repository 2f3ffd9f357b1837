"""What each family declares, as a function of the stage's settings, and what it recognises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ptharness.errors import ManifestError
from ptharness.evidence import gather_evidence, strongest
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


@pytest.fixture(scope="module")
def methods() -> Catalogue[Method]:
    return load_plugins(installed=False).registry(["methods"]).methods


NAMES = {
    "sft": ["sft", "instruction_tuning"],
    "preference_optimization": ["dpo", "ipo", "kto", "orpo", "cpo", "simpo", "gpo"],
    "on_policy_rl": [
        *("ppo", "grpo", "rloo", "reinforce", "dapo", "gspo", "rlhf", "rlaif", "rlvr")
    ],
}


@pytest.mark.parametrize("family", NAMES)
def test_a_family_answers_to_its_names(family: str, methods: Catalogue[Method]) -> None:
    assert {methods.entry(name).name for name in NAMES[family]} == {family}


@pytest.mark.parametrize(
    ("method", "options", "provenance", "interface", "roles"),
    [
        ("sft", {}, OFF, Interface.TOKEN_TARGETS, (EXPANSION, RESHAPING)),
        ("sft", {"coverage": "outside_support"}, OFF, Interface.TOKEN_TARGETS, (EXPANSION,)),
        ("sft", {"coverage": "inside_support"}, OFF, Interface.TOKEN_TARGETS, (RESHAPING,)),
        ("dpo", {}, OFF, Interface.RANKED_PREFERENCES, (RESHAPING,)),
        ("kto", {"pairs": "offline"}, OFF, Interface.RANKED_PREFERENCES, (RESHAPING,)),
        ("dpo", {"pairs": "fresh_rollouts"}, ON, Interface.RANKED_PREFERENCES, (RESHAPING,)),
        ("simpo", {"pairs": "mixed"}, MIXED, Interface.RANKED_PREFERENCES, (RESHAPING,)),
        ("grpo", {}, ON, Interface.REWARDS, (RESHAPING,)),
        ("ppo", {"replay_buffer": True}, MIXED, Interface.REWARDS, (RESHAPING,)),
        ("ppo", {"replay_buffer": False}, ON, Interface.REWARDS, (RESHAPING,)),
        ("rlvr", {"rollouts": "stale"}, MIXED, Interface.REWARDS, (RESHAPING,)),
        ("grpo", {"guidance": "strong"}, ON, Interface.REWARDS, (RESHAPING, EXPANSION)),
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
    assert declared.interface is Interface.TEACHER_TARGETS
    assert declared.roles == (Role.CONSOLIDATION,)
    assert "'grpo'" in declared.reason


@pytest.mark.parametrize("name", [name for names in NAMES.values() for name in names])
def test_every_declaration_has_a_reason_and_the_literature(
    name: str, methods: Catalogue[Method]
) -> None:
    declared = methods.get(name).declare(StageSettings(name))
    assert len(declared.reason) > 30
    assert declared.sources[0].startswith("arXiv:2604.07941")
    assert len(declared.sources) >= 2
    assert len(set(declared.sources)) == len(declared.sources)
    for source in declared.sources:
        assert re.match(r"(arXiv:\d{4}\.\d{5}|doi:10\.\S+) \(.+\)$", source)


@pytest.mark.parametrize(
    ("method", "options", "legal"),
    [
        ("sft", {"coverage": "inside"}, "unknown, outside_support, inside_support"),
        ("dpo", {"pairs": ["offline"]}, "offline, fresh_rollouts, mixed"),
        ("grpo", {"replay_buffer": "yes"}, "true, false"),
        ("grpo", {"rollouts": None}, "fresh, stale"),
        ("grpo", {"guidance": "some"}, "none, strong"),
    ],
)
def test_a_wrong_option_names_the_legal_values(
    method: str, options: dict[str, Any], legal: str, methods: Catalogue[Method]
) -> None:
    with pytest.raises(ManifestError) as raised:
        methods.get(method).declare(StageSettings(method, options=options))
    assert f"legal: {legal}" in str(raised.value)
    assert next(iter(options)) in str(raised.value)


@pytest.mark.parametrize("tag", ["sft", "dpo", "kto", "orpo", "cpo", "grpo", "rloo", "ppo"])
def test_trl_cards_are_recognised(tag: str, tmp_path: Path, methods: Catalogue[Method]) -> None:
    found = strongest(gather_evidence(with_card(tmp_path, tag), methods), tmp_path)
    assert found is not None
    assert found.method == tag
    assert tag in found.found


@pytest.mark.parametrize(
    ("keys", "method"),
    [
        (SFT_KEYS, "sft"),
        (DPO_KEYS, "dpo"),
        ((*DPO_KEYS, "log_odds_chosen"), "orpo"),
        (GRPO_KEYS, "grpo"),
        (("objective/rlhf_reward", "policy/approxkl_avg"), "ppo"),
        (DISTILLATION_KEYS, None),
        (GKD_KEYS, None),
        ((), None),
    ],
)
def test_trainer_states_are_recognised(
    keys: tuple[str, ...], method: str | None, tmp_path: Path, methods: Catalogue[Method]
) -> None:
    found = strongest(gather_evidence(with_log(tmp_path, keys), methods), tmp_path)
    assert (found.method if found else None) == method


@pytest.mark.parametrize("tag", ["gkd", "distillation", "online-dpo", "reward-trainer"])
def test_other_families_cards_are_not_claimed(
    tag: str, tmp_path: Path, methods: Catalogue[Method]
) -> None:
    assert gather_evidence(with_card(tmp_path, tag), methods) == []


def test_a_card_without_trl_is_no_evidence(tmp_path: Path, methods: Catalogue[Method]) -> None:
    (tmp_path / "README.md").write_text("---\ntags: [sft, dpo]\n---\n")
    assert gather_evidence(tmp_path, methods) == []
