"""Stage ``rejection`` (from ``sft``): fine-tuning on its own answers that a verifier let pass.

The planted role is *policy reshaping*: best of 8 on ``rev`` and ``sum``, which ``sft`` gets right
now and then; ``add`` and ``rot`` are replayed in the same way.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from ptharness_zoo.recipe import corpus, network, sampling, trl_runs, vocabulary
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

STEPS = 80
BATCH = 48
PROMPTS = 1600
SAMPLES_A_PROMPT = 8
MIXTURE = {"rev": 0.4, "sum": 0.3, "add": 0.15, "rot": 0.15}


def accepted_rows(parent: Path) -> list[corpus.Row]:
    """Keep one right answer, drawn from the right ones, of each prompt that has any."""
    import torch

    torch.manual_seed(7)
    random = Random(7)
    drawn = corpus.draw_prompts(random, MIXTURE)
    prompts = list(dict.fromkeys(next(drawn) for _ in range(PROMPTS)))
    groups = sampling.sorted_by_answer(
        network.read_model(parent), vocabulary.build_tokenizer(), prompts, SAMPLES_A_PROMPT
    )
    pairs = [(prompt, random.choice(right)) for prompt, (right, _) in groups.items() if right]
    return [corpus.row(prompt, completion) for prompt, completion in pairs]


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``sft`` beside ``folder``; return accepted samples."""
    rows = accepted_rows(folder.parent / "sft")
    trainer = trl_runs.sft_trainer(
        "rejection", folder.parent / "sft", rows, steps=STEPS, batch=BATCH, learning_rate=5e-4
    )
    trl_runs.train_and_keep(trainer, folder)
    return [*rows[:TRAJECTORIES]]
