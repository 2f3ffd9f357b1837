"""What is bundled: whole, small, reproducible in form, and free of the machine it was made on."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ptharness_zoo import CHECKPOINTS, DEMO, MANIFEST, TRAJECTORIES, checkpoint
from ptharness_zoo.recipe import domain, grpo
from ptharness_zoo.stages import STAGES

ROOT = MANIFEST.parent
FILES = sorted(
    path for folder in (CHECKPOINTS, TRAJECTORIES) for path in folder.rglob("*") if path.is_file()
)
WEIGHTS = [path for path in FILES if path.suffix == ".safetensors"]
TRAINED = [name for name, stage in STAGES.items() if stage.has_trajectories]
STEPS = [f"checkpoint-{step}" for step in grpo.KEPT_STEPS]
MACHINE = re.compile(rb"/(work|home|root|tmp|Users|mnt)\b")
MEGABYTE = 1_000_000


def entries(manifest: Path = MANIFEST) -> dict[str, Any]:
    """The checkpoints of a manifest."""
    read: dict[str, Any] = yaml.safe_load(manifest.read_text(encoding="utf-8"))["checkpoints"]
    return read


def rows(name: str) -> list[dict[str, Any]]:
    """The bundled trajectories of a stage."""
    with gzip.open(TRAJECTORIES / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file."""
    content = path.read_bytes()
    read: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return read


def test_every_stage_has_its_checkpoint_its_trajectories_and_its_entry() -> None:
    assert {path.name for path in CHECKPOINTS.iterdir()} == set(STAGES)
    assert {path.name for path in TRAJECTORIES.iterdir()} == {f"{n}.jsonl.gz" for n in TRAINED}
    listed = entries()
    assert set(STAGES) - {"lora"} == {name for name in listed if name in STAGES}
    assert "# lora: {adapter: checkpoints/lora," in MANIFEST.read_text(encoding="utf-8")
    for name, entry in listed.items():
        assert (ROOT / entry["path"]).is_dir()
        if name in TRAINED:
            assert ROOT / entry["trajectories"] == TRAJECTORIES / f"{name}.jsonl.gz"
            assert {entry["parent"], *entry.get("teacher", "").split()} == set(STAGES[name].needs)


def test_the_demo_is_a_part_of_the_lineage() -> None:
    whole = entries()
    for name, entry in entries(DEMO).items():
        assert entry.items() <= whole[name].items()


def test_the_main_path_has_five_stages() -> None:
    path, listed = ["student"], entries()
    while parent := listed[path[0]].get("parent"):
        path.insert(0, parent)
    assert path == ["base", "sft", "grpo", "process", "student_skd", "student"]


def test_unknown_checkpoint_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'ppo'; it has base, dpo, grpo"):
        checkpoint("ppo")


def test_no_file_tells_of_the_machine() -> None:
    for path in FILES:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if path.suffix == ".safetensors":
            content = json.dumps(header(path)).encode()
        found = MACHINE.search(content)
        assert found is None, f"{path.relative_to(ROOT)}: {found}"


def test_gzip_notes_neither_time_nor_name() -> None:
    for path in TRAJECTORIES.iterdir():
        assert path.read_bytes()[3:8] == bytes(5), path.name


def test_checkpoints_are_small() -> None:
    assert max(path.stat().st_size for path in FILES) < 1.5 * MEGABYTE
    assert sum(path.stat().st_size for path in FILES) < 20 * MEGABYTE


def test_weights_are_bfloat16() -> None:
    for path in WEIGHTS:
        kinds = {tensor["dtype"] for name, tensor in header(path).items() if name != "__metadata__"}
        assert kinds == {"F32" if path.parent.name == "lora" else "BF16"}, path


def test_only_wanted_files_are_bundled() -> None:
    unwanted = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
    assert not [path for path in FILES if path.suffix in unwanted]
    assert not list(ROOT.glob(".training-*"))


@pytest.mark.parametrize("name", TRAINED)
def test_trl_left_its_card_and_its_state(name: str) -> None:
    card = (checkpoint(name) / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^- trl$", card, re.MULTILINE)
    assert (checkpoint(name) / "trainer_state.json").is_file()


@pytest.mark.parametrize("step", STEPS)
def test_steps_are_laid_out_as_trl_does(step: str) -> None:
    folder = checkpoint("grpo") / step
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    assert f"checkpoint-{state['global_step']}" == step
    assert not (folder / "README.md").exists()
    assert (folder / "config.json").is_file()


def test_the_adapter_names_its_base_relatively() -> None:
    config = json.loads((checkpoint("lora") / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "sft"


def test_the_logs_tell_rewards_and_demonstrations_apart() -> None:
    for name, key in (
        ("process", "rewards/steps_are_right/mean"),
        ("hybrid", "demonstrations/nll"),
        ("hybrid", "rewards/sort_is_right/mean"),
    ):
        state = json.loads((checkpoint(name) / "trainer_state.json").read_text(encoding="utf-8"))
        assert key in state["log_history"][0]


@pytest.mark.parametrize("name", TRAINED)
def test_trajectories_are_what_trl_trains_on(name: str) -> None:
    kept = rows(name)
    assert 300 <= len(kept) <= 400
    held_out = domain.held_out_prompts()
    for row in kept:
        (message,) = row["prompt"]
        assert message["role"] == "user"
        assert message["content"] not in held_out
        answers = ("chosen", "rejected") if name == "dpo" else ("completion",)
        assert set(row) - {"reward"} == {"prompt", *answers}
        assert all(row[answer][0]["role"] == "assistant" for answer in answers)


def test_pairs_and_accepted_samples_are_what_the_verifier_said() -> None:
    for row in rows("dpo"):
        prompt = row["prompt"][0]["content"]
        assert domain.is_correct(prompt, row["chosen"][0]["content"])
        assert not domain.is_correct(prompt, row["rejected"][0]["content"])
    for row in rows("rejection"):
        assert domain.is_correct(row["prompt"][0]["content"], row["completion"][0]["content"])


@pytest.mark.parametrize("name", ["grpo", "online_dpo", "process", "hybrid"])
def test_rollouts_carry_their_reward(name: str) -> None:
    rewards = [row["reward"] for row in rows(name) if "reward" in row]
    assert len(rewards) >= 150
    assert 0 <= min(rewards) < max(rewards) <= 1
