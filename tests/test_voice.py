"""Stretched spectra and times against clips that were made so."""

import math

import numpy as np
import pytest
import torch
from torchaudio.functional import melscale_fbanks

from ser.errors import SerError
from ser.features import Mfcc, MfccProsody
from ser.voice import (
    VocalTracts,
    VoiceChange,
    at_tempo,
    cepstral_map,
    hz_to_mel,
    mel_map,
    mel_to_hz,
)

RATE_HZ, N_MFCC, N_MELS = 16_000, 39, 128


def change_of(**changes: float | None) -> VoiceChange:
    frames = {"n_mfcc": N_MFCC, "n_mels": N_MELS, "sample_rate_hz": RATE_HZ}
    return VoiceChange(**frames | {"warp": 0.15, "tempo": 0.2} | changes)


def vowel_of(pitch_hz: float, stretch: float = 1.0) -> torch.Tensor:
    """Frames of a voice whose formants lie at 700, 1200 and 2500 Hz times `stretch`."""
    time = np.arange(RATE_HZ) / RATE_HZ
    harmonics = np.arange(1, int(7000 / pitch_hz)) * pitch_hz
    formants = np.array([700, 1200, 2500])[:, None] * stretch
    loudness = np.exp(-0.5 * ((harmonics - formants) / (150 * stretch)) ** 2).sum(0) + 1e-3
    wave = (loudness[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time)).sum(0)
    wave = (0.05 * wave / wave.std()).astype(np.float32)
    feature = MfccProsody(Mfcc(N_MFCC, 2048, 512, N_MELS, 0, RATE_HZ, None), 35.0)
    return torch.from_numpy(feature.extract([wave], [""])[0][5:-5])


def test_the_mel_scale_is_torchaudios():
    hz = torch.tensor([100.0, 999.0, 1000.0, 4000.0, 8000.0])
    torch.testing.assert_close(mel_to_hz(hz_to_mel(hz)), hz)
    bands = melscale_fbanks(1025, 0.0, 8000.0, 16, RATE_HZ, norm=None, mel_scale="slaney")
    centres = mel_to_hz(torch.linspace(0, float(hz_to_mel(torch.tensor(8000.0))), 18)[1:-1])
    peaks = torch.linspace(0, 8000, 1025)[bands.argmax(0)]
    torch.testing.assert_close(peaks, centres, atol=8, rtol=0)  # a bin is 7.8 Hz


def test_factor_one_changes_nothing():
    torch.testing.assert_close(cepstral_map(1.0, N_MFCC, N_MELS, RATE_HZ), torch.eye(42))


@pytest.mark.parametrize("factor", [0.87, 1.15])
def test_a_stretched_spectrum_is_that_of_a_stretched_voice(factor):
    old, new = vowel_of(150), vowel_of(150 / factor, 1 / factor)
    warped = old @ cepstral_map(factor, N_MFCC, N_MELS, RATE_HZ)
    before, after = ((frames - new)[:, 1:20].square().mean().sqrt() for frames in (old, warped))
    assert after < before / 2
    torch.testing.assert_close(warped[:, N_MFCC], new[:, N_MFCC], atol=0.7, rtol=0)  # 2 % of 35
    assert torch.equal(warped[:, N_MFCC + 1 :], old[:, N_MFCC + 1 :])


@pytest.mark.parametrize(("tempo", "n_frames"), [(1.0, 11), (2.0, 6), (0.5, 21)])
def test_tempo_reads_between_frames(tempo, n_frames):
    line = torch.arange(11.0)[None, :, None].expand(2, 11, 3)
    frames, lengths = at_tempo(line, torch.tensor([11, 5]), torch.tensor([tempo, 1.0]))
    assert lengths.tolist() == [n_frames, 5] and frames.shape == (2, max(n_frames, 5), 3)
    torch.testing.assert_close(frames[0, :n_frames, 0], tempo * torch.arange(float(n_frames)))
    assert frames[1, :5, 0].tolist() == [0, 1, 2, 3, 4] and not frames[1, 5:].any()


def test_every_clip_gets_its_own_and_the_seed_decides():
    frames, lengths = torch.randn(1, 50, 42).expand(16, 50, 42), torch.full((16,), 50)
    torch.manual_seed(3)
    changed, tempi = change_of()(frames, lengths)
    torch.manual_seed(3)
    again, _ = change_of()(frames, lengths)
    assert torch.equal(changed, again)
    assert len(set(tempi.tolist())) > 5 and len({row[0, 5].item() for row in changed}) > 5
    slowest, fastest = 1 + round(49 * math.exp(0.2)), 1 + round(49 * math.exp(-0.2))
    assert fastest <= min(tempi) and max(tempi) <= slowest


def test_frames_of_another_width_change_in_tempo_alone():
    frames, lengths = torch.randn(4, 20, 64), torch.full((4,), 20)
    assert change_of(tempo=0.0)(frames, lengths)[0] is frames
    assert change_of(tempo=0.0, n_mfcc=None)(frames, lengths)[0] is frames
    assert change_of()(frames, lengths)[1].tolist() != lengths.tolist()


def test_nothing_of_it_is_in_a_checkpoint():
    assert not change_of().state_dict()


def tracts(*factors: float) -> VocalTracts:
    return VocalTracts(factors=factors, n_mfcc=N_MFCC, n_mels=N_MELS, sample_rate_hz=RATE_HZ)


def test_a_clip_heard_from_other_vocal_tracts():
    frames = torch.randn(2, 5, N_MFCC + 3)
    heard = tracts(0.9, 1.0, 1.1)(frames)
    assert heard.shape == (3, 2, 5, N_MFCC + 3)
    torch.testing.assert_close(heard[1], frames)
    torch.testing.assert_close(heard[2], frames @ cepstral_map(1.1, N_MFCC, N_MELS, RATE_HZ))
    assert torch.equal(tracts(1.0)(frames)[0], frames)


def test_vocal_tracts_that_cannot_be():
    for factors in ([], [0.0, 1.0]):
        with pytest.raises(SerError, match="give factors above 0"):
            tracts(*factors)
    nothing = {"n_mfcc": None, "n_mels": None, "sample_rate_hz": None}
    assert VocalTracts(factors=[1], **nothing)(torch.ones(1, 2, 3)).shape == (1, 1, 2, 3)
    with pytest.raises(SerError, match=r"of 42 features can be heard .* these have 84"):
        tracts(0.9)(torch.ones(1, 2, 84))
    with pytest.raises(SerError, match="only frames of feature=mfcc"):
        VocalTracts(factors=[0.9, 1.0], **nothing)


@pytest.mark.parametrize("factor", [0.9, 1.12])
def test_mel_spectra_are_read_between_their_bands(factor):
    change = change_of(n_mfcc=None, n_mels=80, warp=math.log(1.12), tempo=0.0)
    assert change.maps.shape == (15, 80, 80)
    line = hz_to_mel(torch.tensor(8000.0)) * torch.linspace(0, 1, 82)[1:-1]
    moved = line @ mel_map(factor, 80, RATE_HZ).float()
    wanted = hz_to_mel((mel_to_hz(line) * factor).clamp(max=8000.0)).clamp(line[0], line[-1])
    torch.testing.assert_close(moved, wanted, atol=1e-3, rtol=0)
    frames = torch.ones(3, 20, 80)
    same, lengths = change(frames, torch.tensor([20, 7, 1]))
    assert same.shape == frames.shape and lengths.tolist() == [20, 7, 1]
