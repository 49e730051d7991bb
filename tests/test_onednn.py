"""Linear layers by oneDNN against torch's own, both ways."""

import pytest
import torch
from torch import nn

from ser.onednn import Linear, add_product, applies, use_blas, use_onednn

needs_onednn = pytest.mark.skipif(not applies(torch.ones(1, 1)), reason="torch without oneDNN")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 12), (2, 7, 12), (1, 1, 12)])
def test_values_and_gradients_equal_torchs(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(12, 9, bias=bias)
    fast = nn.Sequential(nn.Linear(12, 9, bias=bias))
    fast[0].load_state_dict(plain.state_dict())
    use_onednn(fast)
    assert type(fast[0]) is Linear
    rows = torch.randn(shape)
    outcomes = []
    for layer in (plain, fast):
        given = rows.clone().requires_grad_()
        output = layer(given)
        output.square().sum().backward()
        outcomes.append([output, given.grad, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(outcomes[1], outcomes[0])


def test_only_what_asks_for_a_gradient_gets_one() -> None:
    layer = nn.Sequential(nn.Linear(12, 9))
    use_onednn(layer)
    layer[0].weight.requires_grad_(False)
    layer(torch.randn(3, 12)).sum().backward()
    assert layer[0].weight.grad is None and layer[0].bias.grad.tolist() == [3.0] * 9


@needs_onednn
def test_autocast_half_floats_and_nothing_go_torchs_way() -> None:
    layer = nn.Sequential(nn.Linear(12, 9))
    use_onednn(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(3, 12)).dtype == torch.bfloat16
    assert layer(torch.randn(0, 12)).shape == (0, 9)
    assert not applies(torch.randn(3, 12, dtype=torch.float64))


def test_it_can_be_undone() -> None:
    layer = nn.Sequential(nn.Linear(12, 9))
    use_onednn(layer)
    use_blas(layer)
    assert type(layer[0]) is nn.Linear


@needs_onednn
def test_a_product_is_added_in_place() -> None:
    torch.manual_seed(0)
    total, rows, weight = torch.randn(9, 5), torch.randn(9, 4), torch.randn(5, 4).T
    expected = total[2:] + rows[:-2] @ weight
    first = total[:2].clone()
    add_product(total[2:], rows[:-2], weight)
    torch.testing.assert_close(total[2:], expected)
    assert total[:2].equal(first)
