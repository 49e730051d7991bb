"""The loop that one writes without a framework: `python -m bench.bare_loop FILE FOLDER`.

Trains the network in FILE (from bench.warm_run) with the recipe of conf/, keeps the last epoch in
FOLDER, and scores it on the test part.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from ser.batch import Batch
from ser.loss import training_loss


def batch_of(part: Batch, rows: Tensor) -> Batch:
    """Clips of a part, padded to their longest."""
    chosen = Batch(*(None if stream is None else stream[rows] for stream in part))
    if chosen.frames is None or chosen.frames_length is None:
        return chosen
    return chosen._replace(frames=chosen.frames[:, : int(chosen.frames_length.max())])


@torch.no_grad()
def score(model: torch.nn.Module, part: Batch, batch_size: int) -> float:
    """Unweighted average recall."""
    model.eval()
    every = torch.arange(len(part.target)).split(batch_size)
    guess = torch.cat([model(batch_of(part, rows)).argmax(1) for rows in every])
    hits = (guess == part.target).float()
    recalls = [hits[part.target == c].mean() for c in part.target.unique()]
    return float(torch.stack(recalls).mean())


def train(given: dict, folder: Path) -> None:
    """Every epoch: train, validate, save the weights."""
    model, weights, size, epochs = (given[k] for k in ("model", "weights", "batch", "epochs"))
    train, target = given["train"], given["train"].target
    model.fit(lambda: [train])
    groups = [{"params": p, "lr": given["lr"] * share} for share, p in model.learning_rates()]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    steps = epochs * math.ceil(len(target) / size)
    warm = max(1, round(0.05 * steps))

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for epoch in range(epochs):
        model.train()
        for rows in torch.randperm(len(target)).split(size):
            batch = batch_of(train, rows)
            every = model.training_logits(batch)
            loss = training_loss(every, batch.target, weights[batch.index], 0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        uar = score(model, given["val"], size)
        print(f"epoch {epoch + 1} val/uar {uar:.3f}")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, folder / "last.pt")
    if model.refits:
        model.refit(lambda: [train, given["val"]])
    print(f"test/uar {score(model, given['test'], size):.3f}")


def main() -> None:
    """Read and train."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("file", type=Path)
    options.add_argument("folder", type=Path)
    given = options.parse_args()
    loaded = torch.load(given.file, weights_only=False)  # our own file
    torch.manual_seed(0)
    train(loaded, given.folder)


if __name__ == "__main__":
    main()
