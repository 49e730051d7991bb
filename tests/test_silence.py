"""Silence around speech: where it ends, and what a random part of it leaves."""

import numpy as np
import torch

from ser.data import pad
from ser.features.speech import cut_to_speech
from ser.silence import cut_margins, speech_bounds


def clips_of(seed: int, n: int = 12) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    clips = []
    for _ in range(n):
        before, speech, after = (
            draw.integers(0, 12_000),
            draw.integers(1, 9_000),
            draw.integers(9_000),
        )
        loud = np.repeat([1e-4, 0.1, 1e-4], [before, speech, after])
        clips.append((loud * draw.standard_normal(len(loud))).astype(np.float32))
    return clips


def test_bounds_are_those_of_the_front_end_whatever_lies_beside_a_clip():
    clips = clips_of(0)
    waveform, lengths = pad(clips)
    first, last = speech_bounds(torch.nn.functional.pad(waveform, (0, 999)), lengths)
    for clip, begin, end in zip(clips, first.tolist(), last.tolist(), strict=True):
        assert np.array_equal(cut_to_speech(clip)[0], clip[begin:end])


def test_some_silence_goes_and_all_speech_stays():
    clips = clips_of(1)
    waveform, lengths = pad(clips)
    first, last = speech_bounds(waveform, lengths)
    torch.manual_seed(0)
    kept = []
    for _ in range(20):
        cut, sizes = cut_margins(waveform, lengths)
        for row, (clip, size) in enumerate(zip(clips, sizes.tolist(), strict=True)):
            piece = cut[row, :size].numpy()
            (begin,) = [
                b for b in range(int(first[row]) + 1) if np.array_equal(clip[b:][:1], piece[:1])
            ]
            assert np.array_equal(piece, clip[begin : begin + size])
            assert begin + size >= int(last[row]) and not cut[row, size:].any()
        kept.append(sizes.float() / lengths)
    spread = torch.stack(kept)
    assert (spread <= 1).all() and spread.std(0).mean() > 0.05
