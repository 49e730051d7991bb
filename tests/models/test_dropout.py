"""Dropout by random bytes: its rate, its repeatability, and that gradients pass it."""

import pytest
import torch
import transformers
from torch.nn import functional as F

from ser.models import dropout
from ser.models.dropout import Dropout, nearest_rate, zeroed
from ser.models.wav2vec2_encoder import Wav2Vec2Encoder


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


def test_a_layer_keeps_the_mean_and_does_nothing_outside_training() -> None:
    torch.manual_seed(0)
    layer, values = Dropout(0.1), torch.ones(400, 1000)
    dropped = layer(values)
    assert dropped.mean().item() == pytest.approx(1, abs=0.003)
    assert dropped.unique().tolist() == pytest.approx([0, 256 / 230])  # the rate is 26/256
    assert layer.eval()(values) is values


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 1.0), (0.001, 1.0), (1.0, 0.0)])
def test_rates_next_to_none_or_all(rate: float, kept: float) -> None:
    assert (Dropout(rate)(torch.ones(9, 9)) != 0).float().mean().item() == kept


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_torchs_but_for_the_masks(masked: bool, monkeypatch) -> None:
    monkeypatch.setattr(dropout, "dropped", lambda weights, rate: weights * (1 - rate))
    torch.manual_seed(0)
    mask = torch.rand(2, 1, 1, 7) < 0.6 if masked else None
    ours, theirs = (
        [t.requires_grad_() for t in torch.randn(3, 2, 4, 7, 8).unbind()] for _ in range(2)
    )
    for mine, other in zip(ours, theirs, strict=True):
        mine.data.copy_(other.data)
    result, _ = dropout.attention(torch.nn.Module(), *ours, mask, 0.25, scaling=0.3)
    expected = 0.75 * F.scaled_dot_product_attention(*theirs, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(result, expected.transpose(1, 2))
    weight = torch.randn_like(result)
    (result * weight).sum().backward()
    (expected.transpose(1, 2) * weight).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("family", ["Wav2Vec2", "Hubert"])
def test_every_dropout_of_an_encoder_in_training_is_by_bytes(family: str, monkeypatch) -> None:
    rates = {"feat_proj_dropout": 0.0625, "hidden_dropout": 0.125}
    within = {"activation_dropout": 0.25, "attention_dropout": 0.5}
    config = getattr(transformers, f"{family}Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        conv_dim=[32] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        **rates, **within,
    )  # fmt: skip
    encoder = Wav2Vec2Encoder(transformers.AutoModel.from_config(config).eval(), True)
    drawn: list[float] = []

    def keep_all(values: torch.Tensor, rate: float) -> torch.Tensor:
        drawn.append(rate)
        return values * 1

    monkeypatch.setattr(dropout, "zeroed", keep_all)
    monkeypatch.setattr("torch.nn.functional.dropout", None)  # torch's own is not called
    waveform, lengths = torch.randn(2, 9000), torch.tensor([9000, 5001])
    encoder(waveform, lengths)
    assert drawn == []
    encoder.train()(waveform, lengths)
    assert drawn == [0.0625, 0.125, *[0.5, 0.125, 0.25, 0.125] * 2]
