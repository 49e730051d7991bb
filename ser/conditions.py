"""Listening conditions by name: what is done to every clip of an evaluation, and how badly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ser.audio import Waveform
from ser.babble import Voices
from ser.degrade import (
    MP3_KBIT_S,
    add_noise,
    change_level,
    change_speed,
    clip_peaks,
    mp3,
    pink_noise,
    reverberate,
    telephone,
    white_noise,
)
from ser.errors import SerError

_Change = Callable[[Waveform, int, float, np.random.Generator], Waveform]

_CHANGES: dict[str, _Change] = {
    "white": lambda w, hz, snr, draw: add_noise(w, white_noise(len(w), hz, draw), snr, hz),
    "pink": lambda w, hz, snr, draw: add_noise(w, pink_noise(len(w), hz, draw), snr, hz),
    "reverb": reverberate,
    "telephone": lambda w, hz, _, __: telephone(w, hz),
    "mp3": lambda w, hz, kbit_s, _: mp3(w, hz, kbit_s),
    "clipping": lambda w, _, share, __: clip_peaks(w, share),
    "level": lambda w, _, gain_db, __: change_level(w, gain_db),
    "speed": lambda w, hz, factor, _: change_speed(w, hz, factor),
}
FAMILIES = ("babble", *_CHANGES)
NOISES = ("babble", "white", "pink")
LABELS = {
    "babble": "babble {:g} dB SNR", "white": "white {:g} dB SNR", "pink": "pink {:g} dB SNR",
    "reverb": "reverb {:g} s RT60", "telephone": "telephone", "mp3": "mp3 {:g} kbit/s",
    "clipping": "clipping at {:g} of the peak", "level": "level {:g} dB", "speed": "speed ×{:g}",
}  # fmt: skip
"""A condition in words: family, and what its severity counts."""
BOUNDS = {
    "babble": (-100, 100), "white": (-100, 100), "pink": (-100, 100), "reverb": (0.01, 20),
    "telephone": (1, 1), "mp3": MP3_KBIT_S, "clipping": (0.001, 1), "level": (-60, 60),
    "speed": (0.25, 4),
}  # fmt: skip
"""The least and the most of each severity: beyond them there is no change, or no speech is left."""


@dataclass(frozen=True)
class Degradation:
    """One family at one severity, as `ser.augment.Augmented` applies it to clips.

    The draws follow from the clip's content alone, so every severity, arm and run hears the same
    noise. Severity: decibels of speech over noise (babble, white, pink), RT60 in seconds (reverb),
    kbit/s (mp3), share of the peak (clipping), decibels (level), factor (speed); telephone has
    one only, without meaning.
    """

    family: str
    severity: float
    voices: Voices | None = None  # for babble

    def settings(self) -> dict[str, str | float | int]:
        """All that determines the numbers; babble adds the pool that it is mixed from."""
        plain: dict[str, str | float | int] = {
            "family": self.family,
            "severity": float(self.severity),
            "version": 1,
        }
        return plain | ({"voices": self._pool.digest} if self.family == "babble" else {})

    @property
    def label(self) -> str:
        """Family and severity in words."""
        return LABELS[self.family].format(self.severity)

    @property
    def _pool(self) -> Voices:
        if self.voices is None:
            raise SerError("Babble is mixed from clips: give Degradation the `voices`.")
        return self.voices

    def __call__(self, waveform: Waveform, sample_rate_hz: int, seed: int, key: str) -> Waveform:
        """The degraded clip (samples,) float32; `key` is the hash of the clip's content.

        Raises SerError for a silent clip where its level is needed, naming it by `key`.
        """
        draw = np.random.default_rng(seed)
        try:
            if self.family != "babble":
                return _CHANGES[self.family](waveform, sample_rate_hz, self.severity, draw)
            noise = self._pool.babble(key, len(waveform), sample_rate_hz, draw)
            return add_noise(waveform, noise, self.severity, sample_rate_hz)
        except SerError as error:
            raise SerError(f"{self.family} on the clip of content {key[:12]}: {error}") from error


def chosen_families(asked: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """The families that `robustness=` names, in the order of `known`.

    A family, several, `noise` for all three noises or `all`. Raises SerError for another word.
    """
    words = [asked] if isinstance(asked, str) else list(asked)
    groups = {"all": tuple(known), "noise": NOISES} | {family: (family,) for family in FAMILIES}
    wrong = [str(word) for word in words if word not in groups]
    if wrong or not words:
        raise SerError(
            f"robustness={','.join(wrong) or '[]'} is no condition: choose all, noise or a list of "
            f"{', '.join(FAMILIES)}."
        )
    chosen = {family for word in words for family in groups[word]}
    return [family for family in known if family in chosen]


def chosen_severities(
    asked: str | Sequence[str], severities: Mapping[str, Sequence[float]]
) -> list[tuple[str, float]]:
    """Every family and severity asked for, by family, in the order of `severities`.

    Raises SerError for a family that does not exist or is given no severity, and for a severity
    that is no number, beyond its bounds or named twice.
    """
    unknown = sorted(set(severities) - set(FAMILIES))
    if unknown:
        raise SerError(
            f"severities names {', '.join(unknown)}, which is no condition: there are "
            f"{', '.join(FAMILIES)}."
        )
    families = chosen_families(asked, list(severities))
    empty = [family for family in families if severities[family] in (None, [])]
    if empty or not families:
        raise SerError(
            f"robustness={asked}: severities.{empty[0] if empty else asked} is empty, so there is "
            "nothing to score. Give it a severity or more, as conf/evaluate.yaml does."
        )
    for family in families:
        _check_severities(family, severities[family])
    return [(family, severity) for family in families for severity in severities[family]]


def _check_severities(family: str, given: object) -> None:
    least, most = BOUNDS[family]
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else []
    fit = [isinstance(n, int | float) and least <= n <= most for n in several]
    if not fit or not all(fit) or len(set(several)) < len(several):
        rule = f"numbers from {least:g} to {most:g}" if least < most else f"[{least:g}] alone"
        raise SerError(
            f"severities.{family}={given}: it must be a list of {rule}, each once "
            f"({LABELS[family].replace('{:g}', 'n')}). conf/evaluate.yaml has it as an example."
        )


def conditions_of(
    asked: str | Sequence[str], severities: Mapping[str, Sequence[float]], voices: Voices
) -> list[Degradation]:
    """Every condition asked for; raises as `chosen_severities` does."""
    return [Degradation(*chosen, voices) for chosen in chosen_severities(asked, severities)]
