"""Decoding, mixing down, resampling, cropping: against librosa and by hand."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.audio import centre_crop_or_pad, load_waveform, mix_down, read_audio, resample
from ser.decimate import third_of
from ser.errors import SerError


def _noise(n_samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n_samples, channels)).astype(np.float32)


def test_stereo_is_mixed_down_by_the_mean(tmp_path: Path) -> None:
    samples = _noise(1000, channels=2)
    soundfile.write(tmp_path / "stereo.wav", samples, 16_000, subtype="FLOAT")
    read, rate = read_audio(tmp_path / "stereo.wav")
    assert read.shape == (1000, 2) and rate == 16_000
    np.testing.assert_allclose(
        load_waveform(tmp_path / "stereo.wav"), samples.mean(axis=1), atol=1e-7
    )


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"),
                                                 ("wav", "PCM_24"), ("wav", "ULAW")])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_samples_are_bit_for_bit_libsndfiles(
    tmp_path: Path, suffix: str, subtype: str, channels: int
) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, 2 * _noise(5000, channels), 16_000, subtype=subtype)
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    samples, rate = read_audio(path)
    assert rate == 16_000 and samples.dtype == np.float32
    np.testing.assert_array_equal(samples, expected)
    np.testing.assert_array_equal(mix_down(samples), expected.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize("to_hz", [16_000, 22_050])
def test_resampling_equals_librosa(tmp_path: Path, to_hz: int) -> None:
    import librosa

    samples = _noise(24_414, channels=2)
    soundfile.write(tmp_path / "a.wav", samples, 24_414, subtype="FLOAT")
    expected = librosa.resample(librosa.to_mono(samples.T), orig_sr=24_414, target_sr=to_hz)
    waveform = load_waveform(tmp_path / "a.wav", to_hz)
    assert waveform.dtype == np.float32 and waveform.shape == expected.shape
    np.testing.assert_allclose(waveform, expected, atol=1e-6)


@pytest.mark.parametrize("to_hz", [16_000, 24_000])  # compiled loops, and soxr as always
@pytest.mark.parametrize("samples", [960, 961, 962, 30_720, 30_721, 178_562])
def test_one_of_many_files_is_resampled_alike(tmp_path: Path, samples: int, to_hz: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _noise(samples), 48_000, subtype="PCM_16")
    alone, among_many = load_waveform(path, to_hz), load_waveform(path, to_hz, many=True)
    assert among_many.dtype == np.float32 and among_many.shape == alone.shape
    np.testing.assert_allclose(among_many, alone, atol=5e-7)


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 959])
def test_a_few_samples_are_resampled_alike(samples: int) -> None:
    waveform = _noise(samples)[:, 0]
    np.testing.assert_allclose(third_of(waveform), resample(waveform, 48_000, 16_000), atol=5e-7)


def test_crop_and_pad_about_the_centre() -> None:
    five = np.arange(1, 6, dtype=np.float32)
    assert centre_crop_or_pad(five, 3).tolist() == [2, 3, 4]
    assert centre_crop_or_pad(five, 5).tolist() == five.tolist()
    assert centre_crop_or_pad(five, 8).tolist() == [0, 1, 2, 3, 4, 5, 0, 0]


def test_errors_name_the_file_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(SerError, match=r"gone\.wav: there is no such file"):
        load_waveform(tmp_path / "gone.wav")
    with pytest.raises(SerError, match="^" + re.escape(f"{tmp_path}: is a folder: name a file")):
        load_waveform(tmp_path)
    pointer = tmp_path / "pointer.wav"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(SerError, match=r"pointer\.wav.*git lfs pull"):
        load_waveform(pointer)
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(SerError, match=r"text\.wav: cannot be decoded"):
        load_waveform(tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(SerError, match=r"empty\.wav: a header without samples"):
        load_waveform(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(9, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(SerError, match=r"nan\.wav: holds samples that are not finite"):
        load_waveform(tmp_path / "nan.wav")


def test_a_file_that_may_not_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.wav").touch()
    monkeypatch.setattr(Path, "open", denied)  # libsndfile says no more than "System error"
    with pytest.raises(SerError, match=r"a\.wav: cannot be opened \(Permission denied\)"):
        load_waveform(tmp_path / "a.wav")
