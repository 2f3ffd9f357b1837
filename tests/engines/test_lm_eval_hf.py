"""lm-eval's hf model as an engine: against transformers, against lm-eval, and by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ptharness_tasks import TASKS
from ptharness_zoo import CHECKPOINTS

import ptharness
from ptharness.engines.base import EngineSettings, GenerateRequest, ScoreRequest
from ptharness.engines.lm_eval_batches import BatchSize
from ptharness.engines.lm_eval_hf import HfEngine
from ptharness.errors import CheckpointError, EngineError
from ptharness.lineage import Checkpoint
from ptharness.protocol import Sampling
from tests.engines.asking import (
    END,
    EOS,
    GREEDY,
    PROMPTS,
    WARM,
    ask,
    ask_scores,
    assert_distributions_equal_transformers,
    assert_equals_transformers,
    at,
    reference,
    reference_logprobs,
)
from tests.engines.lora import edit_adapter, make_adapter, merge
from tests.engines.tiny import edit_tensors, make_checkpoint

pytest.importorskip("accelerate")
pytest.importorskip("lm_eval")

NORM = "model.norm.weight"
OPTIONS = {"dtype": "float32", "device": "cpu", "batch_size": 4, "window": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    make_checkpoint(folder / "one", seed=1)
    make_checkpoint(folder / "two", seed=2, tied=False, bias=True, eos="<|end|>")
    return folder


@pytest.fixture(scope="module")
def engine() -> Iterator[HfEngine]:
    HfEngine.preload()
    engine = HfEngine(EngineSettings("lm_eval:hf", OPTIONS))
    yield engine
    engine.close()


def test_it_equals_transformers_after_every_load(engine: HfEngine, folder: Path) -> None:
    for name in ("one", "two", "one"):
        report = engine.load(at(folder / name))
        assert (report.how, report.verified, report.reason) == ("cold", True, "")
        assert_equals_transformers(engine, folder / name)


def test_whole_distributions_equal_transformers(engine: HfEngine, folder: Path) -> None:
    engine.load(at(folder / "two"))
    assert_distributions_equal_transformers(engine, folder / "two")


def test_requests_that_differ_in_their_last_token_are_told_apart(
    engine: HfEngine, folder: Path
) -> None:
    """They share a forward pass, and so does one whose continuation is longer."""
    engine.load(at(folder / "one"))
    pairs = [((1, 9, 8), (7, 10)), ((1, 9, 8, 7), (11,)), ((1, 9, 8), (7, 12)), ((1, 9), (8,))]
    scores = ask_scores(engine, [ScoreRequest(i, *pair) for i, pair in enumerate(pairs)])
    for index, (context, rest) in enumerate(pairs):
        logprobs, greedy = reference_logprobs(folder / "one", context, rest)
        assert scores[index].token_logprobs_nats == pytest.approx(logprobs, abs=1e-5)
        assert scores[index].greedy == greedy


def test_a_sample_depends_on_its_seed_alone(engine: HfEngine, folder: Path) -> None:
    engine.load(at(folder / "one"))

    def tokens(**how: Any) -> dict[int, list[tuple[int, ...]]]:
        answers = ask(engine, WARM, samples=5, **how)
        return {i: [c.token_ids for c in answers[i].completions] for i in sorted(answers)}

    together = tokens()
    assert tokens(only=[3]) == {3: together[3]}
    assert tokens(only=[5, 2, 0, 4, 1, 3]) == together
    more = ask(engine, WARM, samples=7, only=[3])[3].completions
    assert [c.token_ids for c in more[:5]] == together[3]
    assert all(tokens(root=1)[i] != together[i] for i in together)
    assert len({t for drawn in together.values() for t in drawn}) > 25


def test_samples_follow_the_distribution(
    engine: HfEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first token of many samples against the model's own probabilities, warm and shaped."""
    import torch

    engine.load(at(folder / "one"))
    monkeypatch.setattr(engine, "_batches", BatchSize(1000))
    with torch.inference_mode():
        logits = reference(folder / "one")(torch.tensor([PROMPTS[0]])).logits[0, -1].double()
    draws = 4000
    for sampling in (
        Sampling(temperature=1.0, max_tokens=1),
        Sampling(temperature=0.5, max_tokens=1, top_k=5),
        Sampling(temperature=1.0, max_tokens=1, top_p=0.95, repetition_penalty=1.5),
    ):
        shaped = logits.clone()
        if sampling.repetition_penalty != 1.0:
            seen = torch.tensor(sorted(set(PROMPTS[0])))
            shaped[seen] = torch.where(shaped[seen] < 0, shaped[seen] * 1.5, shaped[seen] / 1.5)
        expected = (shaped / sampling.temperature).softmax(-1)
        if sampling.top_k:
            expected[expected < expected.topk(sampling.top_k).values[-1]] = 0
        if sampling.top_p < 1:
            values, order = expected.sort(descending=True)
            expected[order[(values.cumsum(-1) - values) >= sampling.top_p]] = 0
        expected /= expected.sum()
        [result] = engine.generate([GenerateRequest(0, PROMPTS[0], draws, 7, sampling)])
        tokens = torch.tensor([c.token_ids[0] for c in result.completions])
        counts = torch.bincount(tokens, minlength=len(expected)).double()
        assert not counts[expected == 0].any()
        wanted = draws * expected
        usual = wanted >= 5
        chi2 = float(((counts - wanted) ** 2 / wanted)[usual].sum())
        freedom = int(usual.sum()) - 1
        assert freedom >= 1
        assert chi2 < freedom + 5 * (2 * freedom) ** 0.5, sampling


def test_penalties_count_the_completion_and_no_padding(engine: HfEngine, folder: Path) -> None:
    engine.load(at(folder / "one"))
    strong = Sampling(temperature=0.0, max_tokens=12, presence_penalty=100.0)
    for result in ask(engine, strong, stops=()).values():
        token_ids = result.completions[0].token_ids
        assert len(set(token_ids)) == len(token_ids) == 12, "nothing is said twice"
    repeated = Sampling(temperature=0.0, max_tokens=12, repetition_penalty=1.3)
    together = ask(engine, repeated, stops=())
    for index in range(len(PROMPTS)):
        alone = ask(engine, repeated, stops=(), only=[index])[index]
        assert alone.completions[0].token_ids == together[index].completions[0].token_ids


def test_rows_end_at_their_own_stops(engine: HfEngine, folder: Path) -> None:
    engine.load(at(folder / "one"))
    until = Sampling(temperature=1.0, max_tokens=40, stop=("a", "b7"))
    completions = [
        c for r in ask(engine, until, samples=16, stops=(EOS, END)).values() for c in r.completions
    ]
    at_string = [c for c in completions if c.text.endswith(("a", "b7"))]
    assert len(at_string) > 15
    assert {c.finish_reason for c in at_string} == {"stop"}
    for completion in completions:
        assert "a" not in completion.text[:-1]
        assert "b7" not in completion.text[:-1]
        assert not {EOS, END} & set(completion.token_ids[:-1])
        ended = completion in at_string or completion.token_ids[-1] in (EOS, END)
        assert (completion.finish_reason == "stop") == ended
        assert ended or len(completion.token_ids) == 40
        assert len(completion.token_ids) == len(completion.token_logprobs_nats)


def test_a_completion_ends_where_the_positions_do(engine: HfEngine, folder: Path) -> None:
    engine.load(at(folder / "one"))
    requests = [
        GenerateRequest(i, (1,) + (9,) * (length - 1), 1, i, GREEDY) for i, length in ((0, 505),)
    ]
    requests.append(GenerateRequest(1, PROMPTS[0], 1, 1, GREEDY))
    results = {result.index: result for result in engine.generate(requests)}
    assert len(results[0].completions[0].token_ids) == 512 - 505
    assert len(results[1].completions[0].token_ids) == GREEDY.max_tokens


def test_a_length_may_be_set(folder: Path) -> None:
    engine = HfEngine(EngineSettings("lm_eval:hf", {**OPTIONS, "max_length": 12}))
    engine.load(at(folder / "one"))
    [result] = engine.generate([GenerateRequest(0, (1,) + (9,) * 9, 1, 0, GREEDY)])
    assert len(result.completions[0].token_ids) == 2
    with pytest.raises(EngineError, match=r"the model's 12; .* raise engine\.max_length"):
        list(engine.generate([GenerateRequest(0, (1,) + (9,) * 11, 1, 0, GREEDY)]))
    engine.close()


def test_requests_are_pulled_lazily(engine: HfEngine, folder: Path) -> None:
    engine.load(at(folder / "one"))
    pulled = 0

    def endless() -> Iterator[GenerateRequest]:
        nonlocal pulled
        while True:
            pulled += 1
            yield GenerateRequest(pulled, PROMPTS[pulled % 6], 1, pulled, GREEDY, (EOS,))

    results = engine.generate(endless())
    for _ in range(6):
        next(results)
    assert 6 <= pulled <= 6 + engine.capabilities.window


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        ((9,) * 600, WARM, "request 77: a prompt of 600 tokens"),
        ((), WARM, "request 77: the prompt is empty"),
        ((1, 4000), WARM, "request 77: token 4000"),
        ((1, 2), Sampling(temperature=1.0, top_p=7.0), "top_p"),
    ],
)
def test_a_request_that_can_not_be_served_is_named(
    prompt: tuple[int, ...], sampling: Sampling, message: str, engine: HfEngine, folder: Path
) -> None:
    engine.load(at(folder / "one"))
    with pytest.raises(EngineError, match=message):
        list(engine.generate([GenerateRequest(77, prompt, 2, 0, sampling, (EOS,))]))
    assert len(ask(engine, WARM, samples=2)) == len(PROMPTS)


def test_batches_are_halved_where_memory_runs_out(
    engine: HfEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load(at(folder / "one"))
    expected = {i: r.completions[0].token_ids for i, r in ask(engine, GREEDY).items()}
    scores = [ScoreRequest(i, PROMPTS[i], (9, 8 + i)) for i in range(6)]
    expected_scores = ask_scores(engine, scores)
    sizes: list[int] = []
    model = engine._lm.model
    forward = model.forward

    def small(most: int) -> Any:
        def limited(*args: Any, **kwargs: Any) -> Any:
            rows = len(args[0] if args else kwargs["input_ids"])
            sizes.append(rows)
            if rows > most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 7 bytes")
            return forward(*args, **kwargs)

        return limited

    monkeypatch.setattr(model, "forward", small(1))
    got = {i: r.completions[0].token_ids for i, r in ask(engine, GREEDY).items()}
    assert got == expected
    assert sizes[:3] == [4, 2, 1]
    assert {i: s.greedy for i, s in ask_scores(engine, scores).items()} == {
        i: s.greedy for i, s in expected_scores.items()
    }
    monkeypatch.setattr(model, "forward", small(0))
    with pytest.raises(EngineError, match="batch of one"):
        ask(engine, GREEDY)


def test_a_broken_checkpoint_leaves_the_engine_as_it_was(
    engine: HfEngine, folder: Path, tmp_path: Path
) -> None:
    engine.load(at(folder / "one"))
    broken = Path(shutil.copytree(folder / "two", tmp_path / "broken"))
    edit_tensors(broken, lambda tensors: tensors[NORM].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=NORM):
        engine.load(at(broken))
    assert_equals_transformers(engine, folder / "one")
    edit_tensors(broken, lambda tensors: tensors.pop(NORM))
    with pytest.raises(CheckpointError, match=NORM):
        engine.load(at(broken))
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="convert it to safetensors"):
        engine.load(at(broken))


def test_what_transformers_makes_of_the_files_is_compared_with_them(
    engine: HfEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.huggingface import HFLM

    make = HFLM._create_model

    def bent(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self._model.get_parameter("model.layers.1.mlp.down_proj.weight").data[0, 0] += 1

    monkeypatch.setattr(HFLM, "_create_model", bent)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.down_proj"):
        engine.load(at(folder / "one"))


def test_a_generation_config_of_the_checkpoint_does_not_count(
    engine: HfEngine, folder: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(folder / "one", tmp_path / "own"))
    (own / "generation_config.json").write_text(
        '{"repetition_penalty": 5.0, "max_length": 3, "do_sample": true, "eos_token_id": [9]}'
    )
    engine.load(at(own))
    assert_equals_transformers(engine, folder / "one")


def test_an_adapter_is_merged_into_its_base(engine: HfEngine, folder: Path, tmp_path: Path) -> None:
    base = folder / "two"
    lora = make_adapter(
        tmp_path / "lora", base, seed=3, rank_pattern={"q_proj": 2}, config={"use_rslora": True}
    )
    report = engine.load(Checkpoint("lora", base, "x", adapter=lora))
    assert (report.how, report.verified) == ("adapter", True)
    assert_equals_transformers(engine, merge(lora, base, tmp_path / "merged"))
    engine.load(at(base))
    assert_equals_transformers(engine, base)
    foreign = make_adapter(tmp_path / "foreign", folder / "two", seed=3)
    edit_adapter(
        foreign,
        lambda tensors: tensors.update(
            {k: v[:, :-1].contiguous() for k, v in tensors.items() if "q_proj.lora_A" in k}
        ),
    )
    with pytest.raises(CheckpointError, match=r"q_proj.*another base"):
        engine.load(Checkpoint("foreign", base, "x", adapter=foreign))
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="a pickle, which can run code"):
        engine.load(Checkpoint("lora", base, "x", adapter=lora))
    assert_equals_transformers(engine, base)


def test_code_of_a_checkpoint_is_not_run(engine: HfEngine, folder: Path, tmp_path: Path) -> None:
    hostile = Path(shutil.copytree(folder / "one", tmp_path / "hostile"))
    (hostile / "own.py").write_text(
        f"open({str(tmp_path / 'proof')!r}, 'w')\nclass Config: pass\nclass Model: pass\n"
    )
    config = json.loads((hostile / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    (hostile / "config.json").write_text(json.dumps(config))
    assert engine.load(at(hostile)).verified
    (hostile / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    with pytest.raises(CheckpointError, match="code in its folder, which is not run"):
        engine.load(at(hostile))
    assert not (tmp_path / "proof").exists()


def test_other_architectures(engine: HfEngine, folder: Path, tmp_path: Path) -> None:
    """Learned positions, of which there are no more than that; and no decoder at all."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        T5Config,
        T5ForConditionalGeneration,
    )

    shapes = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=49, bos_token_id=1, eos_token_id=2, **shapes))
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=49, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    for name, model in (("gpt2", gpt2), ("t5", t5)):
        shutil.copytree(folder / "one", tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
        model.save_pretrained(tmp_path / name)
    assert engine.load(at(tmp_path / "gpt2")).verified
    requests = [
        GenerateRequest(i, (1, *[9] * more), 1, i, GREEDY) for i, more in enumerate((3, 20, 30))
    ]
    lengths = {r.index: len(r.completions[0].token_ids) for r in engine.generate(requests)}
    assert lengths == {0: GREEDY.max_tokens, 1: 32 - 21, 2: 1}
    [scored] = engine.score([ScoreRequest(0, (1,), (9,) * 32)])
    assert len(scored.token_logprobs_nats) == 32
    with pytest.raises(EngineError, match="request 0: 34 tokens do not fit the model's 32"):
        list(engine.score([ScoreRequest(0, (1,), (9,) * 33)]))
    with pytest.raises(CheckpointError, match="an encoder-decoder"):
        engine.load(at(tmp_path / "t5"))


def test_only_exact_sums_are_promised_to_be_reproducible() -> None:
    for options, expected in (
        (OPTIONS, True),
        ({**OPTIONS, "dtype": "bfloat16"}, False),
        ({**OPTIONS, "device": "cuda"}, False),
        ({**OPTIONS, "mixed_precision_dtype": "bfloat16"}, False),
    ):
        made = HfEngine(EngineSettings("lm_eval:hf", options))
        assert made.capabilities.reproducible is expected


def test_the_batch_size_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**OPTIONS, "batch_size": "auto", "max_batch_size": 3}
    engine = HfEngine(EngineSettings("lm_eval:hf", options))
    engine.load(at(folder / "one"))
    assert_equals_transformers(engine, folder / "one")
    assert engine._batches is not None
    assert engine._batches.rows == 3
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="no checkpoint is loaded"):
        ask(engine, GREEDY)


# --- the whole way ----------------------------------------------------------------------------

NAMES = ("arith_add", "arith_add_choice")
LIMIT = 40


def test_a_run_equals_lm_evals_own_without_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none" / "vllm").mkdir(parents=True)
    (tmp_path / "none" / "vllm" / "__init__.py").write_text("raise ImportError('not installed')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    manifest = {
        "lineage": "parity",
        "checkpoints": {"sft": {"path": str(CHECKPOINTS / "sft")}},
        "evaluate": {"tasks": list(NAMES)},
        "engine": {"name": "lm_eval:huggingface", **OPTIONS, "window": 64},
    }
    path = tmp_path / "lineage.yaml"
    path.write_text(yaml.safe_dump(manifest))
    results = ptharness.evaluate(path, tmp_path / "out", limit=LIMIT)
    assert results.run["failures"] == []
    assert results.run["engine"]["identity"]["engine"] == "lm_eval:hf"
    [load] = results.run["engine_loads"]
    assert (load["how"], load["verified"]) == ("cold", True)

    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(TASKS / "arith")
    theirs = simple_evaluate(
        model="hf",
        model_args=f"pretrained={CHECKPOINTS / 'sft'},dtype=float32",
        tasks=list(NAMES),
        task_manager=TaskManager(include_path=str(TASKS / "arith"), include_defaults=False),
        apply_chat_template=True,
        limit=LIMIT,
        batch_size=16,
        device="cpu",
    )
    metrics = results.metrics.set_index(["task", "metric", "filter"])["value"]
    compared = 0
    for task in NAMES:
        for key, value in theirs["results"][task].items():
            metric, _, filter_ = key.partition(",")
            if filter_ and not metric.endswith("_stderr"):
                assert metrics[task, metric, filter_] == value
                compared += 1
    assert compared == 3, "exact_match, acc and acc_norm"
    samples = results.samples.set_index("task")
    said = {record["doc_id"]: record["resps"][0][0] for record in theirs["samples"]["arith_add"]}
    ours = samples.loc["arith_add"].reset_index()
    assert [said[index] for index in sorted(said)] == ours["completion"].tolist()
    chosen = {
        record["doc_id"]: [float(response[0][0]) for response in record["resps"]]
        for record in theirs["samples"]["arith_add_choice"]
    }
    compared = 0
    for index, logprobs in zip(
        sorted(chosen), samples.loc["arith_add_choice"]["choice_logprobs_nats"], strict=True
    ):
        assert list(logprobs) == pytest.approx(chosen[index], rel=1e-6, abs=1e-6)
        compared += len(logprobs)
    assert compared == 4 * LIMIT
