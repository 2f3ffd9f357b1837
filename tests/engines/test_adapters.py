"""What is refused of a LoRA adapter's files before an engine sees them, each by its name."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptharness.engines import adapters, preflight, vllm_start
from ptharness.engines.adapters import MERGE, check_finite, check_on_base, inspect_adapter
from ptharness.engines.base import EngineSettings
from ptharness.engines.vllm_room import BYTES_GATHERED_ON_CPU, batch_on_cpu, room_for
from ptharness.errors import CheckpointError
from tests.engines.lora import ALL_LINEAR, edit_adapter, make_adapter
from tests.engines.tiny import make_checkpoint

QUERY = "base_model.model.model.layers.1.self_attn.q_proj"
EMBEDDINGS = "base_model.model.model.embed_tokens"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    make_checkpoint(folder / "base", seed=1)
    make_adapter(folder / "lora", folder / "base", seed=2)
    return folder


@pytest.fixture
def lora(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder / "lora", tmp_path / "lora"))


def check(folder: Path, lora: Path) -> adapters.Adapter:
    adapter = inspect_adapter(lora)
    check_on_base(adapter, preflight.inspect_files(folder / "base"))
    check_finite(adapter)
    return adapter


def test_rank_scaling_and_targets_are_read_from_the_files(folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(
        tmp_path / "a", folder / "base", seed=3, rank=2, alpha=3, targets=("q_proj", "up_proj"),
        rank_pattern={"layers.0.self_attn.q_proj": 9, r"^model\.layers\.1\.self_attn\.q_proj": 4},
        config={"alpha_pattern": {r".*\.up_proj": 8}},
    )  # fmt: skip
    found = check(folder, adapter)
    assert (found.rank, found.targets) == (9, {"q_proj", "up_proj"})
    scalings = {name: (f.rank, f.scaling) for name, f in found.factors.items()}
    assert scalings == {
        "model.layers.0.self_attn.q_proj": (9, 3 / 9),
        "model.layers.1.self_attn.q_proj": (4, 3 / 4),
        "model.layers.0.mlp.up_proj": (2, 4.0),
        "model.layers.1.mlp.up_proj": (2, 4.0),
    }
    edit_adapter(adapter, use_rslora=True)
    found = check(folder, adapter)
    assert found.factors["model.layers.0.mlp.up_proj"].scaling == 8 / math.sqrt(2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3'; only LORA is served"),
        ({"peft_type": None}, "peft_type None"),
        ({"use_dora": True}, "use_dora: True: DoRA"),
        ({"bias": "all"}, "bias 'all'; only none"),
        ({"lora_bias": True}, "lora_bias: True: a bias beside"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save: \['lm_head'\]: whole modules"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"target_parameters": ["mlp.experts"]}, "target_parameters"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"use_qalora": True}, "use_qalora"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"megatron_config": {"x": 1}}, "megatron_config"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' changes the base's weights"),
        ({"r": 1024}, "rank 1024; a rank that is served is a whole number from 1 to 512"),
        ({"rank_pattern": {"(a+)+b": 4}}, r"rank_pattern has the pattern '\(a\+\)\+b'"),
    ],
)
def test_what_is_no_plain_lora_is_refused_with_the_remedy(
    folder: Path, lora: Path, settings: dict[str, Any], message: str
) -> None:
    edit_adapter(lora, **settings)
    with pytest.raises(CheckpointError, match=message) as raised:
        check(folder, lora)
    assert str(lora / "adapter_config.json") in str(raised.value)
    assert MERGE in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 0}, "rank 0"),
        ({"r": "8"}, "rank '8'"),
        ({"r": True}, "rank True"),
        ({"r": 8}, rf"{QUERY[:25]}.*has shape \[4, .*gives this layer rank 8"),
        ({"rank_pattern": {"q_proj": -1}}, "rank -1"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern is .*not an object"),
        ({"alpha_pattern": {"q_proj": "8"}}, "lora_alpha '8' is not a finite number"),
        ({"lora_alpha": float("nan")}, "lora_alpha nan"),
        ({"lora_alpha": None}, "lora_alpha None"),
        ({"target_modules": None}, "target_modules is None"),
    ],
)  # fmt: skip
def test_a_config_that_cannot_be_right_is_named(
    folder: Path, lora: Path, settings: dict[str, Any], message: str
) -> None:
    edit_adapter(lora, **settings)
    with pytest.raises(CheckpointError, match=message):
        check(folder, lora)


def cut(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({name: tensors[name][:, :-8].contiguous()})


def also(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({name: tensors[f"{QUERY}.lora_A.weight"].clone()})


def rename(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(f"{QUERY}.lora_B.weight"), rf"{QUERY}.lora_B.weight' is missing"),
        (
            lambda t: [t.pop(f"{QUERY}.lora_{side}.weight") for side in "AB"],
            rf"{QUERY}.lora_A.weight' is missing: adapter_config.json names 'q_proj'",
        ),
        (rename(f"{QUERY}.lora_A.weight", f"{QUERY}.lora_A"), "is no LoRA factor of a linear"),
        (rename(f"{QUERY}.lora_A.weight", "x.lora_A.weight"), "is no LoRA factor of a linear"),
        (
            rename(f"{QUERY}.lora_A.weight", f"{QUERY}.lora_magnitude_vector.weight"),
            "lora_magnitude_vector.* is no LoRA factor",
        ),
        (also(f"{EMBEDDINGS}.weight"), "embed_tokens.weight' is no LoRA factor"),
        (also(f"{EMBEDDINGS}.lora_embedding_A"), "lora_embedding_A' is no LoRA factor"),
        (also("base_model.model.lm_head.lora_A.weight"), "embeddings or the output head"),
        (cut(f"{QUERY}.lora_A.weight"), r"has shape \[4, 56\] where .* needs \[4, 64\]"),
        (lambda t: t[f"{QUERY}.lora_B.weight"].fill_(float("nan")), "not finite"),
        (lambda t: t[f"{QUERY}.lora_A.weight"][0].fill_(float("inf")), "64 values that are not"),
        (
            lambda t: t.update({name: value.char() for name, value in t.items()}),
            "is stored as 'I8'; only F32, F16, BF16 are served",
        ),
        (lambda t: t.clear(), "holds no tensor"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(
    folder: Path, lora: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit_adapter(lora, edit)
    with pytest.raises(CheckpointError, match=message):
        check(folder, lora)


def test_the_page_names_all_that_is_refused() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "evaluate-adapters.md"
    text = page.read_text(encoding="utf-8")
    assert [key for key in adapters._FEATURES if f"`{key}`" not in text] == []


def test_an_adapter_of_another_base_is_named(folder: Path, tmp_path: Path) -> None:
    deeper = make_checkpoint(tmp_path / "deeper", seed=1, layers=3)
    adapter = make_adapter(tmp_path / "a", deeper, seed=2)
    with pytest.raises(CheckpointError, match=r"layers\.2\..* does not have: was the adapter"):
        check(folder, adapter)


def test_layers_that_the_config_leaves_out_may_be_missing(folder: Path, lora: Path) -> None:
    edit_adapter(
        lora,
        lambda t: [t.pop(name) for name in list(t) if ".layers.1." in name],
        layers_to_transform=[0],
    )
    assert len(check(folder, lora).factors) == len(ALL_LINEAR)


def test_a_pickle_is_refused(folder: Path, lora: Path) -> None:
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"holds adapter_model.bin, a pickle"):
        check(folder, lora)
    (lora / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: missing"):
        check(folder, lora)


def test_room_is_what_the_adapters_need(folder: Path, tmp_path: Path) -> None:
    few = make_adapter(tmp_path / "few", folder / "base", seed=1, rank=9, targets=("q_proj",))
    both = [inspect_adapter(few), inspect_adapter(folder / "lora")]
    room = room_for(both, {})
    assert (room.rank, room.slots, room.held) == (16, 2, 2)
    assert room.targets == set(ALL_LINEAR)
    assert room_for(both * 9, {}).slots == 8
    assert room_for(both * 9, {"max_loras": 12}).slots == 12
    assert room.holds(room_for(both[:1], {}))
    assert not room_for(both[:1], {}).holds(room)


def test_a_step_on_a_cpu_is_bounded_by_what_it_copies(folder: Path) -> None:
    room = room_for([inspect_adapter(folder / "lora")], {})
    assert batch_on_cpu(room, {"model.layers.0.mlp.up_proj.weight": (96, 64)}) == {}
    limits = batch_on_cpu(room, {"model.layers.0.mlp.up_proj.weight": (14336, 4096)})
    assert limits["max_num_seqs"] <= limits["max_num_batched_tokens"]
    copied = limits["max_num_batched_tokens"] * room.rank * 14336 * 4
    assert BYTES_GATHERED_ON_CPU / 2 < copied <= BYTES_GATHERED_ON_CPU


def test_adapters_in_float32_on_a_gpu_are_refused_before_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM's kernels there take 16 bits; its own message is an empty assertion."""
    monkeypatch.setattr(vllm_start, "device", lambda: "NVIDIA H100")
    monkeypatch.setattr(vllm_start, "prepare_environment", lambda: None)
    room = room_for([inspect_adapter(folder / "lora")], {})
    files = preflight.inspect_files(folder / "base")
    with pytest.raises(CheckpointError, match=r"set engine\.dtype: bfloat16, or merge it"):
        vllm_start.start(files, EngineSettings("vllm"), room)
