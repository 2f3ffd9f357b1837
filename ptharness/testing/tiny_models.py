"""Tiny random Llama checkpoints with a character tokenizer, for tests of engines.

They are whole: `transformers` and vLLM load them in a fraction of a second. Writing one needs
torch and `transformers`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHARACTERS = "0123456789+-*= abcdefghijklmnopqrstuvwxyz\n"
"""One token each, after the special ones."""

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<|user|>", "<|end|>")
"""The first tokens; `<eos>` has number 2."""


def write_tokenizer(directory: Path, *, eos: str = "<eos>") -> None:
    """Write a tokenizer of single characters; `eos` names its end-of-sequence token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *CHARACTERS))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(list(SPECIAL))
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token=eos,
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(directory)


def write_model(
    directory: Path,
    *,
    seed: int,
    tied: bool = True,
    layers: int = 2,
    bias: bool = False,
    eos: str = "<eos>",
    dtype: str = "float32",
    scale: float = 0.3,
) -> Path:
    """Write a random Llama of about 50,000 parameters, and return its folder.

    Another `seed` gives other weights; `scale` spreads the logits.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = len(SPECIAL) + len(CHARACTERS)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        attention_bias=bias,
        bos_token_id=1,
        eos_token_id=SPECIAL.index(eos),
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.copy_(torch.randn_like(parameter) * scale)
    model.to(getattr(torch, dtype)).save_pretrained(directory)
    write_tokenizer(directory, eos=eos)
    return directory


def write_adapter(directory: Path, base: Path, *, seed: int, rank: int = 4) -> Path:
    """Write a random LoRA adapter on a checkpoint of `write_model`, in PEFT's format.

    Both factors are random, so that it changes something. Returns its folder.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    with safe_open(base / "model.safetensors", framework="pt") as handle:
        for name in sorted(handle.keys()):
            if not name.endswith("_proj.weight"):
                continue
            outputs, inputs = handle.get_slice(name).get_shape()
            for factor, size in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
                key = f"base_model.model.{name.removesuffix('.weight')}.{factor}.weight"
                tensors[key] = torch.randn(size, generator=generator) * 0.2
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
        "bias": "none",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def edit_tensors(directory: Path, edit: Any) -> None:
    """Rewrite model.safetensors after `edit(tensors)` changed the dict of tensors in place."""
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
