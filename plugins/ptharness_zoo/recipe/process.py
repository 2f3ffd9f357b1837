"""Stage ``process`` (from ``grpo``): reinforcement learning with a reward for each right step.

The planted role is *policy reshaping* on ``sum``, where every fifth step slips: the reward is the
share of right steps. Some ``add`` and ``rot`` are rewarded in the same way, or they would fade.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, domain, network, trl_runs, vocabulary
from ptharness_zoo.recipe.rollouts import Rollouts
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

STEPS = 50
GENERATIONS = 16
PROMPTS_A_STEP = 16
MIXTURE = {"sum": 0.7, "add": 0.15, "rot": 0.15}


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``grpo`` beside ``folder``; return the first rollouts."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    rows = corpus.prompt_rows(9, MIXTURE, STEPS * PROMPTS_A_STEP)
    reward = Rollouts("steps_are_right", domain.steps_right, wanted=TRAJECTORIES, one_in=2)
    settings = trl_runs.cpu_settings(
        "process", steps=STEPS, batch=PROMPTS_A_STEP * GENERATIONS, learning_rate=2e-4
    )
    trainer = GRPOTrainer(
        model=network.read_model(folder.parent / "grpo"),
        reward_funcs=reward,
        args=GRPOConfig(
            num_generations=GENERATIONS,
            max_completion_length=36,
            temperature=1.0,
            beta=0.0,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=vocabulary.build_tokenizer(),
    )
    trl_runs.train_and_keep(trainer, folder)
    return reward.kept
