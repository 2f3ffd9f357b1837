"""The real vLLM against transformers and against itself: swaps, half-loads, streams of samples.

One engine start serves most of this file; tests that spoil or restart it come last.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptharness.engines import preflight, swap
from ptharness.engines import vllm as vllm_engine
from ptharness.engines.base import EngineSettings, GenerateRequest, ScoreRequest
from ptharness.engines.vllm import VllmEngine
from ptharness.errors import CheckpointError, EngineError
from ptharness.protocol import Sampling, cut_at_stop
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
    reference_greedy,
    reference_logprobs,
)
from tests.engines.tiny import SPECIAL, edit_tensors, make_checkpoint

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm")

NORM = "model.norm.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tied checkpoints one, two, chat of one architecture; untied ones, with a bias."""
    folder = tmp_path_factory.mktemp("checkpoints")
    make_checkpoint(folder / "one", seed=1)
    make_checkpoint(folder / "two", seed=2)
    make_checkpoint(folder / "chat", seed=3, eos="<|end|>")
    make_checkpoint(folder / "untied", seed=4, tied=False, bias=True)
    make_checkpoint(folder / "untied-2", seed=5, tied=False, bias=True)
    return folder


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    options = {"dtype": "float32", "window": 8}
    engine = VllmEngine(EngineSettings("vllm", options, needed_tokens=400))
    yield engine
    engine.close()


def test_swaps_equal_transformers(engine: VllmEngine, folder: Path) -> None:
    first = engine.load(at(folder / "one"))
    assert (first.how, first.verified, first.reason) == ("cold", True, "")
    assert_equals_transformers(engine, folder / "one")
    for name in ("two", "chat", "one"):
        report = engine.load(at(folder / name))
        assert (report.how, report.verified, report.reason) == ("swap", True, "")
        assert_equals_transformers(engine, folder / name)


def test_a_greedy_continuation_is_recognised(engine: VllmEngine, folder: Path) -> None:
    engine.load(at(folder / "two"))
    likeliest = ask(engine, GREEDY, stops=(), only=[0])[0].completions[0].token_ids[:5]
    scores = ask_scores(
        engine,
        [
            ScoreRequest(0, PROMPTS[0], likeliest),
            ScoreRequest(1, PROMPTS[0], (*likeliest[:-1], (likeliest[-1] + 1) % 40)),
        ],
    )
    assert [scores[0].greedy, scores[1].greedy] == [True, False]


def test_whole_distributions_equal_transformers(engine: VllmEngine, folder: Path) -> None:
    engine.load(at(folder / "two"))
    assert_distributions_equal_transformers(engine, folder / "two")


def test_scores_of_cached_text_are_whole(engine: VllmEngine, folder: Path) -> None:
    """A block of the continuation itself in the prefix cache has no log-probabilities."""
    engine.load(at(folder / "one"))
    rest = tuple(6 + (i * i) % 40 for i in range(300))
    expected, _ = reference_logprobs(folder / "one", (1,), rest)
    for _ in range(2):
        scored = ask_scores(engine, [ScoreRequest(i, (1,), rest) for i in range(3)])
        for result in scored.values():
            assert result.token_logprobs_nats == pytest.approx(expected, abs=1e-4)


def test_the_last_positions_of_the_context_can_be_used(engine: VllmEngine, folder: Path) -> None:
    """What is planned to fit does: a prompt with room for one token, a text that fills the rest."""
    engine.load(at(folder / "one"))
    assert engine._running is not None
    limit = engine._running.limit
    text = tuple(6 + (i * i) % 40 for i in range(limit - 1))
    request = GenerateRequest(0, text, 1, 0, Sampling(temperature=0.0, max_tokens=1))
    (result,) = engine.generate([request])
    assert len(result.completions[0].token_ids) == 1
    text += (7,)
    assert len(text) == limit - VllmEngine.capabilities.scoring_overhead
    scored = ask_scores(engine, [ScoreRequest(0, text[:1], text[1:])])[0]
    expected, _ = reference_logprobs(folder / "one", text[:1], text[1:])
    assert scored.token_logprobs_nats == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("length", [3, 31, 32, 33, 300])
def test_choices_of_every_length_equal_transformers(
    engine: VllmEngine, folder: Path, length: int
) -> None:
    """Contexts shorter and longer than a block of the cache, choices of one token and of more."""
    engine.load(at(folder / "two"))
    context = (1, *(6 + (i * i + length) % 40 for i in range(length - 1)))
    likeliest = reference_greedy(folder / "two", context, 3)
    choices = [(9,), (9, 11), (9, 11, 12, 13), (20,), (21, 22, 23), likeliest, likeliest[:1], (9,)]
    requests = [ScoreRequest(i, context, choice) for i, choice in enumerate(choices)]
    for _ in range(2):  # the second time much of it is in the cache
        scored = ask_scores(engine, requests)
        assert sorted(scored) == list(range(len(choices)))
        for i, choice in enumerate(choices):
            expected, greedy = reference_logprobs(folder / "two", context, choice)
            assert scored[i].token_logprobs_nats == pytest.approx(expected, abs=1e-4)
            assert scored[i].greedy == greedy
    assert scored[5].greedy
    assert scored[6].greedy


def test_more_choices_than_vllm_reports_of_a_position(engine: VllmEngine, folder: Path) -> None:
    engine.load(at(folder / "one"))
    context = (1, 7, 8)
    tokens = [6 + i % 40 for i in range(300)]
    scored = ask_scores(engine, [ScoreRequest(i, context, (t,)) for i, t in enumerate(tokens)])
    assert sorted(scored) == list(range(300))
    for i in (0, 39, 127, 128, 299):
        expected, greedy = reference_logprobs(folder / "one", context, (tokens[i],))
        assert scored[i].token_logprobs_nats == pytest.approx(expected, abs=1e-4)
        assert scored[i].greedy == greedy


def test_a_swap_brings_its_own_stop_tokens_and_text(engine: VllmEngine, folder: Path) -> None:
    """base -> chat: another end-of-sequence token, and the engine's own is ignored."""
    for name, stop in (("one", EOS), ("chat", END)):
        engine.load(at(folder / name))
        completions = [
            completion
            for result in ask(engine, WARM, samples=8, stops=(stop,)).values()
            for completion in result.completions
        ]
        ended = [c for c in completions if c.finish_reason == "stop"]
        assert ended
        assert all(c.token_ids[-1] == stop and stop not in c.token_ids[:-1] for c in ended)
        cut = [c for c in completions if c.finish_reason == "length"]
        assert all(stop not in c.token_ids and len(c.token_ids) == 16 for c in cut)
        other = END if stop == EOS else EOS
        assert any(other in c.token_ids[:-1] for c in completions), "the other one must not stop"
        assert not any("<" in c.text for c in completions)


def test_stop_strings_are_found_in_the_new_checkpoints_text(
    engine: VllmEngine, folder: Path, tmp_path: Path
) -> None:
    """The same weights with the characters dealt anew: "a" is another token."""
    import json

    dealt = Path(shutil.copytree(folder / "one", tmp_path / "dealt"))
    content = json.loads((dealt / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    plain = [token for token in vocabulary if token not in SPECIAL]
    ids = [vocabulary[token] for token in plain]
    vocabulary.update(zip(plain, reversed(ids), strict=True))
    (dealt / "tokenizer.json").write_text(json.dumps(content))
    until_a = Sampling(temperature=1.0, max_tokens=40, stop=("a", "b"))
    for directory in (folder / "one", dealt):
        engine.load(at(directory))
        completions = [c for r in ask(engine, until_a, samples=8).values() for c in r.completions]
        stopped = [c for c in completions if c.text.endswith(("a", "b"))]
        assert len(stopped) > 10
        for completion in completions:
            assert cut_at_stop(completion.text[:-1], until_a.stop) == completion.text[:-1]
            assert len(completion.token_logprobs_nats) == len(completion.token_ids)
        assert {c.finish_reason for c in stopped} == {"stop"}


def test_samples_depend_on_seed_and_weights_alone(engine: VllmEngine, folder: Path) -> None:
    engine.load(at(folder / "one"))
    together = ask(engine, WARM, samples=4)
    assert ask(engine, WARM, samples=4, only=[3]) == {3: together[3]}
    assert ask(engine, WARM, samples=4, only=[5, 2, 0, 4, 1, 3]) == together
    replicate = ask(engine, WARM, samples=4, root=1)
    assert all(replicate[i].completions != together[i].completions for i in together)
    assert len({c.token_ids for r in together.values() for c in r.completions}) > 20
    engine.load(at(folder / "two"))
    assert ask(engine, WARM, samples=4) != together
    engine.load(at(folder / "one"))
    assert ask(engine, WARM, samples=4) == together


def test_greedy_samples_are_repeated(engine: VllmEngine, folder: Path) -> None:
    engine.load(at(folder / "one"))
    (result,) = ask(engine, GREEDY, samples=3, only=[0]).values()
    assert len(result.completions) == 3
    assert len(set(result.completions)) == 1


def test_requests_are_pulled_lazily_and_early_close_leaves_nothing(
    engine: VllmEngine, folder: Path
) -> None:
    engine.load(at(folder / "one"))
    expected = ask(engine, WARM, samples=4)
    pulled = 0

    def endless() -> Iterator[GenerateRequest]:
        nonlocal pulled
        while True:
            pulled += 1
            yield GenerateRequest(pulled, PROMPTS[pulled % 6], 4, pulled, WARM, (EOS,))

    results = engine.generate(endless())
    for _ in range(20):
        next(results)
    assert 20 < pulled <= 20 + 2 * engine.capabilities.window
    with pytest.raises(EngineError, match="in flight"):
        engine.load(at(folder / "two"))
    results.close()  # type: ignore[attr-defined]
    assert ask(engine, WARM, samples=4) == expected
    assert engine.load(at(folder / "two")).how == "swap"


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        ((9,) * 600, WARM, "request 77: a prompt of 600 tokens"),
        ((), WARM, "request 77: the prompt is empty"),
        ((1, 4000), WARM, "request 77: token 4000"),
        ((1, 2), Sampling(temperature=5.0), "request 77: temperature 5.0"),
        ((1, 2), Sampling(temperature=1.0, top_p=7.0), "request 77: .*top_p"),
    ],
)
def test_a_request_that_can_not_be_served_is_named(
    prompt: tuple[int, ...], sampling: Sampling, message: str, engine: VllmEngine, folder: Path
) -> None:
    engine.load(at(folder / "one"))
    expected = ask(engine, WARM, samples=2)
    requests = [GenerateRequest(i, PROMPTS[i], 2, i, WARM, (EOS,)) for i in range(3)]
    requests.append(GenerateRequest(77, prompt, 2, 0, sampling, (EOS,)))
    with pytest.raises(EngineError, match=message):
        list(engine.generate(requests))
    assert ask(engine, WARM, samples=2) == expected


def test_a_broken_checkpoint_leaves_the_engine_as_it_was(
    engine: VllmEngine, folder: Path, tmp_path: Path
) -> None:
    """Every kind of fault (test_preflight.py has them all) is found before the swap."""
    engine.load(at(folder / "one"))
    broken = Path(shutil.copytree(folder / "two", tmp_path / "broken"))
    edit_tensors(broken, lambda tensors: tensors[NORM].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=NORM):
        engine.load(at(broken))
    assert_equals_transformers(engine, folder / "one")
    report = engine.load(at(folder / "two"))
    assert (report.how, report.verified, report.reason) == ("swap", True, "")
    assert_equals_transformers(engine, folder / "two")


def test_new_weights_under_an_old_path_are_read(
    engine: VllmEngine, folder: Path, tmp_path: Path
) -> None:
    moving = Path(shutil.copytree(folder / "one", tmp_path / "moving"))
    engine.load(at(moving))
    shutil.copy(folder / "two" / "model.safetensors", moving / "model.safetensors")
    assert engine.load(at(moving)).how == "swap"
    assert_equals_transformers(engine, folder / "two")


# From here on the engine is restarted.


def test_a_stale_head_is_caught_and_cured_by_a_fresh_start(
    engine: VllmEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What vLLM alone does on a CPU: the packed copy of a tied head stays the old one."""
    engine.load(at(folder / "one"))
    monkeypatch.setattr(vllm_engine, "_repack_head", lambda model: None)
    report = engine.load(at(folder / "two"))
    assert (report.how, report.verified) == ("cold", True)
    assert report.reason.startswith("the swap could not be verified: lm_head: computes with other")
    assert_equals_transformers(engine, folder / "two")


def test_a_half_load_past_the_first_checks_is_caught(
    engine: VllmEngine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the checks of names and shapes switched off, the load itself is found out."""
    query = "model.layers.1.self_attn.q_proj.weight"
    missing = Path(shutil.copytree(folder / "two", tmp_path / "missing"))
    edit_tensors(missing, lambda tensors: tensors.pop(query))
    bent = Path(shutil.copytree(folder / "two", tmp_path / "bent"))
    edit_tensors(bent, lambda t: t.update({query: t[query][:, :-8].contiguous()}))
    engine.load(at(folder / "one"))
    with monkeypatch.context() as patch:
        patch.setattr(swap, "check_same_tensors", lambda *_: None)
        for directory in (missing, bent):
            with pytest.raises(CheckpointError, match=query):
                engine.load(at(directory))
        patch.setattr(preflight, "check_complete", lambda *_: None)
        with pytest.raises(CheckpointError, match=query):
            engine.load(at(missing))
    report = engine.load(at(folder / "one"))
    assert (report.how, report.verified) == ("cold", True)
    assert_equals_transformers(engine, folder / "one")


def test_another_architecture_and_dtype_start_afresh_and_memory_comes_back(
    engine: VllmEngine, folder: Path
) -> None:
    sizes = []
    for name in ("untied", "one", "untied", "one", "untied", "one"):
        report = engine.load(at(folder / name))
        assert (report.how, report.verified) == ("cold", True)
        sizes.append(_resident_bytes())
    assert "another architecture" in report.reason
    assert max(sizes[2:]) - sizes[1] < 60e6, sizes
    engine.load(at(folder / "untied"))
    assert_equals_transformers(engine, folder / "untied")
    assert engine.load(at(folder / "untied-2")).how == "swap"
    assert_equals_transformers(engine, folder / "untied-2")


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
