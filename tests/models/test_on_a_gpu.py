"""What takes another way on a GPU, run on the CPU: the numbers are those of the plain way."""

import pytest
import torch

from ser.models.encoder import RandomEncoder
from ser.models.frozen_part import keys_of, sums_of
from ser.models.temporal_rows import _taps_grad, taps_grad_by_time
from ser.models.wav2vec2_encoder import Wav2Vec2Encoder


def clips(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    lengths = torch.tensor([4000, 900, 2500])
    return torch.randn(3, 4000) * (torch.arange(4000) < lengths[:, None]), lengths


def test_the_norm_of_a_padded_batch_leaves_the_padding_out() -> None:
    encoder = RandomEncoder("tiny", n_blocks=1, width=16, seed=0, precision="float32").load()
    assert isinstance(encoder, Wav2Vec2Encoder)
    waveform, lengths = clips()
    alone, frames = encoder.analyse(waveform, lengths)
    scaled = torch.stack([(w - w[:n].mean()) for w, n in zip(waveform, lengths, strict=True)])
    deviation = [
        float(w[:n].var(correction=0) + 1e-7) ** 0.5 for w, n in zip(scaled, lengths, strict=True)
    ]
    scaled = scaled / torch.tensor(deviation)[:, None]
    scaled = scaled * (torch.arange(4000) < lengths[:, None])
    together = encoder.convolve_together(scaled, lengths)
    for one, other, n in zip(alone, together, frames.tolist(), strict=True):
        torch.testing.assert_close(other[:n], one[:n], atol=1e-4, rtol=1e-4)


def test_sums_tell_clips_apart_and_know_them_in_another_batch() -> None:
    waveform, lengths = clips()
    first, second = sums_of(waveform, lengths)
    louder = torch.cat([waveform, torch.randn(3, 700)], 1)  # what lies past a clip does not count
    again = sums_of(louder, lengths)
    assert torch.equal(again[0], first) and torch.equal(again[1], second)
    other = waveform.clone()
    other[0, 7] = torch.nextafter(other[0, 7], torch.tensor(9.0))
    other[1, :2] = other[1, :2].flip(0)
    changed = sums_of(other, lengths)
    assert (changed[0] != first).tolist() == [True, True, False]
    assert (changed[1] != second).tolist() == [True, True, False]
    assert len(set(first.tolist() + second.tolist())) == 6
    assert keys_of(waveform, lengths)[2] == keys_of(other, lengths)[2]


@pytest.mark.parametrize("past", [4, 12, 44, 48, 64])
def test_gradients_of_the_taps_frame_by_frame(past: int) -> None:
    torch.manual_seed(0)
    source, grad = torch.randn(2, 6, 12 * 4, 5).unbind(0)
    plain = _taps_grad(source, grad, past, 4)
    torch.testing.assert_close(
        taps_grad_by_time(source, grad, past, 4), plain, atol=1e-5, rtol=1e-4
    )
