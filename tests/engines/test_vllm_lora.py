"""LoRA adapters in the real vLLM, against their merged weights and against themselves.

One engine start serves most of this file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from ptharness.engines import vllm_room
from ptharness.engines.adapters import MOST_RANK
from ptharness.engines.base import (
    Completion,
    EngineSettings,
    GenerateRequest,
    LoadReport,
    ScoreRequest,
)
from ptharness.engines.vllm import VllmEngine
from ptharness.errors import CheckpointError, EngineError
from ptharness.lineage import Checkpoint
from ptharness.protocol import Sampling, derive_seed
from tests.engines.asking import (
    EOS,
    GREEDY,
    PROMPTS,
    WARM,
    ask,
    ask_scores,
    at,
)
from tests.engines.lora import edit_adapter, make_adapter, merge
from tests.engines.tiny import CHARACTERS, make_checkpoint

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")

NAMES = ("all", "some", "stable")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base; three adapters of other ranks, targets and scalings; each merged into it."""
    folder = tmp_path_factory.mktemp("adapters")
    base = make_checkpoint(folder / "base", seed=1)
    make_adapter(folder / "all", base, seed=2, rank=4, alpha=8)
    make_adapter(
        folder / "some", base, seed=3, rank=3, alpha=3, targets=("q_proj", "v_proj"),
        rank_pattern={"layers.0.self_attn.q_proj": 9},
        config={"alpha_pattern": {r".*\.v_proj": 7.5}},
    )  # fmt: skip
    make_adapter(
        folder / "stable", base, seed=4, rank=2, targets=("up_proj", "o_proj"), dtype="bfloat16",
        config={"use_rslora": True},
    )  # fmt: skip
    for name in NAMES:
        merge(folder / name, base, folder / f"{name}-merged")
    return folder


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    import torch

    # As in a worker: the kernels' many small regions wait for a thread that lost its core.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    engine = make_engine()
    yield engine
    engine.close()
    torch.set_num_threads(threads)


def make_engine(**options: Any) -> VllmEngine:
    settings = {"dtype": "float32", "window": 64, **options}
    return VllmEngine(EngineSettings("vllm", settings, needed_tokens=400))


def on_base(folder: Path, name: str, path: Path | None = None) -> Checkpoint:
    return Checkpoint(name, folder / "base", name, adapter=path or folder / name)


def load_all(engine: VllmEngine, folder: Path, *more: Checkpoint) -> list[Any]:
    return list(engine.load_adapters([*(on_base(folder, name) for name in NAMES), *more]))


def interleaved(sampling: Sampling, samples: int = 1) -> list[GenerateRequest]:
    """Every prompt for every adapter, an adapter's requests never next to each other."""
    return [
        GenerateRequest(
            i * len(NAMES) + j, prompt, samples, derive_seed(0, i), sampling, (EOS,), name
        )
        for i, prompt in enumerate(PROMPTS)
        for j, name in enumerate(NAMES)
    ]


def drawn(engine: VllmEngine, requests: list[GenerateRequest]) -> Mapping[int, Any]:
    return {result.index: result.completions for result in engine.generate(requests)}


def assert_same(ours: Completion, its: Completion) -> None:
    assert ours.token_ids == its.token_ids
    assert ours.token_logprobs_nats == pytest.approx(its.token_logprobs_nats, abs=1e-4)
    assert (ours.text, ours.finish_reason) == (its.text, its.finish_reason)


def test_requests_of_several_adapters_are_in_one_batch(
    engine: VllmEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each gives the tokens that its adapter draws alone."""
    reports = load_all(engine, folder)
    assert [(r.checkpoint, r.how, r.verified, r.reason) for r in reports] == [
        (name, "adapter", True, "") for name in NAMES
    ]
    running = engine._require_running()
    core = running.llm.llm_engine.engine_core.engine_core
    schedule, seen = core.scheduler.schedule, []

    def watched(*arguments: Any) -> Any:
        output = schedule(*arguments)
        together = {
            core.scheduler.requests[name].lora_request.lora_name
            for name in output.num_scheduled_tokens
        }
        seen.append(len(together))
        return output

    monkeypatch.setattr(core.scheduler, "schedule", watched)
    together = drawn(engine, interleaved(WARM, 3))
    assert max(seen) == len(NAMES)
    for name in NAMES:
        alone = [request for request in interleaved(WARM, 3) if request.checkpoint == name]
        for index, completions in drawn(engine, alone).items():
            for ours, its in zip(completions, together[index], strict=True):
                assert_same(ours, its)


def test_a_bad_adapter_is_reported_and_the_others_go_on(
    engine: VllmEngine, folder: Path, tmp_path: Path
) -> None:
    dora = edit_adapter(Path(shutil.copytree(folder / "all", tmp_path / "dora")), use_dora=True)
    outcomes = load_all(engine, folder, on_base(folder, "dora", dora))
    assert [type(outcome) for outcome in outcomes] == [LoadReport] * 3 + [CheckpointError]
    assert "use_dora" in str(outcomes[-1])
    assert len(drawn(engine, interleaved(GREEDY))) == len(PROMPTS) * len(NAMES)
    request = GenerateRequest(7, PROMPTS[0], 1, 0, GREEDY, (), "dora")
    with pytest.raises(EngineError, match=r"request 7: checkpoint 'dora' is not loaded \(loaded"):
        list(engine.generate([request]))


def test_one_adapter_loads_like_a_checkpoint(
    engine: VllmEngine, folder: Path, tmp_path: Path
) -> None:
    """In the running engine, whatever was in it; a request without a name is for it."""
    load_all(engine, folder)
    running = engine._running
    report = engine.load(on_base(folder, "some"))
    assert (report.how, report.verified) == ("adapter", True)
    assert engine._running is running
    unnamed = ask(engine, GREEDY)
    named = drawn(engine, [r for r in interleaved(GREEDY) if r.checkpoint == "some"])
    assert [r.completions for r in unnamed.values()] == list(named.values())
    bad = Path(shutil.copytree(folder / "some", tmp_path / "prefix"))
    edit_adapter(bad, peft_type="PREFIX_TUNING")
    with pytest.raises(CheckpointError, match="peft_type 'PREFIX_TUNING'"):
        engine.load(on_base(folder, "prefix", bad))


def test_the_same_path_with_new_weights_is_read_again(
    engine: VllmEngine, folder: Path, tmp_path: Path
) -> None:
    """Neither vLLM's adapters nor its prefix cache answer for the ones of before."""
    moving = Path(shutil.copytree(folder / "all", tmp_path / "moving"))
    engine.load(on_base(folder, "moving", moving))
    before = ask(engine, GREEDY)
    make_adapter(tmp_path / "other", folder / "base", seed=9)
    shutil.copy(tmp_path / "other" / "adapter_model.safetensors", moving)
    engine.load(on_base(folder, "moving", moving))
    after = ask(engine, GREEDY)
    assert after != before
    engine.load(on_base(folder, "other", tmp_path / "other"))
    assert ask(engine, GREEDY) == after


def test_each_adapter_has_its_own_tokenizer(
    engine: VllmEngine, folder: Path, tmp_path: Path
) -> None:
    """Text is decoded, and stop strings are looked for, with the one that an adapter brings."""
    own = Path(shutil.copytree(folder / "all", tmp_path / "own"))
    turned = str.maketrans(CHARACTERS, CHARACTERS[::-1])
    shutil.copy(folder / "base" / "tokenizer_config.json", own)
    content = json.loads((folder / "base" / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {
        word.translate(turned) if len(word) == 1 else word: number
        for word, number in vocabulary.items()
    }
    (own / "tokenizer.json").write_text(json.dumps(content))
    engine.load_adapters([on_base(folder, "all"), on_base(folder, "own", own)])
    free = GenerateRequest(0, PROMPTS[0], 1, 0, GREEDY, (), "all")
    plain = drawn(engine, [free, replace(free, index=1, checkpoint="own")])
    (ours,), (its,) = plain[0], plain[1]
    assert ours.token_ids == its.token_ids
    assert its.text == ours.text.translate(turned) != ours.text
    # The third character of each: another token stops the one than the other.
    stops = [replace(GREEDY, stop=(completion.text[2],)) for completion in (ours, its)]
    stopped = drawn(
        engine,
        [
            replace(free, index=index, sampling=sampling, checkpoint=name)
            for index, (sampling, name) in enumerate(zip(stops, ("all", "own"), strict=True))
        ],
    )
    for (completion,), whole in ((stopped[0], ours), (stopped[1], its)):
        assert completion.finish_reason == "stop"
        assert completion.token_ids == whole.token_ids[: whole.text.index(whole.text[2]) + 1]


@pytest.mark.parametrize(
    ("where", "what", "message"),
    [
        ("vllm.lora.layers.base_linear.BaseLinearLayerWithLoRA.set_lora", None, "lora_A differ"),
        ("vllm.lora.lora_weights.LoRALayerWeights.optimize", "self", "lora_B differ"),
        (
            "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU.add_lora_linear", None,
            "computes something else: error 1.0e",
        ),
    ],
)  # fmt: skip
def test_a_half_loaded_adapter_is_caught(
    engine: VllmEngine,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    what: str | None,
    message: str,
) -> None:
    """A layer left out, a scaling not applied, a kernel that adds nothing: each is planted."""
    engine.load(on_base(folder, "all"))
    expected = ask(engine, GREEDY)
    engine.load(on_base(folder, "stable"))
    with monkeypatch.context() as planted:
        planted.setattr(where, lambda self, *_, **__: self if what else None)
        with pytest.raises(CheckpointError, match=f"vLLM made something else of it: .*{message}"):
            engine.load(on_base(folder, "all"))
    engine.load(on_base(folder, "all"))
    assert ask(engine, GREEDY) == expected


# From here on the engine is restarted.


def test_side_by_side_equals_the_merged_weights(engine: VllmEngine, folder: Path) -> None:
    """Greedy tokens, drawn tokens and log-likelihoods of unmerged adapters are the merged ones'.

    The base and merged weights are served by an engine without adapters.
    """
    load_all(engine, folder)
    greedy, warm = drawn(engine, interleaved(GREEDY)), drawn(engine, interleaved(WARM, 3))
    scores = [
        ScoreRequest(request.index, request.prompt_token_ids, (9, 8, request.index))
        for request in interleaved(GREEDY)
    ]
    named = [replace(score, checkpoint=NAMES[score.index % len(NAMES)]) for score in scores]
    scored = ask_scores(engine, named)
    nameless = GenerateRequest(3, PROMPTS[0], 1, 0, GREEDY)
    with pytest.raises(EngineError, match="request 3: checkpoint '' is not loaded"):
        list(engine.generate([nameless]))
    report = engine.load(at(folder / "base"))
    assert (report.how, report.verified) == ("cold", True)
    assert report.reason == "the running engine serves adapters"
    texts = {c.text for result in ask(engine, WARM, samples=3).values() for c in result.completions}
    for j, name in enumerate(NAMES):
        assert engine.load(at(folder / f"{name}-merged")).how == "swap"
        for sampling, samples, found in ((GREEDY, 1, greedy), (WARM, 3, warm)):
            for i, expected in ask(engine, sampling, samples=samples).items():
                for ours, its in zip(found[i * len(NAMES) + j], expected.completions, strict=True):
                    assert_same(ours, its)
                    texts.add(ours.text)
        for i, its in ask_scores(engine, scores[j :: len(NAMES)]).items():
            assert scored[i].greedy == its.greedy
            assert scored[i].token_logprobs_nats == pytest.approx(its.token_logprobs_nats, abs=1e-4)
    assert len(texts) > 60, "the adapters must differ for this to show anything"


def test_one_slot_serves_them_all(engine: VllmEngine, folder: Path) -> None:
    """`max_loras` bounds what is in one batch, not what is served."""
    engine.close()
    narrow = make_engine(max_loras=1)
    try:
        assert all(report.verified for report in load_all(narrow, folder))
        found = drawn(narrow, interleaved(GREEDY))
        for name in NAMES:
            narrow.load(on_base(folder, name))
            alone = [request for request in interleaved(GREEDY) if request.checkpoint == name]
            for index, (its,) in drawn(narrow, alone).items():
                assert_same(found[index][0], its)
    finally:
        narrow.close()


def test_the_limits_are_vllms() -> None:
    from vllm.config.lora import MaxLoRARanks

    assert get_args(MaxLoRARanks) == vllm_room.RANKS
    assert max(vllm_room.RANKS) == MOST_RANK
