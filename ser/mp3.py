"""How much an MP3 holds, counted by its frames: what a decoder only guesses without a Xing header.

libsndfile takes the length of such a file from its first bit rate and stops there: of a variable
bit rate that begins high it loses the end, without a word.
"""

_KBITS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s of layer III by index from 1: MPEG-1 (ISO 11172-3), and MPEG-2 and 2.5 (ISO 13818-3)."""
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_LAYER_3 = 1
_ID3_BYTES = 10
_MOST_JUNK = 65_536
"""Bytes before the first frame that are searched for it."""
SLACK_FRAMES = 8
"""What a decoder may leave out for good reason: the header's own frame, and the encoder's delay."""


def cut_short(content: bytes, decoded: int) -> str:
    """What is wrong where an MP3's frames hold more than the samples `decoded`, else nothing."""
    frames, samples_each = _count_frames(content)
    if decoded >= (frames - SLACK_FRAMES) * samples_each:
        return ""
    return (
        f"an MP3 of variable bit rate without a Xing header, of which {decoded} of about "
        f"{frames * samples_each} samples can be decoded; convert it to WAV or FLAC with ffmpeg"
    )


def length_is_guessed(content: bytes) -> bool:
    """Whether the first frame of an MP3 does not say how long it is."""
    place = _start(content)
    header = _read_header(content[place : place + 4])
    first = content[place : place + header[0]] if header else b""
    return not any(name in first for name in (b"Xing", b"Info", b"VBRI"))


def _count_frames(content: bytes) -> tuple[int, int]:
    """Whole layer III frames in a row from the first one, and the samples in each."""
    place = _start(content)
    frames = samples = 0
    while header := _read_header(content[place : place + 4]):
        n_bytes, samples = header
        if place + n_bytes > len(content):
            break
        frames, place = frames + 1, place + n_bytes
    return frames, samples


def _start(content: bytes) -> int:
    """The first frame: past all ID3v2 tags, and past junk, which no second frame follows."""
    place = 0
    while content[place : place + 3] == b"ID3" and len(content) >= place + _ID3_BYTES:
        place += _tag_bytes(content[place : place + _ID3_BYTES])
    sync = content.find(0xFF, place, place + _MOST_JUNK)
    while sync >= 0:
        if header := _read_header(content[sync : sync + 4]):
            after = sync + header[0]
            if after >= len(content) or _read_header(content[after : after + 4]):
                return sync
        sync = content.find(0xFF, sync + 1, place + _MOST_JUNK)
    return place


def _tag_bytes(head: bytes) -> int:
    """Of an ID3v2 tag with its head: its size has seven bits a byte."""
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte & 0x7F
    return _ID3_BYTES + size


def _read_header(header: bytes) -> tuple[int, int] | None:
    """A frame's bytes and samples; None for what is no layer III header, or a free bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    rate, kbits, padding = header[2] >> 2 & 3, header[2] >> 4, header[2] >> 1 & 1
    if version not in _RATES_HZ or layer != _LAYER_3 or rate == 3 or not 1 <= kbits <= 14:
        return None
    samples = 1152 if version == 3 else 576
    bits = 1000 * _KBITS[version == 3][kbits - 1]
    return samples // 8 * bits // _RATES_HZ[version][rate] + padding, samples
