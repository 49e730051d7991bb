"""Audio in, emotions out: the streams that the model is handed, and the table that comes back."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from torch import Tensor

from ser.audio import Waveform, load_waveform
from ser.batch import Batch
from ser.errors import SerError
from ser.features import Feature, LogMel, RawWaveform
from ser.features.base import JSON, Array
from ser.models.base import EmotionModel
from ser.predict import Recognizer

CLASSES = ("happy", "sad", "angry")


class Pooled(Feature):
    """A stand-in for an encoder: half-precision mean and deviation of the samples, two layers."""

    stream = "embedding"
    dtype = np.float16
    sample_rate_hz = 8000

    def settings(self) -> dict[str, JSON]:
        return {"class": "Pooled"}

    def shape(self) -> tuple[int, ...]:
        return (2, 2)

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        return [np.array([[w.mean(), w.std()], [len(w), 0]], np.float16) for w in waveforms]


class Seen(EmotionModel):
    """Keeps the batches that it is shown, and answers what the test tells it to."""

    def __init__(self, logits: Callable[[Batch], list[float]]) -> None:
        super().__init__(3, ())
        self.batches: list[Batch] = []
        self.logits = logits

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset()

    def forward(self, batch: Batch) -> Tensor:
        self.batches.append(batch)
        return torch.tensor([self.logits(batch)])


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """A mono clip of 0.5 s at 16 kHz, and a stereo one of 0.25 s at 44.1 kHz."""
    first, second = synthetic.tone("a", seconds=0.5), synthetic.tone("b", 0, 0, 0.25, 44_100)
    stereo = np.stack([second, np.zeros_like(second)], axis=1)
    return [
        synthetic.write_clip(tmp_path / "a.wav", first),
        synthetic.write_clip(tmp_path / "b.flac", stereo, 44_100),
    ]


def test_a_row_for_each_file(clips):
    logits = {8000: [0.0, 2.0, 1.0], 4000: [3.0, 0.0, 0.0]}
    model = Seen(lambda batch: logits[int(batch.waveform_length)])
    answers = Recognizer(model, (RawWaveform(),), CLASSES).predict_files(clips)
    names = [f"probability_{name}" for name in CLASSES]
    assert list(answers) == ["path", "prediction", "confidence", *names]
    assert answers["path"].tolist() == [str(path) for path in clips]
    assert answers["prediction"].tolist() == ["sad", "happy"]
    for row, values in zip(answers[names].to_numpy(), logits.values(), strict=True):
        expected = np.exp(values) / np.exp(values).sum()
        np.testing.assert_allclose(row, expected, rtol=1e-6)
    assert answers["confidence"].tolist() == answers[names].max(axis=1).tolist()


def test_the_temperature_divides_the_logits(clips):
    model = Seen(lambda batch: [0.0, 2.0, 1.0])
    cool = Recognizer(model, (RawWaveform(),), CLASSES, temperature=2.0).predict_files(clips)
    names = [f"probability_{name}" for name in CLASSES]
    expected = np.exp([0.0, 1.0, 0.5]) / np.exp([0.0, 1.0, 0.5]).sum()
    np.testing.assert_allclose(cool[names].to_numpy()[0], expected, rtol=1e-6)
    assert cool["prediction"].tolist() == ["sad", "sad"]
    assert cool["confidence"].tolist() == cool[names].max(axis=1).tolist()


def test_clips_below_the_threshold_are_uncertain(clips):
    logits = {8000: [0.0, 4.0, 0.0], 4000: [0.1, 0.0, 0.0]}
    model = Seen(lambda batch: logits[int(batch.waveform_length)])
    recognizer = Recognizer(model, (RawWaveform(),), CLASSES, abstain_below=0.6)
    assert recognizer.uncertain(recognizer.predict_files(clips)).tolist() == [False, True]
    never = Recognizer(model, (RawWaveform(),), CLASSES, abstain_below=1.0)
    assert never.uncertain(never.predict_files(clips)).tolist() == [True, True]
    without = Recognizer(model, (RawWaveform(),), CLASSES)
    with pytest.raises(SerError, match="no abstention threshold"):
        without.uncertain(without.predict_files(clips))


def test_every_stream_is_handed_over_as_a_batch_of_one(clips):
    model = Seen(lambda batch: [0.0, 0.0, 0.0])
    logmel = LogMel(n_mels=8, n_fft=512, hop_samples=256, sample_rate_hz=16_000)
    features = (logmel, RawWaveform(), Pooled())
    Recognizer(model, features, CLASSES).predict_files(clips)
    for batch, path, seconds in zip(model.batches, clips, (0.5, 0.25), strict=True):
        n = int(16_000 * seconds)
        assert batch.waveform.shape == (1, n) and batch.waveform_length.tolist() == [n]
        np.testing.assert_array_equal(batch.waveform[0], load_waveform(path))
        assert batch.frames.shape == (1, 1 + n // 256, 8)
        assert batch.frames_length.tolist() == [1 + n // 256]
        assert batch.embedding.shape == (1, 2, 2) and batch.embedding.dtype == torch.float32
        assert batch.embedding[0, 1, 0] == 8000 * seconds  # resampled to the feature's own rate
        assert batch.target.shape == batch.index.shape == (1,)


def test_files_are_answered_alone_whatever_stands_beside_them(clips):
    model = Seen(lambda batch: [0.0, float(batch.waveform.std()), 0.0])
    recognizer = Recognizer(model, (RawWaveform(),), CLASSES)
    together = recognizer.predict_files(clips)
    alone = recognizer.predict_files(clips[1:])
    assert together.iloc[1].tolist() == alone.iloc[0].tolist()


def test_a_file_that_cannot_be_read_is_named(clips, tmp_path):
    recognizer = Recognizer(Seen(lambda batch: [0.0, 0.0, 0.0]), (RawWaveform(),), CLASSES)
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(SerError, match=r"text\.wav: cannot be decoded as audio"):
        recognizer.predict_files([clips[0], tmp_path / "text.wav"])
    with pytest.raises(SerError, match=r"none\.wav: there is no such file"):
        recognizer.predict_files([tmp_path / "none.wav"])


class Adapting(Seen):
    """Adapts to the clips that it is given together."""

    @property
    def adapts(self) -> bool:
        return True

    def forward(self, batch: Batch) -> Tensor:
        self.batches.append(batch)
        return torch.zeros(len(batch.index), 3)


@pytest.mark.parametrize("kind", [Seen, Adapting])
def test_the_good_files_are_answered_and_each_bad_one_is_told_of(clips, tmp_path, kind):
    (tmp_path / "text.wav").write_text("not audio")
    bad = [tmp_path / "text.wav", tmp_path / "none.wav"]
    model, told = kind(lambda batch: [0.0, 2.0, 0.0]), []
    recognizer = Recognizer(model, (RawWaveform(),), CLASSES)
    answers = recognizer.predict_files([bad[0], clips[0], bad[1], clips[1]], told.append)
    assert answers["path"].tolist() == [str(path) for path in clips]
    alone = kind(lambda batch: [0.0, 2.0, 0.0])
    expected = Recognizer(alone, (RawWaveform(),), CLASSES).predict_files(clips)
    assert answers.equals(expected) and len(model.batches) == len(alone.batches)
    assert [str(error).split(":")[0] for error in told] == [str(path) for path in bad]
    none = recognizer.predict_files(bad, told.append)
    assert list(none) == list(answers) and none.empty and len(told) == 4


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_no_number_is_no_answer(clips, broken):
    logits = {8000: [0.0, broken, 0.0], 4000: [0.0, 2.0, 0.0]}
    model, told = Seen(lambda batch: logits[int(batch.waveform_length)]), []
    recognizer = Recognizer(model, (RawWaveform(),), CLASSES)
    assert recognizer.predict_files(clips, told.append)["path"].tolist() == [str(clips[1])]
    (error,) = told
    assert str(error).startswith(f"{clips[0]}: the model's probabilities are not finite")
    with pytest.raises(SerError, match=r"a\.wav: the model's probabilities are not finite"):
        recognizer.predict_files(clips)


def test_each_answer_comes_before_the_next_file_is_read(clips):
    model = Seen(lambda batch: [0.0, 2.0, 0.0])
    answers = Recognizer(model, (RawWaveform(),), CLASSES).answers(clips)
    assert next(answers)[0] == str(clips[0]) and len(model.batches) == 1
    assert next(answers)[0] == str(clips[1]) and len(model.batches) == 2


def test_the_first_file_far_longer_than_a_clip_is_told_of(tmp_path, caplog):
    wave = np.tile(synthetic.tone("a", seconds=0.5, rate_hz=1000), 121)
    names = ("a.wav", "b.wav", "c.wav")
    for name, length in zip(names, (60_000, 60_500, 60_500), strict=True):
        synthetic.write_clip(tmp_path / name, wave[:length], 1000)
    recognizer = Recognizer(Seen(lambda batch: [0.0, 2.0, 0.0]), (RawWaveform(),), CLASSES)
    assert len(recognizer.predict_files([tmp_path / name for name in names])) == 3
    (told,) = caplog.messages
    assert told.startswith(f"warning: {tmp_path / 'b.wav'} lasts 60 s and gets one answer")


def test_a_call_with_a_speaker_in_each_channel_is_told_of_once(tmp_path, caplog):
    voice = synthetic.tone("a", seconds=1.0)
    rest = np.zeros_like(voice)
    call = np.stack([np.append(voice, rest), np.append(rest, voice)], axis=1)
    one = np.stack([np.append(voice, rest)] * 2, axis=1) * [1, 0.2]
    empty = one * [1, 0]
    clips = {"one.wav": one, "empty.wav": empty, "call.wav": call, "other.wav": call[::-1]}
    for name, samples in clips.items():
        synthetic.write_clip(tmp_path / name, samples)
    recognizer = Recognizer(Seen(lambda batch: [0.0, 2.0, 0.0]), (RawWaveform(),), CLASSES)
    recognizer.predict_files([tmp_path / name for name in clips])
    (told,) = caplog.messages
    assert told.startswith(f"warning: {tmp_path / 'call.wav'} has channels that are loud at")


def test_a_fragment_of_a_word_is_told_of_once(tmp_path, caplog):
    names = ("a.wav", "b.wav", "c.wav")
    for name, seconds in zip(names, (0.5, 0.2, 0.2), strict=True):
        synthetic.write_clip(tmp_path / name, synthetic.tone("a", seconds=seconds))
    recognizer = Recognizer(Seen(lambda batch: [0.0, 2.0, 0.0]), (RawWaveform(),), CLASSES)
    recognizer.predict_files([tmp_path / name for name in names])
    (told,) = caplog.messages
    assert told.startswith(f"warning: {tmp_path / 'b.wav'} lasts 0.20 s, less than a word")


def test_what_is_taken_for_one_speakers_is_told(clips, caplog):
    model = Adapting(lambda batch: [])
    Recognizer(model, (RawWaveform(),), CLASSES).predict_files(clips)
    assert "adapted to these 2 recordings together, as those of one speaker" in caplog.text
    caplog.clear()
    Recognizer(Seen(lambda batch: [0.0] * 3), (RawWaveform(),), CLASSES).predict_files(clips)
    assert "adapted" not in caplog.text


def test_each_utterance_of_a_recording_is_answered_with_its_times(tmp_path, caplog):
    voice = synthetic.tone("a", seconds=1.0)
    rest = np.zeros_like(voice)
    long = synthetic.write_clip(tmp_path / "long.wav", np.concatenate([rest, voice] * 31))
    short = synthetic.write_clip(tmp_path / "short.wav", voice)
    model = Seen(lambda batch: [float(batch.waveform_length), 0.0, 0.0])
    recognizer = Recognizer(model, (RawWaveform(),), CLASSES)
    answers = recognizer.predict_files([long, short], utterances=True)
    assert answers["path"].value_counts().to_dict() == {str(long): 31, str(short): 1}
    assert list(answers)[:3] == ["path", "begin_s", "end_s"]
    np.testing.assert_allclose(answers["begin_s"][:31], 0.9 + 2 * np.arange(31), atol=0.08)
    lengths = [int(batch.waveform_length) for batch in model.batches]
    np.testing.assert_allclose(lengths, (answers["end_s"] - answers["begin_s"]) * 16_000, atol=1)
    assert not caplog.messages
