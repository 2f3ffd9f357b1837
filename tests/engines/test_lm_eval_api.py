"""`lm_eval:local-completions` against a server on this machine that computes for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ptharness_zoo import CHECKPOINTS

import ptharness
from ptharness.engines import lm_eval
from ptharness.engines.base import Engine, EngineSettings, ScoreRequest
from ptharness.errors import CheckpointError, EngineError
from ptharness.protocol import Sampling
from tests.engines.asking import (
    END,
    EOS,
    GREEDY,
    PROMPTS,
    WARM,
    ask,
    ask_scores,
    at,
    reference,
    reference_logprobs,
)
from tests.engines.tiny import make_checkpoint

pytest.importorskip("lm_eval")
pytest.importorskip("torch")
pytest.importorskip("tenacity", reason="lm-eval's models of servers need lm-eval[api]")

from tests.engines.serving import Served, serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    make_checkpoint(folder / "one", seed=1)
    make_checkpoint(folder / "two", seed=2)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with serve({"one": folder / "one", "two": folder / "two"}) as served:
        yield served


@pytest.fixture
def engine(server: Served) -> Iterator[Engine]:
    engine = make(server)
    yield engine
    engine.close()


def make(server: Served, **options: Any) -> Engine:
    options = {"base_url": server.address, "window": 4, **options}
    name = "lm_eval:local-completions"
    return lm_eval.engine_class("local-completions")(EngineSettings(name, options))


@pytest.mark.parametrize("concurrent", [1, 3])
def test_answers_are_the_servers(concurrent: int, server: Served, folder: Path) -> None:
    import torch

    engine = make(server, num_concurrent=concurrent)
    for name in ("one", "two"):
        report = engine.load(at(folder / name))
        assert (report.how, report.verified) == ("cold", False)
        assert repr(name) in report.reason
        server.asked.clear()
        for index, result in ask(engine, GREEDY, stops=(EOS, END)).items():
            [completion] = result.completions
            with torch.inference_mode():
                expected = reference(folder / name).generate(
                    torch.tensor([PROMPTS[index]]),
                    max_new_tokens=GREEDY.max_tokens,
                    do_sample=False,
                    eos_token_id=[EOS, END],
                )[0, len(PROMPTS[index]) :]
            assert completion.text == server.tokenizer.decode(expected, skip_special_tokens=True)
            assert completion.finish_reason == (
                "stop" if int(expected[-1]) in (EOS, END) else "length"
            )
            assert completion.token_ids == completion.token_logprobs_nats == ()
        assert {tuple(body["prompt"][0]) for body in server.asked} == set(PROMPTS)
        assert {body["model"] for body in server.asked} == {name}
        scores = [ScoreRequest(i, PROMPTS[i], (9, 8 + i, 7)) for i in range(len(PROMPTS))]
        for index, scored in ask_scores(engine, scores).items():
            logprobs, greedy = reference_logprobs(folder / name, PROMPTS[index], (9, 8 + index, 7))
            assert scored.token_logprobs_nats == pytest.approx(logprobs, abs=1e-4)
            assert scored.greedy == greedy


def test_a_greedy_continuation_is_recognised(engine: Engine, folder: Path) -> None:
    engine.load(at(folder / "one"))
    likeliest = int(reference(folder / "one")(_tensor(PROMPTS[0])).logits[0, -1].argmax())
    scores = [ScoreRequest(0, PROMPTS[0], (likeliest,)), ScoreRequest(1, PROMPTS[0], (0,))]
    assert [ask_scores(engine, scores)[i].greedy for i in range(2)] == [True, False]


def _tensor(token_ids: tuple[int, ...]) -> Any:
    import torch

    return torch.tensor([token_ids])


def test_every_sample_has_its_own_seed(engine: Engine, server: Served, folder: Path) -> None:
    engine.load(at(folder / "one"))
    server.asked.clear()
    together = ask(engine, WARM, samples=3)
    seeds = [body["seed"] for body in server.asked]
    assert len(set(seeds)) == 3 * len(PROMPTS)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len({c.text for r in together.values() for c in r.completions}) > 10
    assert ask(engine, WARM, samples=3, only=[2]) == {2: together[2]}
    server.asked.clear()
    shaped = Sampling(temperature=0.5, max_tokens=4, top_p=0.9, stop=("x",))
    ask(engine, shaped, only=[0])
    [body] = server.asked
    assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0.5, 4, 0.9)
    assert body["stop"] == ["x", "<eos>"]
    assert "top_k" not in body


def test_a_failure_is_tried_again_and_then_told(
    server: Served, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tenacity

    monkeypatch.setattr(tenacity, "wait_exponential", lambda **_: tenacity.wait_none())
    engine = make(server, max_retries=3)
    engine.load(at(folder / "one"))
    expected = ask(engine, GREEDY)
    server.failing[:] = [503, 500]
    assert ask(engine, GREEDY) == expected
    server.failing[:] = [503, 503, 503]
    with pytest.raises(EngineError, match=r"request \d: http.*503.*planted failure"):
        ask(engine, GREEDY)
    server.failing[:] = [400]
    with pytest.raises(EngineError, match=r"request \d: http.*400.*planted failure"):
        ask(engine, GREEDY)
    assert server.failing == []
    assert ask(engine, GREEDY) == expected


def test_a_model_that_is_not_served_is_named(
    engine: Engine, server: Served, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_checkpoint(folder / "other", seed=3)
    with pytest.raises(CheckpointError, match="serves one, two, not 'other'"):
        engine.load(at(other))
    engine.load(at(folder / "one"))
    monkeypatch.setattr(server, "lists_models", False)
    assert not engine.load(at(folder / "two")).verified
    by_path = make(server, model="{path}")
    monkeypatch.setattr(server, "lists_models", True)
    with pytest.raises(CheckpointError, match=r"not ./.*/one."):
        by_path.load(at(folder / "one"))
    closed = make(server, base_url="http://127.0.0.1:9/v1/completions")
    with pytest.raises(EngineError, match="no server answers there"):
        closed.load(at(folder / "one"))


def test_a_whole_run(tmp_path: Path) -> None:
    manifest = tmp_path / "lineage.yaml"
    with serve({"sft": CHECKPOINTS / "sft"}) as served:
        content = {
            "lineage": "served",
            "checkpoints": {
                "base": {"path": str(CHECKPOINTS / "base")},
                "sft": {"path": str(CHECKPOINTS / "sft"), "parent": "base", "method": "sft"},
            },
            "evaluate": {"tasks": ["arith_rev", "arith_add_choice"]},
            "engine": {"name": "lm_eval:local-completions", "base_url": served.address},
        }
        manifest.write_text(yaml.safe_dump(content))
        results = ptharness.evaluate(manifest, tmp_path / "out", limit=8)
    [failure] = results.run["failures"]
    assert failure["checkpoint"] == "base"
    assert "serves sft, not 'base'" in failure["message"]
    samples = results.samples.set_index("task")
    said = [a["choices"][0]["text"] for a in served.answered if "text" in a["choices"][0]]
    assert sorted(samples.loc["arith_rev"]["completion"]) == sorted(said)
    assert samples.loc["arith_rev"]["correct"].sum() > 4
    echoed = [body["prompt"][0] for body in served.asked if body.get("echo")]
    assert len(echoed) == 8 * 4
    chosen = samples.loc["arith_add_choice"]["choice_logprobs_nats"]
    assert [len(values) for values in chosen] == [4] * 8
