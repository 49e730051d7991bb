"""The recognizer in a program of one's own: arrays and paths as strangers give them."""

import numpy as np
import pytest
import synthetic
import torch
from torch import Tensor

from ser.batch import Batch
from ser.errors import SerError
from ser.features import RawWaveform
from ser.models.base import EmotionModel
from ser.predict import Recognizer
from ser.recognizer import load_recognizer

WAVE = synthetic.tone("a", seconds=0.5).astype(np.float32)


class Level(EmotionModel):
    """Answers by the loudness of the samples."""

    @classmethod
    def reads_of(cls, options: object) -> frozenset[str]:
        return frozenset({"waveform"})

    def forward(self, batch: Batch) -> Tensor:
        level = batch.waveform.std(1, keepdim=True)
        return torch.cat([level, torch.zeros_like(level)], 1)


@pytest.fixture
def recognizer() -> Recognizer:
    return Recognizer(Level(2, {"waveform"}), (RawWaveform(),), ("happy", "sad"))


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ((WAVE * 32767).astype(np.int16), r"these are int16 \(8000,\). Divide integers"),
        (np.stack([WAVE, WAVE], 1), r"these are float32 \(8000, 2\)"),
        (WAVE[:0], "0 samples are less than 20 ms"),
        (WAVE[:100], "100 samples are less than 20 ms"),
        (np.append(WAVE, np.float32(np.nan)), "not finite"),
        (WAVE * 32768, "full scale is 1 and 100 is the most"),
    ],
)
def test_samples_that_are_no_mono_floats_are_refused_by_name(recognizer, samples, why):
    with pytest.raises(SerError, match=f"call 7: .*{why}"):
        recognizer.predict_waveforms([{16_000: samples}], ["call 7"])


@pytest.mark.parametrize("clip", [WAVE, {48_000: WAVE}])
def test_a_clip_names_the_rate_of_its_samples(recognizer, clip):
    with pytest.raises(SerError, match=r"call 7: a clip is \{16000: samples\}"):
        recognizer.predict_waveforms([clip], ["call 7"])


def test_doubles_and_lists_are_answered_as_floats_and_no_clips_by_no_rows(recognizer):
    expected = recognizer.predict_waveforms([{16_000: WAVE}], ["a"])
    for given in (WAVE.astype(np.float64), WAVE.tolist(), torch.from_numpy(WAVE)):
        found = recognizer.predict_waveforms([{16_000: given}], ["a"])
        np.testing.assert_array_equal(found, expected)
    assert recognizer.predict_waveforms([], []).shape == (0, 2)


def test_paths_may_be_text_or_come_one_by_one_but_not_alone(recognizer, tmp_path):
    path = synthetic.write_clip(tmp_path / "a.wav", WAVE)
    expected = recognizer.predict_files([path])
    assert recognizer.predict_files([str(path)]).equals(expected)
    assert recognizer.predict_files(each for each in [path]).equals(expected)
    for alone in (path, str(path)):
        with pytest.raises(SerError, match=r"a\.wav: files are given as a list"):
            recognizer.predict_files(alone)


def test_a_checkpoint_may_be_named_by_text(tmp_path):
    with pytest.raises(SerError, match=r"none\.ckpt: no such checkpoint"):
        load_recognizer(str(tmp_path / "none.ckpt"))
