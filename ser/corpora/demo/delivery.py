"""How the demo's emotions sound: a point in eight dimensions of delivery, and its making audible.

The directions follow what is known of acted speech (Scherer 2003, Speech Communication 40, table
1): anger, fear and joy are high, lively, fast and loud, sadness low, flat, slow and soft. Sizes and
scatter are ours, set so that the task is neither trivial nor hopeless.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ser.corpora.demo.espeak import Espeak


class Delivery(NamedTuple):
    """Departures from a speaker's neutral delivery."""

    pitch: float
    """Points of espeak's 0-100 scale."""
    pitch_range: float
    """Points of espeak's 0-100 scale."""
    rate: float
    """Natural logarithm of the factor on the words a minute."""
    level_db: float
    tilt_db: float
    """Spectral tilt, dB an octave: positive is brighter."""
    breath: float
    """Noise that follows the voice, as a share of its amplitude."""
    tremor: float
    """Depth of a 5-8 Hz wobble of the amplitude."""
    roughness: float
    """Depth of a 35-70 Hz beat of the amplitude: creak and growl."""


EMOTIONS: dict[str, Delivery] = {
    "neutral": Delivery(0, 0, 0.00, 0, 0.0, 0.00, 0.00, 0.00),
    "calm": Delivery(-5, -12, -0.14, -3, -0.8, 0.10, 0.00, 0.00),
    "happy": Delivery(16, 28, 0.08, 3, 0.9, 0.00, 0.05, 0.00),
    "sad": Delivery(-10, -26, -0.20, -5, -1.6, 0.16, 0.10, 0.05),
    "angry": Delivery(6, 18, 0.14, 7, 2.4, 0.00, 0.00, 0.50),
    "fearful": Delivery(22, -8, 0.20, 0, 0.3, 0.18, 0.50, 0.05),
    "disgust": Delivery(-12, 10, -0.12, 0, -0.4, 0.03, 0.00, 0.50),
    "surprised": Delivery(26, 42, -0.04, 2, 0.9, 0.10, 0.00, 0.00),
}
SCATTER = Delivery(3.5, 7, 0.045, 1.0, 0.35, 0.03, 0.05, 0.05)
"""Standard deviation from clip to clip, and of a speaker's own way with an emotion."""
PUNCTUATION = {"surprised": "?", "angry": "!", "happy": "!", "fearful": "!"}


@dataclass(frozen=True)
class Speaker:
    """A synthetic person."""

    corpus: str
    code: str
    sex: str
    voice: str
    """An espeak voice and variant, as `en-us+f2`."""
    tract: float
    """Factor on all frequencies: a shorter vocal tract has higher formants."""
    words_per_minute: float
    level_dbfs: float
    """RMS of the neutral delivery."""
    expressiveness: float


def draw_delivery(
    emotion: str, strength: float, manner: np.random.Generator, clip: np.random.Generator
) -> Delivery:
    """The emotion at a strength, in the speaker's own manner, never twice the same."""
    scatter = np.array(SCATTER)
    own_way = scatter * manner.standard_normal(len(scatter))
    moment = scatter * clip.standard_normal(len(scatter))
    return Delivery(*(strength * (np.array(EMOTIONS[emotion]) + own_way) + moment))


def speak(
    espeak: Espeak,
    text: str,
    speaker: Speaker,
    delivery: Delivery,
    sample_rate_hz: int,
    clip: np.random.Generator,
) -> np.ndarray:
    """Samples (n,) float32: the text in this voice and delivery, at the speaker's level."""
    import soxr

    voice = espeak.speak(
        text,
        voice=speaker.voice,
        words_per_minute=int(np.clip(speaker.words_per_minute * np.exp(delivery.rate), 90, 400)),
        pitch=int(np.clip(50 + delivery.pitch, 0, 100)),
        pitch_range=int(np.clip(50 + delivery.pitch_range, 0, 100)),
        seed=int(clip.integers(1, 2**31)),
    )
    colored = _color(voice, delivery, espeak.sample_rate_hz, clip)
    pad_s = clip.uniform(0.1, 0.3, size=2)
    padded = np.pad(colored, [int(pad * espeak.sample_rate_hz) for pad in pad_s])
    played = soxr.resample(padded, espeak.sample_rate_hz * speaker.tract, sample_rate_hz, "MQ")
    return _set_level(played, speaker.level_dbfs + delivery.level_db, clip)


def _color(
    voice: np.ndarray, delivery: Delivery, rate_hz: int, clip: np.random.Generator
) -> np.ndarray:
    """Breath, roughness, tremor and tilt."""
    envelope = _smooth(np.abs(voice), rate_hz // 50)
    noise = np.diff(clip.standard_normal(len(voice) + 1))  # differences: +6 dB an octave
    breathy = voice + max(0.0, delivery.breath) * envelope * noise
    seconds = np.arange(len(voice)) / rate_hz
    slow = np.sin(2 * np.pi * (clip.uniform(5, 8) * seconds + clip.random()))
    fast = np.sin(2 * np.pi * (clip.uniform(35, 70) * seconds + clip.random()))
    tremor, roughness = np.clip([delivery.tremor, delivery.roughness], 0, 0.9)
    return _tilt(breathy * (1 + tremor * slow) * (1 + roughness * fast), delivery.tilt_db, rate_hz)


def _smooth(samples: np.ndarray, width: int) -> np.ndarray:
    """Mean of the last `width` samples."""
    sums = np.cumsum(np.pad(samples, (width, 0)))
    return np.asarray((sums[width:] - sums[:-width]) / width)


def _tilt(samples: np.ndarray, db_per_octave: float, rate_hz: int) -> np.ndarray:
    length = 1 << len(samples).bit_length()  # a power of two is several times faster to transform
    frequencies = np.clip(np.fft.rfftfreq(length, 1 / rate_hz), 100, 8000)
    gain = 10 ** (db_per_octave * np.log2(frequencies / 500) / 20)
    return np.fft.irfft(np.fft.rfft(samples, length) * gain, length)[: len(samples)]


def _set_level(samples: np.ndarray, dbfs: float, clip: np.random.Generator) -> np.ndarray:
    """RMS at `dbfs` over a noise floor 45 dB below it; softer where it would clip."""
    loud = samples * 10 ** (dbfs / 20) / np.sqrt(np.mean(samples**2))
    loud += 10 ** ((dbfs - 45) / 20) * clip.standard_normal(len(loud))
    return np.asarray(loud * min(1.0, 0.98 / np.abs(loud).max()), dtype=np.float32)
