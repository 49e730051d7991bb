"""The encoder arm's options and a batch, small enough to be trained in a test."""

import torch

from ser.batch import Batch

N_CLASSES = 3
ARM = {
    "encoder": None,
    "finetune": "none",
    "last_n": 1,
    "lora_rank": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.0,
    "layers": "all",
    "heads": 2,
    "hidden": 8,
    "nonlinear": True,
    "input_dropout": 0.1,
    "dropout": 0.1,
    "lr_factor": 1.0,
    "encoder_lr_factor": 0.1,
    "head_epochs": 2,
    "voice": None,
    "masks": None,
}


def random_batch(n: int, seed: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    target = torch.arange(n) % N_CLASSES
    embedding = torch.randn(n, 3, 6, generator=draw)
    embedding[:, 1, 0] += 2.0 * target
    frames = torch.randn(n, 9, 4, generator=draw)
    speaker, corpus = torch.arange(n) % 4, torch.zeros(n, dtype=torch.long)
    return Batch(
        torch.arange(n), target, frames, torch.full((n,), 9), embedding,
        speaker=speaker, corpus=corpus,
    )  # fmt: skip
