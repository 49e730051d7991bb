"""Another voice inside an encoder that is fine-tuned: in training only, lengths with it."""

import pytest
import torch
from torch import Tensor

from ser.models.frozen_part import FrozenPart
from ser.models.whisper_encoder import WhisperEncoder
from ser.voice import VoiceChange, at_tempo

LENGTHS = torch.tensor([9_000, 4_321, 500])


def whisper() -> WhisperEncoder:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as HubWhisper

    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2}
    return WhisperEncoder(HubWhisper(WhisperConfig(**sizes, encoder_ffn_dim=32)))


@pytest.mark.parametrize("tempo", [1.0, 0.7, 1.4])
def test_whisper_hears_it_in_training_only(tempo: float) -> None:
    encoder, waveform = whisper(), torch.randn(3, 9_000)
    features, frames = encoder.analyse(waveform, LENGTHS)
    seen: list[tuple[Tensor, Tensor]] = []

    def voice(mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((mel, lengths))
        return at_tempo(mel, lengths, torch.full((len(lengths),), tempo))

    encoder.voice = voice
    same, as_long = encoder.eval().change_voice(features, frames)
    assert same is features and as_long is frames and not seen
    changed, new = encoder.train().change_voice(features, frames)
    ((mel, lengths),) = seen
    assert mel.shape == (3, 2 * features.shape[1], 80) and torch.equal(lengths, 2 * frames)
    assert changed.shape == (3, int(new.max()), 160)
    torch.testing.assert_close(new.float(), frames / tempo, atol=1.0, rtol=0)
    if tempo == 1:
        torch.testing.assert_close(changed, features)
    assert encoder(waveform, LENGTHS)[0].shape[2] == int(new.max())


def test_what_is_kept_of_a_frozen_part_is_heard_in_a_new_voice_each_time() -> None:
    encoder = whisper().requires_grad_(False).train()
    encoder.layers[-1].requires_grad_(True)
    voice = VoiceChange(n_mfcc=None, n_mels=80, sample_rate_hz=16_000, warp=0.15, tempo=0.2)
    encoder.voice, part, waveform = voice, FrozenPart(encoder), torch.randn(3, 9_000)
    part.start()
    first, second = (part.embed(waveform, LENGTHS) for _ in range(2))
    assert not torch.equal(first, second)
    encoder.eval()
    assert torch.equal(part.embed(waveform, LENGTHS), part.embed(waveform, LENGTHS))
