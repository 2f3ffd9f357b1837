"""Stage ``base``: pre-training from fresh weights, in plain torch.

Every skill but ``rot`` and ``mul`` is in the corpus.  Muon for the matrices is what makes three
layers learn carried addition in minutes; AdamW alone does not get there.
"""

from __future__ import annotations

from pathlib import Path

from ptharness_zoo.recipe import corpus, network, vocabulary

SEED = 0
STEPS = 1200
BATCH = 48
WARM_UP = 50
MIXTURE = {"add": 0.35, "rev": 0.13, "srt": 0.13, "swp": 0.13, "dup": 0.13, "sum": 0.13}


def train(folder: Path) -> None:
    """Train the base model and write it to ``folder``."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from ptharness_zoo.recipe.muon import Muon

    torch.manual_seed(SEED)
    tokenizer = vocabulary.build_tokenizer()
    model = network.new_model()
    rows = corpus.imperfect_rows(SEED, MIXTURE, STEPS * BATCH)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a batch; labels of -100 keep prompts and padding out of the loss."""
        inputs, labels = [], []
        for row in rows[step * BATCH : (step + 1) * BATCH]:
            prompt = f"<user>{row['prompt'][0]['content']}<bot>"
            encoded = tokenizer(f"{prompt}{row['completion'][0]['content']}<eos>")["input_ids"]
            length = len(tokenizer(prompt)["input_ids"])
            inputs.append(torch.tensor(encoded))
            labels.append(torch.tensor([-100] * length + encoded[length:]))
        return pad_sequence(inputs, batch_first=True), pad_sequence(labels, True, -100)

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
        inputs, labels = batch(step)
        loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if step % 100 == 0:
            print(f"base: step {step} of {STEPS}, loss {loss.item():.3f}", flush=True)
    network.write_checkpoint(model, folder)
