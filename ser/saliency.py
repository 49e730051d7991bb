"""Which moments of a clip speak for the emotion that was heard: a curve over time by occlusion.

Occlusion sensitivity (Zeiler & Fergus, ECCV 2014) in one dimension: mute a short window, ask the
model again, and note by how much the log-odds of its answer fall. Any model can be asked, since
only its answers are used.

Limits: what is muted becomes digital silence, which no training clip holds, so part of an effect
may be that oddity; a front-end that levels or normalises over the clip makes every effect reach
beyond its window, as does one that cuts to the speech when the window lies at its edge or makes a
pause of it; a cue that is present everywhere (a voice's pitch, its timbre) is missed by
muting one place at a time, so a flat curve means "spread out", not "unused"; windows of 200 ms
blur anything shorter. A model with enrolment hears each version as its speaker's only recording.
It tells what moves this model on this clip, and not what a person feels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from ser.audio import SAMPLE_RATE_HZ, Waveform, load_waveform
from ser.errors import SerError
from ser.predict import Recognizer

Array = npt.NDArray[np.float64]
Answers = Callable[[Sequence[dict[int, Waveform]]], Array]

WINDOW_S = 0.2  # about a syllable
STEP_S = 0.05
MOST_VERSIONS = 300  # of a clip, each as long as it: longer clips are muted at wider steps
LONGEST_S = MOST_VERSIONS * WINDOW_S  # beyond it windows would leave gaps
RAMP_S = 0.01  # a hard edge would click, and a click is a cue of its own
BATCH_CLIPS = 32  # versions of a clip in memory at a time
FLOOR = 1e-6  # of a probability, in its logarithm


@dataclass(frozen=True, slots=True)
class Saliency:
    """The curve of one clip.

    ``drop: (moments,)`` is how much the log-odds of ``emotion`` fall, in nats, when the window
    around each of ``centres_s: (moments,)`` is muted; above 0 the moment speaks for the emotion.
    """

    emotion: str
    probability: float
    centres_s: Array
    drop: Array
    waveform: Waveform
    sample_rate_hz: int


def saliency_of(recognizer: Recognizer, path: Path) -> Saliency:
    """Mute one window after another of a file and score each version.

    Raises SerError when the file cannot be read, is shorter than a window or too long for windows
    side by side.
    """
    rates = {SAMPLE_RATE_HZ, *(feature.sample_rate_hz for feature in recognizer.features)}
    clip = {rate: load_waveform(path, rate) for rate in rates}
    duration_s = len(clip[SAMPLE_RATE_HZ]) / SAMPLE_RATE_HZ
    if duration_s < WINDOW_S:
        raise SerError(
            f"{path} lasts {1000 * duration_s:.0f} ms, and the windows that are muted in turn last "
            f"{1000 * WINDOW_S:.0f} ms. Choose a longer clip."
        )
    if duration_s > LONGEST_S:
        raise SerError(
            f"{path} lasts {duration_s:.0f} s, and the model is asked again for each window "
            f"that is muted: {LONGEST_S:.0f} s are the most. Cut out the utterance that you mean."
        )

    def answers(versions: Sequence[dict[int, Waveform]]) -> Array:
        # a model with enrolment would take them for so many recordings of one speaker
        groups = [[one] for one in versions] if recognizer.model.adapts else [versions]
        keys = [f"{path}#{number}" for number in range(len(versions))]
        rows = [recognizer.predict_waveforms(group, keys[: len(group)]) for group in groups]
        return np.concatenate(rows).astype(np.float64)

    (whole,) = answers([clip])
    best = int(whole.argmax())
    centres_s, drop = occlusion_curve(answers, clip, whole, best, duration_s)
    return Saliency(
        recognizer.classes[best],
        float(whole[best]),
        centres_s,
        drop,
        clip[SAMPLE_RATE_HZ],
        SAMPLE_RATE_HZ,
    )


def occlusion_curve(
    answers: Answers, clip: dict[int, Waveform], whole: Array, emotion: int, duration_s: float
) -> tuple[Array, Array]:
    """Centres of the muted windows (moments,) in seconds, and the fall in log-odds (moments,).

    ``answers`` gives probabilities (versions, classes); ``whole: (classes,)`` are the clip's own.
    """
    step_s = max(STEP_S, duration_s / (MOST_VERSIONS - 1))
    centres_s = np.arange(0.0, duration_s + step_s / 2, step_s)
    scores = []
    console = Console(stderr=True)
    starts = range(0, len(centres_s), BATCH_CLIPS)
    for start in track(starts, "Muting", console=console, disable=not console.is_terminal):
        versions = [
            {rate: muted(waveform, rate, centre_s) for rate, waveform in clip.items()}
            for centre_s in centres_s[start : start + BATCH_CLIPS]
        ]
        scores.append(log_odds(answers(versions)[:, emotion]))
    return centres_s, log_odds(whole[emotion]) - np.concatenate(scores)


def muted(waveform: Waveform, rate_hz: int, centre_s: float) -> Waveform:
    """The waveform with WINDOW_S around a moment silent; beyond it a raised cosine of RAMP_S.

    At either end of the clip the window reaches over the edge and mutes less.
    """
    time_s = np.arange(len(waveform)) / rate_hz
    beyond_s = np.abs(time_s - centre_s) - WINDOW_S / 2
    fade = 0.5 - 0.5 * np.cos(np.pi * np.clip(beyond_s / RAMP_S, 0, 1))
    return np.asarray(waveform * fade, dtype=np.float32)


def log_odds(probability: npt.ArrayLike) -> Array:
    """ln(p / (1 - p)), probabilities kept FLOOR away from 0 and 1."""
    kept = np.clip(np.asarray(probability, dtype=np.float64), FLOOR, 1 - FLOOR)
    odds: Array = np.log(kept / (1 - kept))
    return odds
