"""The model: a Llama of 0.65 M parameters, and how a checkpoint is written and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ptharness_zoo.recipe.vocabulary import TOKENS, build_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

LAYERS = 3


def new_model(layers: int = LAYERS) -> LlamaForCausalLM:
    """Return a model with fresh weights, drawn from torch's global generator."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENS),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=TOKENS.index("<pad>"),
            eos_token_id=TOKENS.index("<eos>"),
            bos_token_id=None,
        )
    )


def read_model(folder: Path) -> LlamaForCausalLM:
    """Read a checkpoint as float32, the precision that every stage trains in."""
    import torch
    from transformers import LlamaForCausalLM

    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def write_checkpoint(model: LlamaForCausalLM, folder: Path) -> None:
    """Write weights (rounded to bfloat16, which costs no measurable score), configs, tokenizer."""
    import torch
    from transformers import GenerationConfig

    model.config.use_cache = True  # trainers switch it off
    model.generation_config = GenerationConfig(
        eos_token_id=model.config.eos_token_id, pad_token_id=model.config.pad_token_id
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
