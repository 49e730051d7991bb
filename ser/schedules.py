"""Learning-rate schedules, in the form that Lightning asks for."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)


def constant(optimizer: Optimizer, total_steps: int, monitor: str, mode: str) -> None:
    """Leave the learning rate as the optimizer has it."""
    return None


def cosine(
    optimizer: Optimizer, total_steps: int, monitor: str, mode: str, *, warmup_fraction: float
) -> dict[str, Any]:
    """Linear warm-up over a fraction of all steps, then a cosine down to zero."""
    warmup = max(1, round(warmup_fraction * total_steps))
    schedule = SequentialLR(
        optimizer,
        [
            LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup),
            CosineAnnealingLR(optimizer, T_max=max(1, total_steps - warmup)),
        ],
        milestones=[warmup],
    )
    return {"scheduler": schedule, "interval": "step"}


def one_cycle(
    optimizer: Optimizer, total_steps: int, monitor: str, mode: str, *, warmup_fraction: float
) -> dict[str, Any]:
    """One cycle of learning rate and momentum (Smith and Topin, 2018, arXiv 1708.07120)."""
    peak = [group["lr"] for group in optimizer.param_groups]
    schedule = OneCycleLR(optimizer, peak, total_steps=total_steps, pct_start=warmup_fraction)
    return {"scheduler": schedule, "interval": "step"}


def plateau(
    optimizer: Optimizer, total_steps: int, monitor: str, mode: str, *, factor: float, patience: int
) -> dict[str, Any]:
    """Cut the rate by `factor` once the monitored metric has not improved for `patience` epochs."""
    schedule = ReduceLROnPlateau(
        optimizer, "max" if mode == "max" else "min", factor=factor, patience=patience
    )
    return {"scheduler": schedule, "interval": "epoch", "monitor": monitor}
