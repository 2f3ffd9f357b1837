"""Rows -> tensors for the stages that compute a supervised loss themselves."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ptharness_zoo.recipe import vocabulary

if TYPE_CHECKING:
    import torch

    from ptharness_zoo.recipe.corpus import Row

_tokenizer = cache(vocabulary.build_tokenizer)


def supervised_batch(rows: list[Row]) -> dict[str, torch.Tensor]:
    """Encode rows; labels of -100 keep prompts and padding out of the loss.

    Padding stands on the right, where causal attention lets no earlier token see it.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    inputs, labels = [], []
    for row in rows:
        prompt = f"<user>{row['prompt'][0]['content']}<bot>"
        encoded = _tokenizer()(f"{prompt}{row['completion'][0]['content']}<eos>")["input_ids"]
        length = len(_tokenizer()(prompt)["input_ids"])
        inputs.append(torch.tensor(encoded))
        labels.append(torch.tensor([-100] * length + encoded[length:]))
    return {
        "input_ids": pad_sequence(inputs, batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
    }
