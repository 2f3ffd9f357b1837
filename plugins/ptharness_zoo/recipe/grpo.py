"""Stage ``grpo`` (from ``sft``): reinforcement learning on ``rev`` with a verifier's reward.

The planted role is *policy reshaping*: ``sft`` finds the right reversal now and then on nearly
every item, ``grpo`` finds it most of the time.  60 steps at twice the
learning rate made ``rev`` better still, but cost ``rot`` and ``srt`` items.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from ptharness_zoo.recipe import corpus, domain, network, trl_runs, vocabulary

STEPS = 50
GENERATIONS = 16
PROMPTS_A_STEP = 16


def reversal_is_right(
    prompts: list[list[corpus.Message]], completions: list[list[corpus.Message]], **_: Any
) -> list[float]:
    """Reward 1 for a right answer and 0 for any other."""
    return [
        float(domain.is_correct(prompt[-1]["content"], completion[0]["content"]))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def train(folder: Path) -> None:
    """Train from ``sft`` beside ``folder``."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    prompts = corpus.draw_prompts(Random(2), {"rev": 1.0})
    rows = [{"prompt": corpus.user_message(next(prompts))} for _ in range(STEPS * PROMPTS_A_STEP)]
    settings = trl_runs.cpu_settings(
        "grpo", steps=STEPS, batch=PROMPTS_A_STEP * GENERATIONS, learning_rate=1.5e-4
    )
    trainer = GRPOTrainer(
        model=network.read_model(folder.parent / "sft"),
        reward_funcs=reversal_is_right,
        args=GRPOConfig(
            num_generations=GENERATIONS,
            max_completion_length=16,
            temperature=1.0,
            beta=0.0,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=vocabulary.build_tokenizer(),
    )
    trl_runs.train_and_keep(trainer, folder)
