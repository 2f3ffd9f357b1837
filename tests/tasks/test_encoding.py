"""Token ids equal those of lm-eval's `hf` model, for tokenizers with and without BOS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ptharness.errors import TaskError
from ptharness.prompts import Template
from ptharness.tasks.encoding import PromptEncoder, chat_renderer
from ptharness.tokenizer import load_tokenizer
from tests.tasks.reference import CHECKPOINT, recording_model

STRICT_TEMPLATE = """\
{%- for m in messages -%}{%- if m['role'] == 'system' -%}{{ raise_exception('no system') }}
{%- endif -%}[{{ m['role'] }}]{{ m['content'] }}{%- endfor -%}
{%- if add_generation_prompt -%}[assistant]{%- endif -%}"""


def make_checkpoint(folder: Path, *, bos: bool) -> Path:
    """A random Llama of a few thousand weights with a word-piece tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special)
    text = ["the cat sat on the mat", "a dog and a cat ran to the mat and sat"] * 5
    tokenizer.train_from_iterator(text, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="</s>",
        **({"bos_token": "<s>"} if bos else {}),
    )
    wrapped.chat_template = STRICT_TEMPLATE
    wrapped.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["bos", "no-bos"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"), bos=request.param)


PROMPTS = ["the cat", " a dog ran ", "<s>the mat", "</s>the mat", "café \n", "x"]
PAIRS = [
    ("the cat", " sat"),
    ("the cat ", "sat"),
    ("the cat \n ", "sat on"),
    ("the c", "at sat on the mat"),
    ("<s>the cat", " sat"),
    ("</s>the", " mat"),
    ("", "the mat"),
    ("", " sat"),
    ("", "<s>the mat"),
    ("", "</s>the mat"),
]


def test_ids_equal_the_hf_models(checkpoint: Path) -> None:
    from lm_eval.api.instance import Instance

    model = recording_model(checkpoint)
    encoder = PromptEncoder(load_tokenizer(checkpoint))
    for prompt in PROMPTS:
        model.seen.clear()
        request = Instance("", {}, (prompt, {"until": [], "max_gen_toks": 1}), 0)
        model.generate_until([request], disable_tqdm=True)
        assert [tuple(encoder.prompts([prompt]))] == model.seen, prompt
    model.seen.clear()
    model.loglikelihood([Instance("", {}, pair, 0) for pair in PAIRS], disable_tqdm=True)
    assert encoder.pairs(PAIRS) == model.seen
    assert encoder.pairs(list(reversed(PAIRS))) == model.seen[::-1]


def test_whole_texts_equal_the_hf_models_rolling_requests(checkpoint: Path) -> None:
    from lm_eval.api.instance import Instance

    model = recording_model(checkpoint)
    encoder = PromptEncoder(load_tokenizer(checkpoint))
    for text in (*PROMPTS, "the cat sat on the mat " * 3, ""):
        model.seen.clear()
        request = Instance("loglikelihood_rolling", {}, (text,), 0)
        (total,) = model.loglikelihood_rolling([request], disable_tqdm=True)
        ((prefix, ids),) = encoder.whole([text])
        assert [(prefix, ids)] == (model.seen or [(prefix, [])]), text
        assert (total == 0) is not bool(ids), "a text without a token has a log-likelihood of 0"


def test_bos_is_never_doubled(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    encoder = PromptEncoder(tokenizer)
    prefix = encoder.prefix_token_id()
    text = tokenizer.decode(prefix) + "the cat"
    ((context, _),) = encoder.pairs([(text, " sat")])
    for ids in (encoder.prompts([text])[0], context):
        assert ids.count(prefix) == 1
        assert ids[0] == prefix


def test_an_empty_prompt_becomes_the_prefix_token(checkpoint: Path) -> None:
    encoder = PromptEncoder(load_tokenizer(checkpoint))
    assert encoder.prompts([""]) == [[encoder.prefix_token_id()]]


def test_a_continuation_without_tokens_is_named() -> None:
    encoder = PromptEncoder(load_tokenizer(CHECKPOINT))
    with pytest.raises(TaskError, match=r"the continuation '' after \.\.\.'rev abcd'"):
        encoder.pairs([("rev abcd", "")])


def test_a_template_that_refuses_the_system_role_is_tried_without(checkpoint: Path) -> None:
    model = recording_model(checkpoint)
    render = chat_renderer(load_tokenizer(checkpoint), Template("auto"))
    assert render is not None
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert render(messages) == model.apply_chat_template(messages) == "[user]u[assistant]"
    prefilled = [*messages, {"role": "assistant", "content": "so"}]
    ours = render(prefilled, add_generation_prompt=False)
    assert ours == model.apply_chat_template(prefilled, add_generation_prompt=False)


def test_template_choice() -> None:
    tokenizer = load_tokenizer(CHECKPOINT)
    messages = [{"role": "user", "content": "u"}]
    assert chat_renderer(tokenizer, Template("none")) is None
    auto = chat_renderer(tokenizer, Template("auto"))
    given = chat_renderer(tokenizer, Template("Q: {{ messages[0].content }}"))
    assert auto is not None
    assert given is not None
    assert auto(messages) == "<user>u<bot>"
    assert given(messages) == "Q: u"
    assert auto(messages) == "<user>u<bot>"
    tokenizer.chat_template = None
    assert chat_renderer(tokenizer, Template("auto")) is None


def test_tokenizer_without_special_tokens_is_named(tmp_path: Path) -> None:
    class Bare:
        bos_token_id = eos_token_id = None

    encoder: Any = PromptEncoder(Bare())
    with pytest.raises(TaskError, match="neither bos_token nor eos_token"):
        encoder.prefix_token_id()


def test_checkpoint_fixture_adds_bos_only_where_asked(checkpoint: Path) -> None:
    tokenizer = load_tokenizer(checkpoint)
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    adds = tokenizer("the cat")["input_ids"][0] == tokenizer.bos_token_id
    assert adds is (config.get("bos_token") is not None)


def test_a_continuation_has_the_tokens_that_it_has_after_its_prompt() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "a", "b", "\u2581", "\u2581b", ":"]
    core = Tokenizer(
        models.BPE({word: i for i, word in enumerate(words)}, [("\u2581", "b")], unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    encoder = PromptEncoder(tokenizer)

    def tokens_after(prompt: str, text: str) -> list[str]:
        (before,) = encoder.prompts([prompt])
        (ids,) = encoder.continuations([(prompt, before, text)])
        found: list[str] = tokenizer.convert_ids_to_tokens(ids)
        return found

    alone = tokenizer("b", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(alone) == ["\u2581b"], "as the first word of a text"
    assert tokens_after("a:", "b") == ["b"]
    assert tokens_after("a:", " b") == ["\u2581b"]
    # The prompt's last token would be another: the prompt stays as it was asked.
    assert tokens_after("a: ", "b") == ["\u2581b"]
