"""What makes one file unusable: reading it and probing it refuse the same."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic

from ser.audio import load_waveform
from ser.errors import SerError
from ser.probe import content_sha256, probe_file

VOICE = synthetic.tone("a", seconds=0.5)


def refused(path: Path) -> str:
    """The problem of a file, which reading it raises too."""
    problem = probe_file(path).problem
    with pytest.raises(SerError) as caught:
        load_waveform(path)
    assert str(caught.value) == f"{path}: {problem.partition(': ')[2]}."
    return problem


def written(path: Path, samples: np.ndarray, rate_hz: int = 16_000, **options: str) -> Path:
    soundfile.write(path, samples, rate_hz, **options)
    return path


def patched(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_silence(subtype, tmp_path):
    dither = np.random.default_rng(0).integers(-2, 3, 8000) / 32768
    path = written(tmp_path / "a.wav", dither, subtype=subtype)
    assert refused(path) == "all-zero: the file is silent: give one that holds speech"
    dither[1] = 3 / 32768  # one sample that the first look passes over
    assert probe_file(written(path, dither, subtype=subtype)).problem == ""
    assert len(load_waveform(path)) == 8000


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("level", [0.5, -1e-3])
def test_a_constant_offset_is_no_sound(level, subtype, tmp_path):
    flat = np.full(8000, level)
    path = written(tmp_path / "a.wav", flat, subtype=subtype)
    assert refused(path) == "all-zero: the file is silent: give one that holds speech"
    written(path, np.stack([flat, 0 * flat], axis=1), subtype=subtype)
    assert refused(path) == "all-zero: the file is silent: give one that holds speech"
    written(path, np.stack([flat + VOICE / 8, flat - VOICE / 8], axis=1), subtype=subtype)
    assert refused(path).startswith("all-zero: silent once its channels are mixed down")
    flat[1] += 5 / 32768
    assert probe_file(written(path, flat, subtype=subtype)).problem == ""


def test_channels_that_cancel(tmp_path):
    path = written(tmp_path / "a.wav", np.stack([VOICE, -VOICE], axis=1))
    assert refused(path).startswith("all-zero: silent once its channels are mixed down: they canc")
    written(path, np.stack([VOICE, 0 * VOICE], axis=1))
    assert probe_file(path).problem == ""


@pytest.mark.parametrize(("rate_hz", "least"), [(16_000, 320), (44_100, 882)])
def test_a_few_milliseconds(rate_hz, least, tmp_path):
    path = written(tmp_path / "a.wav", VOICE[:least], rate_hz)
    assert probe_file(path).problem == ""
    written(path, VOICE[: least - 1], rate_hz)
    assert refused(path).startswith("too short: lasts ")
    assert "20 ms are the least" in refused(written(path, VOICE[:1], rate_hz))


@pytest.mark.parametrize(("suffix", "options"), [
    ("wav", {}), ("wav", {"subtype": "FLOAT"}), ("flac", {}), ("mp3", {}), ("ogg", {}),
    ("aiff", {}), ("au", {}), ("w64", {}), ("rf64", {}), ("caf", {}),
])  # fmt: skip
def test_half_a_file(suffix, options, tmp_path):
    path = written(tmp_path / f"a.{suffix}", VOICE, **options)
    assert probe_file(path).problem == ""
    synthetic.truncate(path)
    assert refused(path).startswith(("truncated: ", "unreadable: cannot be decoded"))


def test_a_wav_that_its_recorder_never_closed(tmp_path):
    path = written(tmp_path / "a.wav", VOICE)
    patched(path, lambda b: b[:40] + struct.pack("<I", 0) + b[44:])
    expected = "zero-length: the header says that there is no audio, 16000 bytes follow"
    assert refused(path).startswith(expected)


@pytest.mark.parametrize(("content", "told"), [
    (b"", "zero-length: the file is empty"),
    (b"\0\0\0 ftypM4A \0\0\0\0", "unreadable: holds MPEG-4 audio"),
    (b"\x89PNG\r\n\x1a\n", "unreadable: cannot be decoded as audio"),
])  # fmt: skip
def test_what_is_no_audio(content, told, tmp_path):
    (tmp_path / "a.wav").write_bytes(content)
    assert refused(tmp_path / "a.wav").startswith(told)


def test_what_is_no_file(tmp_path):
    assert refused(tmp_path / "a.wav") == "unreadable: there is no such file; mend the path"
    (tmp_path / "b.wav").symlink_to("c.wav")
    assert refused(tmp_path / "b.wav").startswith("unreadable: a link to c.wav, which does not ex")
    assert refused(tmp_path).startswith("unreadable: is a folder")
    (tmp_path / "d.raw").write_bytes(bytes(9))
    assert refused(tmp_path / "d.raw").startswith("unreadable: cannot be decoded")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    assert refused(tmp_path / "a.wav").startswith("unreadable: is no regular file (a pipe")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_beyond_full_scale(subtype, tmp_path):
    wave = VOICE / np.abs(VOICE).max()
    path = written(tmp_path / "a.wav", 99 * wave, subtype=subtype)
    assert probe_file(path).problem == ""
    written(path, 32768 * wave, subtype=subtype)
    assert refused(path).startswith("beyond full scale: its float samples reach 3.28e+04, where")
    for value in (np.nan, np.inf, -np.inf):
        wave[5] = value
        assert refused(written(path, wave, subtype=subtype)).startswith("non-finite: ")


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16", "IMA_ADPCM"])
def test_what_cannot_be_sought_in_is_read_from_its_beginning_to_its_end(subtype, tmp_path):
    path = written(tmp_path / "a.wav", VOICE, 8000, subtype=subtype)
    assert probe_file(path).problem == ""
    read = load_waveform(path, 8000)
    assert len(read) >= len(VOICE) and np.corrcoef(read[: len(VOICE)], VOICE)[0, 1] > 0.9


@pytest.mark.parametrize(("rate_hz", "why"), [
    (999, "unreadable: its header gives"), (1_000, ""), (768_000, "too short: "),
    (768_001, "unreadable: its header gives"), (2**31 - 1, "unreadable: its header gives"),
])  # fmt: skip
def test_a_sample_rate_that_no_speech_has(rate_hz, why, tmp_path):
    path = written(tmp_path / "a.wav", VOICE)
    patched(path, lambda b: b[:24] + struct.pack("<I", rate_hz) + b[28:])
    problem = probe_file(path).problem
    assert problem.startswith(why) and bool(problem) == bool(why)
    assert not problem or refused(path) == problem


def test_a_flac_that_says_no_length(tmp_path):
    path = written(tmp_path / "a.flac", VOICE)
    patched(path, lambda b: b[:21] + bytes([b[21] & 0xF0]) + bytes(4) + b[26:])
    assert "samples, more than fit in memory" in refused(path)


def test_a_name_that_is_not_utf8(tmp_path):
    path = written(tmp_path / "a.wav", VOICE).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    assert probe_file(path).problem == "unreadable: its name is not UTF-8: rename it"
    with pytest.raises(SerError, match=r"\\udce9: its name is not UTF-8"):
        load_waveform(path)


def test_a_name_that_is_too_long(tmp_path):
    assert refused(tmp_path / ("a" * 256)).startswith("unreadable: cannot be opened (File name")


def test_a_file_in_a_folder_that_may_not_be_entered(tmp_path, monkeypatch):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    assert refused(tmp_path / "a.wav").startswith("unreadable: cannot be opened (Permission denied")


def test_content_hash_ignores_the_container_but_not_shape_or_rate(tmp_path):
    wave = np.arange(-500, 500, dtype=np.float32) / 1024
    probes = [
        probe_file(synthetic.write_clip(tmp_path / name, wave)) for name in ("a.wav", "a.flac")
    ]
    assert probes[0] == probes[1]
    column = wave[:, None]
    assert probes[0].sha256 == content_sha256(column, 16000)
    hashes = {
        content_sha256(column, 16000),
        content_sha256(column, 48000),
        content_sha256(wave.reshape(-1, 2), 16000),
    }
    assert len(hashes) == 3


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_truncated(suffix, tmp_path):
    path = synthetic.write_clip(tmp_path / f"a{suffix}", synthetic.tone("a", seconds=2.0))
    assert probe_file(path).problem == ""
    assert probe_file(synthetic.truncate(path)).problem.startswith("truncated: ")


def test_truncated_wav_says_how_much_is_missing(tmp_path):
    path = synthetic.write_clip(tmp_path / "a.wav", synthetic.tone("a", seconds=1.0))
    reason = probe_file(synthetic.truncate(path)).problem
    assert reason.startswith("truncated: the header promises 32000 bytes of audio, the file holds")
    path.write_bytes(path.read_bytes()[:30])
    assert (
        probe_file(path).problem
        == "truncated: the file ends before its audio begins; fetch it again"
    )


def test_streamed_wav_is_not_truncated(tmp_path):
    path = synthetic.write_clip(tmp_path / "a.wav", synthetic.tone("a"))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert probe_file(path).problem == ""


def test_other_broken_files(tmp_path):
    empty, text, silent, noise, header = (tmp_path / f"{n}.wav" for n in "abcde")
    empty.touch()
    text.write_text("this is not audio at all, whatever its name says")
    synthetic.write_clip(silent, np.zeros(800, dtype=np.float32))
    soundfile.write(noise, np.array([0.1, np.nan, np.inf], dtype=np.float32), 16000, "FLOAT")
    synthetic.write_clip(header, np.zeros(0, dtype=np.float32))
    pointer = synthetic.write_pointer(tmp_path / "f.wav")
    assert probe_file(empty).problem.startswith("zero-length: the file is empty (0 bytes)")
    assert probe_file(text).problem.startswith("unreadable: ")
    assert probe_file(silent).problem.startswith("all-zero")
    assert probe_file(noise).problem.startswith("non-finite")
    assert probe_file(header).problem.startswith("zero-length")
    assert "git lfs pull" in probe_file(pointer).problem
    assert "ser data download crema_d" in probe_file(pointer).problem
    assert probe_file(tmp_path / "gone.wav").problem.startswith("unreadable: ")
