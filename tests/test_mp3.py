"""MP3s that a decoder would cut short without a word."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser.audio import read_audio
from ser.errors import SerError
from ser.mp3 import cut_short
from ser.probe import probe_file


def write_mp3(
    path: Path, rate_hz: int = 16_000, *, channels: int = 1, mode: str = "VARIABLE", falls: bool
) -> Path:
    """Six seconds, half noise and half silence: the bit rate falls, or rises."""
    n = 6 * rate_hz
    loud = (np.arange(n)[:, None] < n // 2) == falls
    samples = np.random.default_rng(0).normal(0, 0.2, (n, channels)) * loud
    with soundfile.SoundFile(
        path, "w", rate_hz, channels, format="MP3", compression_level=0.5, bitrate_mode=mode
    ) as file:
        file.write(samples)
    return path


def without_header(path: Path) -> Path:
    """The same without its first frame, which says how long the file is."""
    content = path.read_bytes()
    bare = path.with_stem("bare")
    bare.write_bytes(content[content.find(content[:2], 40) :])
    return bare


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000])
def test_whole_files_are_whole(rate_hz, channels, mode, tmp_path):
    path = write_mp3(tmp_path / "a.mp3", rate_hz, channels=channels, mode=mode, falls=True)
    samples, _ = read_audio(path)
    assert len(samples) == 6 * rate_hz and probe_file(path).problem == ""


@pytest.mark.parametrize(("mode", "falls"), [("CONSTANT", True), ("VARIABLE", False)])
def test_what_is_decoded_in_whole_needs_no_header(mode, falls, tmp_path):
    path = without_header(write_mp3(tmp_path / "a.mp3", mode=mode, falls=falls))
    assert probe_file(path).problem == "" and probe_file(path).duration_s > 6


def test_a_file_that_says_how_long_it_was_is_truncated(tmp_path):
    path = write_mp3(tmp_path / "a.mp3", falls=True)
    path.write_bytes(path.read_bytes()[:9000])
    assert probe_file(path).problem.startswith("truncated: the header promises 96000 samples")


TAG = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
PICTURE = b"ID3\x04\x00\x00\x00\x08\x00\x00" + bytes(8 << 14)  # more than is searched
# a frame's header that no second one follows
JUNK = bytes(99) + b"\xff\xf3\x84\xc4" + bytes(99)


@pytest.mark.parametrize("tag", [b"", TAG, TAG + TAG, JUNK, TAG + JUNK])
def test_a_bit_rate_that_falls_does(tag, tmp_path):
    path = without_header(write_mp3(tmp_path / "a.mp3", falls=True))
    path.write_bytes(tag + path.read_bytes())
    assert probe_file(path).problem.startswith("cut short: an MP3 of variable bit rate")
    with pytest.raises(SerError, match=r"bare\.mp3: an MP3 .* of about 97\d\d\d samples .* FLAC"):
        read_audio(path)


def test_frames_are_counted_past_a_tag_that_is_more_than_is_searched(tmp_path):
    content = write_mp3(tmp_path / "a.mp3", falls=True).read_bytes()
    assert cut_short(TAG + PICTURE + content, 5000) == cut_short(content, 5000) != ""


@pytest.mark.parametrize("content", [b"", b"no audio at all", b"ID3"])
def test_what_holds_no_frame_is_not_cut_short(content):
    assert cut_short(content, 0) == ""


def test_the_format_decides_and_not_the_name(tmp_path):
    path = without_header(write_mp3(tmp_path / "a.mp3", falls=True)).rename(tmp_path / "b.wav")
    assert probe_file(path).problem.startswith("cut short: an MP3 of variable bit rate")
