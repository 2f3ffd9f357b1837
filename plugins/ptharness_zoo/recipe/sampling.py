"""Drawing completions with transformers: the training data of dpo, rejection and student_skd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptharness_zoo.recipe import corpus, domain

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

LONGEST_COMPLETION = 40
BATCH = 1600


def complete(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str]
) -> list[str]:
    """Sample one completion for each prompt at temperature 1 from torch's global generator.

    Prompts are sorted by skill first: a batch is as slow as its longest completion.
    """
    import torch

    model.eval()
    tokenizer.padding_side = "left"
    completions = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    for start in range(0, len(order), BATCH):
        numbers = order[start : start + BATCH]
        encoded = tokenizer.apply_chat_template(
            [corpus.user_message(prompts[number]) for number in numbers],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            output = model.generate(
                **encoded,
                max_new_tokens=LONGEST_COMPLETION,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
            )
        width = encoded["input_ids"].shape[1]
        texts = tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
        for number, text in zip(numbers, texts, strict=True):
            completions[number] = text
    return completions


def sorted_by_answer(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    samples: int,
) -> dict[str, tuple[list[str], list[str]]]:
    """Draw ``samples`` completions of each prompt and part them into right and wrong ones."""
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    groups: dict[str, tuple[list[str], list[str]]] = {prompt: ([], []) for prompt in prompts}
    for prompt, completion in zip(repeated, complete(model, tokenizer, repeated), strict=True):
        right, wrong = groups[prompt]
        (right if domain.is_correct(prompt, completion) else wrong).append(completion)
    return groups
