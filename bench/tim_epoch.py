"""A TIM-Net training epoch on 1,296 × 215 × 39, batch 64: `python -m bench.tim_epoch`.

The size of the paper's RAVDESS folds. The authors' Keras model was measured at 5.1 s and a straight
PyTorch port at 5.4 s an epoch, on 2 cores of this kind.
"""

import os
import statistics
import time

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import torch
from torch.nn import functional as F

from ser.batch import Batch
from ser.models.tim import TimNet

CLIPS, FRAMES, FEATURES, BATCH, CLASSES, EPOCHS = 1296, 215, 39, 64, 8, 5


def run_epoch(model: TimNet, optimizer: torch.optim.Optimizer, frames: torch.Tensor) -> float:
    """Seconds of one epoch: forward, backward and Adam."""
    target = torch.arange(CLIPS) % CLASSES
    start = time.perf_counter()
    for first in range(0, CLIPS, BATCH):
        rows = slice(first, first + BATCH)
        length = torch.full((len(target[rows]),), FRAMES)
        batch = Batch(torch.arange(CLIPS)[rows], target[rows], frames[rows], length)
        loss = F.cross_entropy(model(batch), target[rows], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    """Print the median epoch, with spread, after one to warm up."""
    torch.manual_seed(0)
    model = TimNet(
        CLASSES,
        {"frames": (FEATURES,)},
        width=None,
        n_blocks=8,
        dropout=0.1,
        norm_momentum=0.01,
        deviation=False,
        summary_norm=False,
        head_dropout=0.0,
        masked=False,
        normalise="none",
        jitter=0.0,
        lr_factor=1.0,
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.93, 0.98), eps=1e-8)
    frames = torch.randn(CLIPS, FRAMES, FEATURES)
    run_epoch(model, optimizer, frames)
    seconds = [run_epoch(model, optimizer, frames) for _ in range(EPOCHS)]
    print(
        f"TIM-Net epoch, {CLIPS} x {FRAMES} x {FEATURES}, batch {BATCH}, "
        f"{torch.get_num_threads()} threads: median {statistics.median(seconds):.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f})"
    )


if __name__ == "__main__":
    main()
