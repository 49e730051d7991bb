"""The utterances of a long recording: what lies between its pauses."""

from collections.abc import Iterator

import numpy as np

from ser.audio import Waveform
from ser.features.speech import FRAME_S, RANGE_DB, frame_energy

PAUSE_S = 0.5  # shorter ones are within an utterance
MARGIN_S = 0.1  # kept on either side
LEAST_S = 0.3  # what is shorter is a click or a cough
MOST_S = 12.0  # what is longer is cut where it is quietest
_SMOOTHED, _SHARE = 5, 0.4


def utterances_of(waveform: Waveform, sample_rate_hz: int) -> list[tuple[float, float]]:
    """Begin and end in seconds of each utterance of mono samples, in order.

    A moment is speech if its level, over 100 ms, is at most 35 dB below the loud ones (their 95th
    percentile) and 40 % of the way or more from the quiet ones (the 10th) up to them: noise
    between the words that lasts is a pause. Music and other voices are speech to it.
    """
    energy = np.pad(frame_energy(waveform, sample_rate_hz), _SMOOTHED // 2, mode="edge")
    level_db = 10 * np.log10(np.convolve(energy, np.ones(_SMOOTHED) / _SMOOTHED, "valid") + 1e-12)
    quiet, loud = np.percentile(level_db, [10, 95])
    speech = level_db >= max(loud - RANGE_DB, quiet + _SHARE * (loud - quiet))
    margin, seconds = round(MARGIN_S / FRAME_S), len(waveform) / sample_rate_hz
    wider = [(max(0, a - margin), min(b + margin, len(speech))) for a, b in _runs(speech)]
    pieces = [piece for one in wider for piece in _short(*one, level_db)]
    return [(a * FRAME_S, min(b * FRAME_S, seconds)) for a, b in pieces] or [(0.0, seconds)]


def _runs(speech: np.ndarray) -> Iterator[tuple[int, int]]:
    """First frame and end of each stretch of speech, over its short pauses."""
    begins, ends = np.flatnonzero(np.diff(np.pad(speech.astype(int), 1))).reshape(-1, 2).T
    apart = np.flatnonzero((begins[1:] - ends[:-1]) * FRAME_S >= PAUSE_S)
    firsts, lasts = np.append(0, apart + 1), np.append(apart, len(begins) - 1)
    for begin, end in zip(begins[firsts], ends[lasts], strict=True):
        if (end - begin) * FRAME_S >= LEAST_S:
            yield int(begin), int(end)


def _short(begin: int, end: int, level_db: np.ndarray) -> Iterator[tuple[int, int]]:
    """A stretch, or its parts, cut at the quietest moment of the middle half."""
    if (end - begin) * FRAME_S <= MOST_S:
        yield begin, end
        return
    quarter = (end - begin) // 4
    cut = begin + quarter + int(level_db[begin + quarter : end - quarter].argmin())
    yield from _short(begin, cut, level_db)
    yield from _short(cut, end, level_db)
