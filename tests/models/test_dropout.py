"""Dropout by random bytes: its rate, its repeatability, and that gradients pass it."""

import pytest
import torch

from ser.models.dropout import nearest_rate, zeroed


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_values_are_zeroed_at_the_rate_and_otherwise_kept(rate: float) -> None:
    torch.manual_seed(0)
    values = torch.rand(401, 13, 21) + 1  # no multiple of eight
    dropped = zeroed(values, nearest_rate(rate))
    kept = dropped != 0
    assert dropped[kept].equal(values[kept])
    deviation = (rate * (1 - rate) / values.numel()) ** 0.5
    assert (~kept).float().mean().item() == pytest.approx(
        nearest_rate(rate), abs=4 * deviation + 1e-9
    )
    assert abs(nearest_rate(rate) - rate) <= 1 / 512


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = zeroed(torch.ones(200_000), 0.5)
    for step in (1, 8, 64):
        both = (kept[step:] * kept[:-step]).mean()
        assert both.item() == pytest.approx(0.25, abs=0.005)


def test_masks_follow_torchs_seed() -> None:
    values = torch.ones(64, 100)
    torch.manual_seed(3)
    first, second = zeroed(values, 0.5), zeroed(values, 0.5)
    assert not first.equal(second)
    torch.manual_seed(3)
    assert zeroed(values, 0.5).equal(first)


def test_gradients_pass_what_is_kept() -> None:
    values = torch.rand(64, 9, requires_grad=True)
    dropped = zeroed(values, 0.5)
    dropped.sum().backward()
    assert values.grad is not None
    assert values.grad.equal((dropped != 0).float())
