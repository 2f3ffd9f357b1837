"""Other model classes of lm-eval, by text; and which options every class takes."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptharness.engines import lm_eval, lm_eval_names, lm_eval_options
from ptharness.engines.base import Engine, EngineSettings, GenerateRequest, ScoreRequest
from ptharness.engines.lm_eval_hf import HfEngine
from ptharness.engines.lm_eval_names import APIS, UNSERVED, ModelClass
from ptharness.engines.lm_eval_text import TextEngine
from ptharness.errors import CheckpointError, EngineError, PtharnessError
from ptharness.lineage import Checkpoint
from ptharness.plugins import load_plugins
from ptharness.protocol import Sampling
from tests.engines.asking import EOS, GREEDY, PROMPTS, WARM, ask, ask_scores, at
from tests.engines.tiny import SPECIAL, make_checkpoint

pytest.importorskip("lm_eval")
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "one", seed=1)


def engine(toy: str, **options: Any) -> Engine:
    known = ModelClass(toy.lower(), (), f"tests.engines.toy_models:{toy}")
    made = type(toy, (TextEngine,), {"name": known.engine, "model_class": known})
    result: Engine = made(EngineSettings(known.engine, options))
    return result


@pytest.fixture
def asked() -> list[Any]:
    from tests.engines.toy_models import ASKED

    ASKED.clear()
    return ASKED


def text_of(token_ids: tuple[int, ...]) -> str:
    from tests.engines.tiny import CHARACTERS

    return "".join((*SPECIAL, *CHARACTERS)[token] for token in token_ids)


def test_a_prompt_is_asked_as_its_text(folder: Path, asked: list[Any]) -> None:
    spelling = engine("Spelling", window=4, batch_size=2)
    report = spelling.load(at(folder))
    assert (report.how, report.verified) == ("cold", False)
    stop = Sampling(temperature=0.0, max_tokens=5, stop=("q",))
    answers = ask(spelling, stop, samples=2)
    assert sorted(answers) == list(range(len(PROMPTS)))
    for index, result in answers.items():
        prompt = text_of(PROMPTS[index])
        assert [c.text for c in result.completions] == [prompt[-4:][::-1]] * 2
        assert result.completions[0].finish_reason == "unknown"
        assert result.completions[0].token_ids == ()
    arguments = {"until": ["q", "<eos>"], "max_gen_toks": 5, "do_sample": False, "temperature": 0.0}
    assert asked == [(text_of(prompt), arguments) for prompt in PROMPTS]
    asked.clear()
    scores = ask_scores(spelling, [ScoreRequest(i, PROMPTS[0], (21, 22)) for i in range(2)])
    assert asked == [(text_of(PROMPTS[0]), "ab")] * 2
    assert [(s.token_logprobs_nats, s.greedy) for s in scores.values()] == [((-2.0,), True)] * 2


def test_a_class_that_takes_tokens_is_scored_by_tokens(folder: Path, asked: list[Any]) -> None:
    counting = engine("Counting")
    counting.load(at(folder))
    [scored] = ask_scores(counting, [ScoreRequest(0, (1, 9), (3, 9, 9))]).values()
    assert asked == [(("", ""), [1, 9], [3, 9, 9])]
    assert scored.token_logprobs_nats == (-6.0,)


def test_samples_are_drawn_anew_and_again(folder: Path) -> None:
    counting = engine("Counting", window=8)
    counting.load(at(folder))
    first = ask(counting, WARM, samples=3)
    assert len({c.text for r in first.values() for c in r.completions}) == 3 * len(PROMPTS)
    assert ask(counting, WARM, samples=3) == first
    assert ask(counting, WARM, samples=3, root=1) != first


def test_code_of_a_checkpoint_is_never_trusted(folder: Path, tmp_path: Path) -> None:
    counting: Any = engine("Counting", tp_size=1)
    counting.load(at(folder))
    assert counting._lm.trusts is False
    assert counting._lm.others == {"tp_size": 1}
    pickled = Path(shutil.copytree(folder, tmp_path / "pickled"))
    (pickled / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: pickled weights"):
        counting.load(at(pickled))
    with pytest.raises(CheckpointError, match="does not serve adapters"):
        counting.load(Checkpoint("lora", folder, "x", adapter=folder))
    assert len(ask(counting, GREEDY)) == len(PROMPTS)


def test_text_that_would_be_other_tokens_is_refused(folder: Path, tmp_path: Path) -> None:
    lossy = Path(shutil.copytree(folder, tmp_path / "lossy"))
    content = json.loads((lossy / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}
    (lossy / "tokenizer.json").write_text(json.dumps(content))
    spelling = engine("Spelling")
    spelling.load(at(lossy))
    first = 21  # an "a"
    with pytest.raises(EngineError, match=r"request 7: .* takes text, and '<bos>a' is encoded as"):
        list(spelling.generate([GenerateRequest(7, (1, first), 1, 0, GREEDY)]))
    assert list(spelling.generate([GenerateRequest(7, (1, first + 1), 1, 0, GREEDY)]))


def test_failures_are_named(folder: Path) -> None:
    with pytest.raises(EngineError, match="no parameter `pretrained`"):
        engine("Nameless").load(at(folder))
    failing = engine("Failing")
    failing.load(at(folder))
    with pytest.raises(EngineError, match=r"out of memory.*engine\.batch_size"):
        ask(failing, GREEDY, stops=(EOS,))
    with pytest.raises(EngineError, match=r"engine\.tp_size: not an option of lm_eval:spelling"):
        engine("Spelling", tp_size=2).load(at(folder))
    with pytest.raises(EngineError, match="no checkpoint is loaded"):
        ask(engine("Spelling"), GREEDY)


# --- names and options ------------------------------------------------------------------------


def test_every_model_class_of_lm_eval_is_registered() -> None:
    from lm_eval.models import MODEL_MAPPING

    engines = load_plugins().registry(["engines"]).engines
    for name in MODEL_MAPPING:
        made = engines.get(f"lm_eval:{name}")
        assert pickle.loads(pickle.dumps(made)) is made
    assert engines.get("lm_eval:huggingface") is HfEngine
    with pytest.raises(PtharnessError, match="did you mean 'lm_eval:local-completions'"):
        engines.get("lm_eval:local-completion")
    assert len(lm_eval_names.other_classes()) > 20
    assert {c.name for c in lm_eval_names.other_classes()} >= {*UNSERVED, *APIS}


def test_listing_and_identity_import_no_lm_eval() -> None:
    code = (
        "import sys\n"
        "from ptharness.engines.base import EngineSettings\n"
        "from ptharness.plugins import load_plugins\n"
        "engines = load_plugins().registry(['engines']).engines\n"
        "for name in ('hf', 'vllm', 'sglang', 'local-completions'):\n"
        "    made = engines.get(f'lm_eval:{name}')\n"
        "    print(dict(made.identity(EngineSettings(made.name, {'dtype': 'float32'}))))\n"
        "assert not {'lm_eval', 'torch', 'transformers', 'vllm'} & set(sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("'dtype': 'float32'") == 4


@pytest.mark.parametrize("name", UNSERVED)
def test_a_class_that_can_not_be_an_engine_says_why(name: str) -> None:
    made = lm_eval.engine_class(name)
    with pytest.raises(EngineError, match=f"lm_eval:{name} is not served: "):
        made.check_options({})


@pytest.mark.parametrize("name", ["hf", "sglang", "local-completions"])
@pytest.mark.parametrize(
    "option",
    [
        "trust_remote_code", "pretrained", "tokenizer", "peft", "delta", "revision", "subfolder",
        "gguf_file", "autogptq", "load_format", "backend", "steer_path", "seed", "temperature",
        "add_bos_token", "truncation", "think_end_token", "chat_template_args", "auth_token",
        "load_in_4bit", "use_safetensors", "tp_plan", "offload_folder",
    ],
)  # fmt: skip
def test_refused_with_a_reason(name: str, option: str) -> None:
    made: type[Engine] = HfEngine if name == "hf" else lm_eval.engine_class(name)
    with pytest.raises(EngineError, match=rf"engine\.{option}: refused: \w+"):
        made.check_options({option: True})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtyp": "float32"}, "did you mean 'dtype'"),
        ({"dtype": "float64"}, "legal: auto, float32, bfloat16, float16"),
        ({"batch_size": "many"}, "not a value of type int, and not auto"),
        ({"batch_size": 0}, "the least is 1"),
        ({"batch_size": True}, "not a value of type int"),
        ({"device": "tpu"}, "legal: cpu, cuda"),
        ({"attn_implementation": "kernels-community/x"}, "legal: eager, sdpa"),
        ({"parallelize": 1}, "not a value of type bool"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        HfEngine.check_options(options)


def test_usual_options_pass() -> None:
    HfEngine.check_options({"dtype": "bfloat16", "batch_size": "auto:4", "device": "cuda:1"})
    made = lm_eval.engine_class("local-completions")
    made.check_options({"base_url": "http://x/v1/completions", "model": "served-{name}"})
    with pytest.raises(EngineError, match="base_url is missing"):
        made.check_options({})
    with pytest.raises(EngineError, match="'mine' would answer for every checkpoint"):
        made.check_options({"base_url": "http://x/v1/completions", "model": "mine"})


def test_every_allowed_option_is_lm_evals() -> None:
    from lm_eval.models.api_models import TemplateAPI
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    from ptharness.engines.lm_eval_class import parameters

    ours = {*lm_eval_options.OURS, "attn_implementation"}
    assert set(lm_eval_options.HF_ALLOWED) - ours <= parameters(HFLM)
    known = parameters(LocalCompletionsAPI)
    assert known >= parameters(TemplateAPI)
    assert set(lm_eval_options.API_ALLOWED) - ours <= known
    for allowed in (
        lm_eval_options.HF_ALLOWED,
        lm_eval_options.API_ALLOWED,
        lm_eval_options.TEXT_ALLOWED,
    ):
        assert not set(allowed) & set(lm_eval_options.REFUSED)
    unnamed = parameters(HFLM) - set(lm_eval_options.HF_ALLOWED) - set(lm_eval_options.REFUSED)
    assert unnamed == set(), "every parameter of hf is allowed, or refused with a reason"


def test_only_what_changes_results_is_part_of_the_identity() -> None:
    plain = HfEngine.identity(EngineSettings("lm_eval:hf", {}, needed_tokens=100))
    assert plain["engine"] == "lm_eval:hf"
    assert plain["dtype"] == "auto"
    faster = {"batch_size": 64, "window": 9, "attn_implementation": "eager", "parallelize": True}
    assert HfEngine.identity(EngineSettings("lm_eval:huggingface", faster)) == plain
    for option in ({"dtype": "bfloat16"}, {"max_length": 64}, {"softmax_dtype": "float32"}):
        assert HfEngine.identity(EngineSettings("lm_eval:hf", option)) != plain
    made = lm_eval.engine_class("local-completions")
    here, there = (
        made.identity(EngineSettings(made.name, {"base_url": url, "timeout": 5, "window": 3}))
        for url in ("http://a", "http://b")
    )
    assert here != there
    assert "timeout" not in here
    assert HfEngine.token_limit(EngineSettings("lm_eval:hf", {"max_length": 64})) == 64
    assert HfEngine.token_limit(EngineSettings("lm_eval:hf", {})) is None
