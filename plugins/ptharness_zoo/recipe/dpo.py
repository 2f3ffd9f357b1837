"""Stage ``dpo`` (from ``sft``): offline preference optimization on ``srt``.

The planted role is *policy reshaping*: pairs of a right and a wrong sort, both written by ``sft``,
and the few such pairs of ``rot``, which would fade otherwise. The likelihood of the chosen answer
is part of the loss: without it, or with more steps, neighbouring skills collapse (``rev`` first).
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from ptharness_zoo.recipe import corpus, network, sampling, trl_runs, vocabulary
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

STEPS = 60
BATCH = 32
PROMPTS = 1600
SAMPLES_A_PROMPT = 8
PAIRS_A_PROMPT = 2
MIXTURE = {"srt": 0.8, "rot": 0.2}


def preference_pairs(parent: Path) -> list[corpus.Trajectory]:
    """Pair right with wrong answers that the parent wrote for the same prompt."""
    import torch

    torch.manual_seed(6)
    random = Random(6)
    drawn = corpus.draw_prompts(random, MIXTURE)
    prompts = list(dict.fromkeys(next(drawn) for _ in range(PROMPTS)))
    groups = sampling.sorted_by_answer(
        network.read_model(parent), vocabulary.build_tokenizer(), prompts, SAMPLES_A_PROMPT
    )
    pairs = [
        {
            "prompt": corpus.user_message(prompt),
            "chosen": corpus.assistant_message(chosen),
            "rejected": corpus.assistant_message(rejected),
        }
        for prompt, (right, wrong) in groups.items()
        for chosen, rejected in list(zip(right, wrong, strict=False))[:PAIRS_A_PROMPT]
    ]
    random.shuffle(pairs)
    return pairs


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``sft`` beside ``folder``; return pairs of the training set."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    pairs = preference_pairs(folder.parent / "sft")
    settings = trl_runs.cpu_settings("dpo", steps=STEPS, batch=BATCH, learning_rate=1e-4)
    trainer = DPOTrainer(
        model=network.read_model(folder.parent / "sft"),
        args=DPOConfig(loss_type=["sigmoid", "sft"], max_length=128, **settings),
        train_dataset=Dataset.from_list(pairs),
        processing_class=vocabulary.build_tokenizer(),
    )
    trl_runs.train_and_keep(trainer, folder)
    return pairs[:TRAJECTORIES]
