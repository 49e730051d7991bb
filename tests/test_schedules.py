"""Learning rates against hand-computed ones."""

import math

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer

from ser.schedules import constant, cosine, one_cycle, plateau

PEAK = 0.8


def sgd() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)


def rates(optimizer: Optimizer, schedule: dict[str, object], steps: int) -> list[float]:
    """The rate before each of `steps` steps and after the last."""
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()  # type: ignore[attr-defined]
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_constant_has_no_schedule():
    assert constant(sgd(), 100, "val/uar", "max") is None


def test_cosine_warms_up_and_goes_down_to_zero():
    optimizer = sgd()
    schedule = cosine(optimizer, 40, "val/uar", "max", warmup_fraction=0.1)
    assert schedule["interval"] == "step"
    seen = rates(optimizer, schedule, 40)
    warm = [PEAK * (step + 1) / 5 for step in range(4)]
    down = [PEAK * (1 + math.cos(math.pi * step / 36)) / 2 for step in range(37)]
    assert seen == pytest.approx(warm + down, abs=1e-9)
    assert max(seen) == pytest.approx(PEAK) and seen[-1] == pytest.approx(0, abs=1e-9)


def test_cosine_of_a_single_step():
    optimizer = sgd()
    schedule = cosine(optimizer, 1, "val/uar", "max", warmup_fraction=0.05)
    assert rates(optimizer, schedule, 1) == pytest.approx([PEAK / 2, PEAK])


def test_one_cycle_peaks_where_asked():
    optimizer = Adam([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, betas=(0.9, 0.98))
    schedule = one_cycle(optimizer, 50, "val/uar", "max", warmup_fraction=0.3)
    assert schedule["interval"] == "step"
    seen = rates(optimizer, schedule, 49)
    assert seen[0] == pytest.approx(PEAK / 25) and max(seen) == pytest.approx(PEAK)
    assert seen.index(max(seen)) == 14  # 0.3 × 50 steps, the first of them at the start
    assert seen[-1] == pytest.approx(PEAK / 25 / 1e4)
    assert optimizer.param_groups[0]["betas"][1] == 0.98


@pytest.mark.parametrize("mode", ["max", "min"])
def test_plateau_cuts_after_patience_epochs_without_gain(mode):
    optimizer = sgd()
    schedule = plateau(optimizer, 100, "val/uar", mode, factor=0.5, patience=2)
    assert (schedule["interval"], schedule["monitor"]) == ("epoch", "val/uar")
    seen = []
    for value in (0.2, 0.4, 0.3, 0.4, 0.4, 0.5, 0.1):
        optimizer.step()
        schedule["scheduler"].step(value if mode == "max" else 1 - value)
        seen.append(optimizer.param_groups[0]["lr"] / PEAK)
    assert seen == [1, 1, 1, 1, 0.5, 0.5, 0.5]
