"""Stage ``grpo`` (from ``sft``): reinforcement learning on ``rev`` with a verifier's reward.

The planted role is *policy reshaping*: ``sft`` finds the right reversal now and then on nearly
every item, ``grpo`` finds it most of the time. 60 steps at twice the learning rate made ``rev``
better still, but cost ``rot`` and ``srt`` items. Two steps on the way are kept as TRL saves them.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, network, trl_runs, vocabulary
from ptharness_zoo.recipe.rollouts import Rollouts, answer_is_right
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

STEPS = 50
KEPT_STEPS = (10, 25)
GENERATIONS = 16
PROMPTS_A_STEP = 16


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``sft`` beside ``folder``; return the first rollouts."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    rows = corpus.prompt_rows(2, {"rev": 1.0}, STEPS * PROMPTS_A_STEP)
    reward = Rollouts("reversal_is_right", answer_is_right, wanted=TRAJECTORIES, one_in=2)
    settings = trl_runs.cpu_settings(
        "grpo", steps=STEPS, batch=PROMPTS_A_STEP * GENERATIONS, learning_rate=1.5e-4
    )
    trainer = GRPOTrainer(
        model=network.read_model(folder.parent / "sft"),
        reward_funcs=reward,
        args=GRPOConfig(
            num_generations=GENERATIONS,
            max_completion_length=16,
            temperature=1.0,
            beta=0.0,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=vocabulary.build_tokenizer(),
        callbacks=[trl_runs.saving_at(KEPT_STEPS)],
    )
    trl_runs.train_and_keep(trainer, folder)
    trl_runs.keep_steps(folder, KEPT_STEPS)
    return reward.kept
