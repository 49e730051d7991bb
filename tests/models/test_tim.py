"""TIM-Net against an independent implementation, and its fast layers against PyTorch's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ser.batch import Batch
from ser.errors import SerError
from ser.models.packed import CausalConv, Norm, Packing, conv_norm_relu
from ser.models.tim import TimNet

PAPER = {
    "width": None,
    "n_blocks": 8,
    "dropout": 0.1,
    "norm_momentum": 0.01,
    "deviation": False,
    "summary_norm": False,
    "head_dropout": 0.0,
    "masked": False,
    "normalise": "none",
    "jitter": 0.0,
    "lr_factor": 1.0,
}


def paper(n_classes: int = 8, n_features: int = 39, **changes: object) -> TimNet:
    return TimNet(n_classes, {"frames": (n_features,)}, **{**PAPER, **changes})


def batch_of(frames: torch.Tensor, lengths: list[int] | None = None) -> Batch:
    n, longest = frames.shape[:2]
    length = torch.tensor(lengths or [longest] * n)
    return Batch(torch.arange(n), torch.zeros(n, dtype=torch.long), frames, length)


def golden_name(name: str) -> str:
    """A golden array's name in our state dictionary; blocks count from 0 here."""
    name = name.replace("forward.", "forward_branch.").replace("backward.", "backward_branch.")
    for number in range(1, 9):
        name = name.replace(f".block{number}.", f".blocks.{number - 1}.")
    return name.replace("fusion.weight", "fusion")


def test_agrees_with_the_golden_network(shared: Path) -> None:
    golden = np.load(shared / "data" / "golden" / "timnet_seed0.npz")
    outcome = {"input", "scales", "fused", "logits"}
    state = {golden_name(k): torch.tensor(golden[k]) for k in golden.files if k not in outcome}
    model = paper().eval()
    model.load_state_dict(state)
    batch = batch_of(torch.tensor(golden["input"]))
    with torch.no_grad():
        for name, value in (
            ("scales", model.scales(batch)),
            ("fused", model.summary(batch)),
            ("logits", model(batch)),
        ):
            assert np.abs(value.numpy() - golden[name]).max() < 1e-5, name


@pytest.mark.parametrize(
    ("n_classes", "n_values", "n_trainable"), [(8, 107_032, 104_536), (7, 106_992, 104_496)]
)
def test_has_the_published_size(n_classes: int, n_values: int, n_trainable: int) -> None:
    model = paper(n_classes)
    assert sum(value.numel() for value in model.state_dict().values()) == n_values
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == n_trainable


@pytest.mark.parametrize(("n_blocks", "expected"), [(8, 511), (10, 2047), (2, 7)])
def test_receptive_field(n_blocks: int, expected: int) -> None:
    assert paper(n_features=4, n_blocks=n_blocks).receptive_field == expected


def test_receptive_field_is_what_the_network_sees() -> None:
    model = paper(n_features=4, n_blocks=2).eval()
    with torch.no_grad():  # all positive: no ReLU hides a frame
        for weight in model.forward_branch.parameters():
            weight.abs_()
    frames = torch.rand(1, 20, 4, requires_grad=True)
    packing = Packing(torch.tensor([20]))
    rows = packing.pack(frames)
    rows = F.pad(F.linear(rows, model.forward_branch.stem.weight[..., 0]), (0, 4))
    for block, dilation in zip(model.forward_branch.blocks, (1, 2), strict=True):
        rows = block(rows, packing, packing.has_past(dilation))
    rows[15].sum().backward()
    seen = frames.grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert (min(seen), max(seen)) == (15 - model.receptive_field + 1, 15)


def test_masked_ignores_padding_and_unmasked_does_not() -> None:
    frames = torch.randn(2, 30, 5)
    padded, lengths = F.pad(frames[:1, :20], (0, 0, 0, 10)), [20]
    for masked in (True, False):
        model = paper(n_features=5, n_blocks=3, masked=masked).eval()
        with torch.no_grad():
            alone = model(batch_of(frames[:1, :20]))
            beside = model(batch_of(torch.cat([padded, frames[1:]]), [*lengths, 30]))[:1]
        assert torch.allclose(alone, beside, atol=1e-6) == masked


def reference(rows: list[torch.Tensor], conv: CausalConv, norm: Norm, dilation: int):
    """The same layer by PyTorch's convolution and batch normalisation, clip by clip."""
    convolved = [
        F.conv1d(F.pad(clip.T[None], (dilation, 0)), conv.weight, conv.bias, dilation=dilation)
        for clip in rows
    ]
    together = torch.cat([clip[0].T for clip in convolved])
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    out = F.batch_norm(
        together, mean, variance, norm.gamma, norm.beta, True, norm.momentum, norm.epsilon
    )
    return out.relu(), mean


@pytest.mark.parametrize("dilation", [1, 4, 16])
def test_fast_layer_equals_pytorch(dilation: int) -> None:
    torch.manual_seed(0)
    lengths = [12, 5, 9]
    conv, norm = CausalConv(6, dilation).double(), Norm(6, 1e-3, 0.1).double()
    nn.init.normal_(norm.gamma)
    nn.init.normal_(norm.beta)
    frames = torch.randn(3, 12, 6, dtype=torch.float64, requires_grad=True)
    packing = Packing(torch.tensor(lengths))
    factor = 2.0 * (torch.rand(3, 8) > 0.5).double()
    expected, expected_mean = reference(
        [frames[row, :size] for row, size in enumerate(lengths)], conv, norm, dilation
    )
    expected = expected * factor[packing.clip, :6]
    rows = F.pad(packing.pack(frames), (0, 2))
    past = packing.has_past(dilation).double()
    out = conv_norm_relu(rows, conv, norm, factor, packing, past)[:, :6]
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(norm.running_mean, expected_mean)

    leaves = [frames, conv.weight, conv.bias, norm.gamma, norm.beta]
    weights = torch.randn_like(out)
    found = torch.autograd.grad((out * weights).sum(), leaves)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_fit_takes_the_statistics_of_real_frames() -> None:
    model = paper(n_features=2, n_blocks=1, masked=True, normalise="train")
    frames = torch.tensor([[[1.0, 5.0], [3.0, 5.0]], [[5.0, 5.0], [99.0, 99.0]]])
    model.fit(lambda: [batch_of(frames, [2, 1])])
    assert model.scaler is not None
    torch.testing.assert_close(model.scaler.mean, torch.tensor([3.0, 5.0]))
    torch.testing.assert_close(model.scaler.deviation, torch.tensor([(8 / 3) ** 0.5, 1.0]))


def test_refuses_what_it_cannot_use() -> None:
    with pytest.raises(SerError, match="normalise=speaker is no option"):
        paper(normalise="speaker")
    with pytest.raises(SerError, match="reads frames, but the feature gives embedding"):
        TimNet(8, {"embedding": (3, 4)}, **PAPER)
    with pytest.raises(SerError, match="carries no frames"):
        paper(n_features=4)(Batch(torch.arange(1), torch.zeros(1, dtype=torch.long)))
