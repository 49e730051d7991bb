"""A long kernel's convolution by spectra equals torch's own, and so do its gradients."""

import pytest
import torch
import transformers
from torch import Tensor, nn

from ser.models import long_kernel
from ser.models.long_kernel import convolve
from ser.models.wav2vec2_encoder import Wav2Vec2Encoder


def grouped(taps: int, bias: bool = True) -> nn.Conv1d:
    return nn.Conv1d(12, 24, taps, padding=taps // 2, groups=3, bias=bias)


def refuse(*_: object) -> None:
    raise AssertionError


@pytest.mark.parametrize("taps", [1, 15, 16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("steps", [5, 40])
def test_values_and_gradients_are_torchs(
    taps: int, bias: bool, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    convolution = grouped(taps, bias)
    rows = torch.randn(3, steps, 12, requires_grad=True)
    given = [rows, *convolution.parameters()]
    expected = convolution(rows.mT)[..., :steps].mT
    seen = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, given, seen)
    monkeypatch.setattr(long_kernel, "_TRANSFORM_COST", 0)
    monkeypatch.setattr(nn.Conv1d, "forward", refuse)
    found = convolve(convolution, rows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for own, torchs in zip(torch.autograd.grad(found, given, seen), gradients, strict=True):
        torch.testing.assert_close(own, torchs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("why", ["few rows", "no gradient", "autocast", "float64"])
def test_elsewhere_it_is_torchs_own(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.fft, "rfft", refuse)
    if why != "few rows":
        monkeypatch.setattr(long_kernel, "_TRANSFORM_COST", 0)
    dtype = torch.float64 if why == "float64" else torch.float32
    convolution = grouped(16).to(dtype)
    rows = torch.randn(3, 20, 12, dtype=dtype, requires_grad=why != "no gradient")
    with torch.autocast("cpu", enabled=why == "autocast"):
        expected = convolution(rows.mT)[..., :20].mT
        assert convolve(convolution, rows).equal(expected)


@pytest.mark.parametrize(
    ("config_class", "model_class"),
    [
        (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
        (transformers.HubertConfig, transformers.HubertModel),
        (transformers.WavLMConfig, transformers.WavLMModel),
    ],
)
def test_an_encoder_in_training_hears_the_positions_that_transformers_gives(
    config_class: type, model_class: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_kernel, "_TRANSFORM_COST", 0)
    config = config_class(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        conv_dim=(16,), conv_kernel=(10,), conv_stride=(5,), num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    model = model_class(config)
    hidden = torch.randn(2, 30, 32, requires_grad=True)
    expected = model.encoder.pos_conv_embed(hidden)
    calls: list[Tensor] = []
    rfft = torch.fft.rfft
    monkeypatch.setattr(torch.fft, "rfft", lambda *given: calls.append(given[0]) or rfft(*given))
    found = Wav2Vec2Encoder(model, do_normalize=False).train()._positions(hidden)
    assert len(calls) == 2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_relative_with_a_batch_norm_keeps_it() -> None:
    config = transformers.HubertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        conv_dim=(16,), conv_kernel=(10,), conv_stride=(5,), num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4, conv_pos_batch_norm=True,
    )  # fmt: skip
    model = transformers.HubertModel(config).eval()
    hidden = torch.randn(2, 30, 32)
    expected = model.encoder.pos_conv_embed(hidden)
    assert Wav2Vec2Encoder(model, do_normalize=False).eval()._positions(hidden).equal(expected)
