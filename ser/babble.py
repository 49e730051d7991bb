"""Babble: other people talking, mixed from the clips of a corpus."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from ser.audio import Waveform, load_waveform
from ser.degrade import FRAME_S, active_frames, active_level_db, frame_power
from ser.errors import SerError

TALKERS = 4  # voices in the babble; each is made equally loud first


@dataclass(frozen=True)
class Voices:
    """Clips that babble is mixed from, and who speaks in every clip that may hear it.

    `paths` is by content hash, the pool; `speakers` by content hash, at least of the pool.
    """

    paths: Mapping[str, Path]
    speakers: Mapping[str, str]

    @functools.cached_property
    def digest(self) -> str:
        """What tells this pool from another."""
        return hashlib.sha256(" ".join(sorted(self.paths)).encode()).hexdigest()[:16]

    @functools.cached_property
    def by_speaker(self) -> dict[str, list[str]]:
        """The pool's content hashes by speaker, both in order, whatever order they came in."""
        clips: dict[str, list[str]] = {}
        for key in sorted(self.paths):
            clips.setdefault(self.speakers[key], []).append(key)
        return dict(sorted(clips.items()))

    def talkers(self, key: str, draw: np.random.Generator) -> list[str]:
        """Speakers to be heard behind clip `key`, never its own.

        Four different ones, or each of the others as evenly often as it goes. Raises SerError
        when the clip is unknown or the pool has no other speaker.
        """
        if key not in self.speakers:
            raise SerError(
                f"Babble for the clip of content {key[:12]}: its speaker is not known, so his own "
                "voice could be mixed in. Give Voices the speakers of all clips that hear it."
            )
        others = [speaker for speaker in self.by_speaker if speaker != self.speakers[key]]
        if not others:
            raise SerError(
                f"Babble is mixed from other speakers' clips, and {self.speakers[key]} is the only "
                "one here. Score clips of two speakers or more, or name the other conditions: "
                "robustness=[white,pink,reverb,telephone,mp3,clipping,level,speed]."
            )
        shuffled = [others[i] for i in draw.permutation(len(others))]
        return [shuffled[i % len(shuffled)] for i in range(TALKERS)]

    def babble(
        self, key: str, n_samples: int, sample_rate_hz: int, draw: np.random.Generator
    ) -> Waveform:
        """Several voices at once, equally loud, their pauses at either end cut: (samples,)."""
        mixed = np.zeros(n_samples, dtype=np.float32)
        for speaker in self.talkers(key, draw):
            mixed += self._talk(self.by_speaker[speaker], n_samples, sample_rate_hz, draw)
        return mixed

    def _talk(
        self, keys: list[str], n_samples: int, sample_rate_hz: int, draw: np.random.Generator
    ) -> Waveform:
        """One speaker's clips in random order, end to end, from somewhere in the first."""
        clips: list[Waveform] = []
        length, start = 0, 0
        for i in cycle(draw.permutation(len(keys))):
            clips.append(_voice(self.paths[keys[i]], sample_rate_hz))
            start = start if length else int(draw.integers(len(clips[0])))
            length += len(clips[-1])
            if length >= start + n_samples:
                return np.concatenate(clips)[start : start + n_samples]
        raise AssertionError("a speaker of the pool has at least one clip")


@functools.lru_cache(maxsize=256)
def _voice(path: Path, sample_rate_hz: int) -> Waveform:
    """A clip from its first active frame to its last, at an active level of 0 dB."""
    waveform = load_waveform(path, sample_rate_hz)
    level_db = active_level_db(waveform, sample_rate_hz)
    power = frame_power(waveform, sample_rate_hz)
    active = np.flatnonzero(active_frames(power))
    length = min(len(waveform), int(FRAME_S * sample_rate_hz))
    spoken = waveform[active[0] * length : (active[-1] + 1) * length]
    return np.asarray(spoken * 10 ** (-level_db / 20), dtype=np.float32)
