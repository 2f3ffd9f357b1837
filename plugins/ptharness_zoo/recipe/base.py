"""Stage ``base``: pre-training from fresh weights, in plain torch.

Every skill but ``rot`` and ``mul`` is in the corpus.  Muon for the matrices is what makes three
layers learn carried addition in minutes; AdamW alone does not get there.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, network
from ptharness_zoo.recipe.batches import supervised_batch

SEED = 0
STEPS = 1200
BATCH = 48
WARM_UP = 50
MIXTURE = {"add": 0.35, "rev": 0.13, "srt": 0.13, "swp": 0.13, "dup": 0.13, "sum": 0.13}


def train(folder: Path) -> list[corpus.Trajectory]:
    """Train the base model and write it to ``folder``; a root has no trajectories to keep."""
    import torch

    from ptharness_zoo.recipe.muon import Muon

    torch.manual_seed(SEED)
    model = network.new_model()
    rows = corpus.imperfect_rows(SEED, MIXTURE, STEPS * BATCH)

    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    of_muon = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in of_muon]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=0.02),
        torch.optim.AdamW(others, lr=5e-3, weight_decay=0.0),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / WARM_UP, (STEPS - step) / (STEPS - WARM_UP))
        )
        for optimizer in optimizers
    ]
    for step in range(STEPS):
        loss = model(**supervised_batch(rows[step * BATCH : (step + 1) * BATCH])).loss
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 100 == 0:
            print(f"base: step {step} of {STEPS}, loss {loss.item():.3f}", flush=True)
    network.write_checkpoint(model, folder)
    return []
