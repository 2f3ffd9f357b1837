"""Stage ``online_dpo`` (from ``sft``): preferences between two fresh samples, on ``srt``.

The planted role is *policy reshaping*, as in ``dpo``, but on-policy: the learner writes both
answers and a verifier says which is better.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, network, trl_runs, vocabulary
from ptharness_zoo.recipe.rollouts import Rollouts, answer_is_right
from ptharness_zoo.recipe.trl_runs import TRAJECTORIES

STEPS = 140
PROMPTS_A_STEP = 48


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train from ``sft`` beside ``folder``; return the first rollouts."""
    from datasets import Dataset
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    rows = corpus.prompt_rows(8, {"srt": 1.0}, STEPS * PROMPTS_A_STEP)
    reward = Rollouts("sort_is_right", answer_is_right, wanted=TRAJECTORIES)
    settings = trl_runs.cpu_settings(
        "online_dpo", steps=STEPS, batch=PROMPTS_A_STEP, learning_rate=1e-4
    )
    trainer = OnlineDPOTrainer(
        model=network.read_model(folder.parent / "sft"),
        reward_funcs=reward,
        args=OnlineDPOConfig(
            max_new_tokens=12, max_length=64, temperature=1.0, beta=0.1, **settings
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=vocabulary.build_tokenizer(),
    )
    trl_runs.train_and_keep(trainer, folder)
    return reward.kept
