"""The tokenizer: one token per character, 52 in all, and the chat template of every checkpoint."""

from __future__ import annotations

from string import ascii_lowercase, digits
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<user>", "<bot>", "<eos>")
CHARACTERS = ascii_lowercase + digits + " \n+*=:,.->|"
TOKENS = (*SPECIAL, *CHARACTERS)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<bot>' + message['content'] + '<eos>' -}}"
    "{%- elif message['role'] == 'system' -%}"
    "{{- message['content'] -}}"
    "{%- else -%}"
    "{{- '<user>' + message['content'] -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<bot>' -}}{%- endif -%}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer: byte-pair encoding without a single merge is one token per character."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    numbers = {token: number for number, token in enumerate(TOKENS)}
    characters = Tokenizer(models.BPE(vocab=numbers, merges=[], unk_token="<unk>"))
    characters.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=characters,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<bot>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
