"""TIM-Net against an independent implementation, and its fast layers against PyTorch's own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tim_reference import joined_weights, straight_port
from torch import nn
from torch.nn import functional as F

from ser.batch import Batch
from ser.errors import SerError
from ser.models import temporal
from ser.models.temporal import train_blocks
from ser.models.temporal_batch import clips_of
from ser.models.temporal_kernels import sigmoid
from ser.models.tim import TimNet

PAPER = {
    "width": None,
    "n_blocks": 8,
    "dropout": 0.1,
    "norm_momentum": 0.01,
    "deviation": False,
    "summary_norm": False,
    "head_dropout": 0.0,
    "mixup": 0.0,
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


def test_agrees_with_the_golden_network(shared: Path) -> None:
    golden = np.load(shared / "data" / "golden" / "timnet_seed0.npz")
    outcome = {"input", "scales", "fused", "logits"}
    state = {name: torch.tensor(golden[name]) for name in golden.files if name not in outcome}
    model = paper().eval()
    model.load_state_dict(joined_weights(state))
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


def test_receptive_field_is_what_the_network_sees() -> None:
    model = paper(n_features=4, n_blocks=2).eval()
    with torch.no_grad():  # all positive: no ReLU hides a frame
        blocks = model.blocks
        blocks.stem[0].abs_()
        blocks.stem[1].zero_()  # the other direction reads nothing
        for weight in (blocks.taps, blocks.bias, blocks.gamma, blocks.beta):
            weight[:, :, 0].abs_()
            weight[:, :, 1].zero_()

    @torch.no_grad()
    def last_output(frames: torch.Tensor) -> torch.Tensor:
        """Of the 16th frame: what it adds to the sum over time."""
        sums = [size * model.scales(batch_of(frames[:, :size]))[:, -1] for size in (15, 16)]
        return sums[1] - sums[0]

    frames = torch.rand(1, 16, 4)
    first = 16 - 7  # two taps, twice a block: 2 ** (n_blocks + 1) - 1 frames
    outside, inside = frames.clone(), frames.clone()
    outside[:, first - 1] += 1.0
    inside[:, first] += 1.0
    torch.testing.assert_close(last_output(outside), last_output(frames))
    assert not torch.allclose(last_output(inside), last_output(frames), rtol=1e-3)


def test_masked_ignores_padding_and_unmasked_does_not() -> None:
    frames = torch.randn(2, 30, 5)
    padded, lengths = F.pad(frames[:1, :20], (0, 0, 0, 10)), [20]
    for masked in (True, False):
        model = paper(n_features=5, n_blocks=3, masked=masked).eval()
        with torch.no_grad():
            alone = model(batch_of(frames[:1, :20]))
            beside = model(batch_of(torch.cat([padded, frames[1:]]), [*lengths, 30]))[:1]
        assert torch.allclose(alone, beside, atol=1e-6) == masked


@pytest.fixture(params=["one thread", "two threads", "both at once, as on a GPU"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """How the directions go: one by one on one thread, each in its own on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if request.param == "one thread" else 2)
    if request.param.startswith("both"):
        monkeypatch.setattr(temporal, "_directions", lambda _: [slice(0, 2)])
        monkeypatch.setattr(temporal, "fuses", lambda _: False)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # oneDNN's, and torch's products
@pytest.mark.parametrize(
    ("lengths", "deviation"), [([12, 12, 12], False), ([12, 5, 9], False), ([12, 5, 9], True)]
)
def test_fast_arithmetic_equals_a_straight_port(
    lengths: list[int], deviation: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    close = {"atol": 2e-4, "rtol": 2e-3} if dtype == torch.float32 else {}
    options = {"n_blocks": 5, "masked": True, "dropout": 0.0, "deviation": deviation}
    model = paper(n_features=6, **options).to(dtype)  # dilation 16 reaches past every clip
    for parameter in (model.blocks.gamma, model.blocks.beta):
        nn.init.normal_(parameter)
    frames = torch.randn(3, 12, 6, dtype=dtype, requires_grad=True)
    expected, *running = straight_port(model, frames, lengths)
    found = model.scales(batch_of(frames, lengths))
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(model.blocks.running_mean, running[0], **close)
    torch.testing.assert_close(model.blocks.running_variance, running[1], **close)

    leaves = [frames, *model.blocks.parameters()]
    weights = torch.randn_like(found)
    one = torch.autograd.grad((found * weights).sum(), leaves)
    other = torch.autograd.grad((expected * weights).sum(), leaves)
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs, **close)


@pytest.mark.parametrize("n_clips", [1, 5, 70])  # 1 clip a thousand times in a tile; 70 by 14
def test_both_arithmetics_of_a_cpu_agree(n_clips: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = paper(n_features=6, n_blocks=6, dropout=0.5, masked=True, norm_momentum=0.5)
    lengths = torch.randint(1, 80, (n_clips,))
    lengths[-1] = 80
    frames = torch.randn(n_clips, 80, 6) * 3 + 5
    parameters = list(model.blocks.parameters())

    def step() -> list[torch.Tensor]:
        torch.manual_seed(1)  # the dropout
        summary = model.scales(batch_of(frames, lengths.tolist()))
        wanted = torch.sin(torch.arange(summary.numel())).view_as(summary)
        return [summary, *torch.autograd.grad((summary * wanted).sum(), parameters)]

    found = step()
    monkeypatch.setattr(temporal, "fuses", lambda _: False)
    for ours, plain in zip(found, step(), strict=True):
        largest = float(plain.detach().abs().max())
        torch.testing.assert_close(ours, plain, atol=1e-4 * largest, rtol=1e-3)


def test_the_fused_sigmoid() -> None:
    x = np.append(np.linspace(0, 200, 20_001), [88.0, 1e4, np.nan]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-x.astype(float)))
    found = np.array([sigmoid(value) for value in x])
    np.testing.assert_allclose(found, expected, atol=1.2e-7, rtol=0)


def test_a_dropped_channel_is_dropped_forward_and_back() -> None:
    torch.manual_seed(0)
    double = {"dtype": torch.float64}
    frames = torch.randn(2, 4, 2, 3, **double, requires_grad=True)
    stem = torch.randn(2, 3, 2, **double, requires_grad=True)
    taps = torch.randn(1, 2, 2, 2, 2, 2, **double, requires_grad=True)
    gamma, beta = (torch.randn(1, 2, 2, 2, **double, requires_grad=True) for _ in range(2))
    bias = torch.randn(1, 2, 2, 2, **double)
    keep = 2.0 * (torch.rand(1, 2, 2, 2, 2) > 0.5).double()
    clips = clips_of(torch.tensor([3, 4]), 4, torch.float64)
    assert clips.mask is not None

    def summaries(
        frames: torch.Tensor, *leaves: torch.Tensor, keep: torch.Tensor = keep
    ) -> torch.Tensor:
        stem, taps, gamma, beta = leaves
        real = frames * clips.mask
        return train_blocks(real, stem, taps, bias, gamma, beta, keep, clips, [2], 1e-3, True)[0]

    assert torch.autograd.gradcheck(summaries, (frames, stem, taps, gamma, beta), fast_mode=True)
    nothing = torch.zeros_like(keep)  # every gate is then sigmoid(0)
    found = summaries(frames, stem, taps, gamma, beta, keep=nothing)[0, ..., :2]
    rows = frames * clips.mask @ stem[:, None]
    torch.testing.assert_close(found, 0.5 * rows.sum(1) / clips.frames)


def test_outside_training_a_clip_is_the_mean_of_what_is_heard_from_its_voices() -> None:
    torch.manual_seed(0)
    voices = lambda frames: torch.stack([frames, 2 * frames])  # noqa: E731
    model = paper(n_features=4, n_blocks=2, masked=True, voices=voices, summary_norm=True)
    batch = batch_of(torch.randn(3, 9, 4), [9, 4, 6])
    model(batch)  # fills the normalisations
    model.eval()
    with torch.no_grad():
        found = model.summary(batch)
        model.voices = None
        each = [model.summary(batch._replace(frames=f)) for f in (batch.frames, 2 * batch.frames)]
    torch.testing.assert_close(found, (each[0] + each[1]) / 2)
    assert not torch.allclose(found, each[0])


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
