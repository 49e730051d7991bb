"""The utterances of a long recording: what lies between its pauses."""

from collections.abc import Iterator

import numpy as np

from ser.audio import Waveform

PAUSE_S = 0.5  # shorter ones are within an utterance
MARGIN_S = 0.1  # kept on either side
LEAST_S = 0.3  # what is shorter is a click or a cough
MOST_S = 12.0  # what is longer is cut where it is quietest
_FRAME_S, _SMOOTHED = 0.02, 5
_RANGE_DB, _SHARE = 35.0, 0.4


def utterances_of(waveform: Waveform, sample_rate_hz: int) -> list[tuple[float, float]]:
    """Begin and end in seconds of each utterance of mono samples, in order.

    A moment is speech if its level, over 100 ms, is at most 35 dB below the loud ones (their 95th
    percentile) and 40 % of the way or more from the quiet ones (the 10th) up to them: noise
    between the words that lasts is a pause. Music and other voices are speech to it.
    """
    hop = round(_FRAME_S * sample_rate_hz)
    n_frames = -(-len(waveform) // hop)
    padded = np.zeros(n_frames * hop)
    padded[: len(waveform)] = waveform
    energy = np.pad(np.square(padded.reshape(n_frames, hop)).mean(1), _SMOOTHED // 2, mode="edge")
    level_db = 10 * np.log10(np.convolve(energy, np.ones(_SMOOTHED) / _SMOOTHED, "valid") + 1e-12)
    quiet, loud = np.percentile(level_db, [10, 95])
    speech = level_db >= max(loud - _RANGE_DB, quiet + _SHARE * (loud - quiet))
    pieces = [piece for one in _runs(speech) for piece in _short(*one, level_db)]
    margin, seconds = round(MARGIN_S / _FRAME_S), len(waveform) / sample_rate_hz
    return [
        (max(0, begin - margin) * _FRAME_S, min((end + margin) * _FRAME_S, seconds))
        for begin, end in pieces
    ] or [(0.0, seconds)]


def _runs(speech: np.ndarray) -> Iterator[tuple[int, int]]:
    """First frame and end of each stretch of speech, over its short pauses."""
    begins, ends = np.flatnonzero(np.diff(np.pad(speech.astype(int), 1))).reshape(-1, 2).T
    apart = np.flatnonzero((begins[1:] - ends[:-1]) * _FRAME_S >= PAUSE_S)
    firsts, lasts = np.append(0, apart + 1), np.append(apart, len(begins) - 1)
    for begin, end in zip(begins[firsts], ends[lasts], strict=True):
        if (end - begin) * _FRAME_S >= LEAST_S:
            yield int(begin), int(end)


def _short(begin: int, end: int, level_db: np.ndarray) -> Iterator[tuple[int, int]]:
    """A stretch, or its parts, cut at the quietest moment of the middle half."""
    if (end - begin) * _FRAME_S <= MOST_S:
        yield begin, end
        return
    quarter = (end - begin) // 4
    cut = begin + quarter + int(level_db[begin + quarter : end - quarter].argmin())
    yield from _short(begin, cut, level_db)
    yield from _short(cut, end, level_db)
