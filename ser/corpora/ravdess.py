"""RAVDESS: speech and song of 24 actors."""

import re
from pathlib import Path
from typing import ClassVar

from ser.corpora.base import Corpus, Problem, Published, Utterance
from ser.corpora.sources import Archive, Source

_NAME = re.compile(
    r"03-(?P<channel>01|02)-(?P<emotion>0[1-8])-(?P<intensity>0[12])"
    r"-(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>\d\d)"
)
_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
_INTENSITIES = {"01": "normal", "02": "strong"}
_STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
_RECORD = "https://zenodo.org/records/1188976/files/"


class Ravdess(Corpus):
    """RAVDESS, the speech part: 24 North American actors, 60 clips each, eight emotions.

    Files are named `03-CC-EE-II-SS-RR-AA`: modality (03 = audio alone), channel (01 speech,
    02 song), emotion, intensity (neutral has the normal one only), statement, repetition, actor
    (odd = male). 1,440 clips, 1.48 h, 48 kHz. Recorded very quietly (median RMS -40 dBFS, and
    18 dB from one actor to another). Five files are stereo with equal channels; one pair of
    files holds the same samples. The Kaggle copy holds the whole tree twice.
    Source: Zenodo record 1188976.
    """

    name = "ravdess"
    title = "RAVDESS speech"
    licence = "CC BY-NC-SA 4.0"
    citation = "Livingstone & Russo (2018), PLoS ONE 13(5): e0196391"
    url = "https://zenodo.org/records/1188976"
    recording = "acted by professional actors, in a studio, on two sentences"
    emotions: ClassVar[tuple[str, ...]] = tuple(_EMOTIONS.values())
    folders: ClassVar[tuple[str, ...]] = (
        "ravdess",
        "ravdess_speech",
        "Audio_Speech_Actors_01-24",
        "ravdess-emotional-speech-audio",
    )
    name_rule = "`03-01-EE-II-SS-RR-AA`, as `03-01-05-02-01-02-13.wav`"
    published = Published(
        clips=1440,
        speakers=24,
        by_emotion={emotion: 96 if emotion == "neutral" else 192 for emotion in emotions},
    )
    source: ClassVar[Source | None] = Archive(
        url=_RECORD + "Audio_Speech_Actors_01-24.zip?download=1",
        size_bytes=208_468_073,
        md5="bc696df654c87fed845eb13823edef8a",
        sha256="5d208e01632cc3e5242106fa2af3273e6dc5239fb8143131979ac74c4aa40657",
    )
    known_twins: ClassVar[dict[str, str]] = {
        "ravdess/03-01-03-01-02-02-07": "ravdess/03-01-03-01-02-01-07"
    }
    channel: ClassVar[str] = "01"

    def parse(self, path: Path) -> Utterance | Problem | None:
        """Read the seven fields of the name; None for a clip of the other channel."""
        match = _NAME.fullmatch(path.stem)
        if match is None or not self._is_possible(match):
            return self.unknown_name(path)
        if match["channel"] != self.channel:
            return None
        actor = int(match["actor"])
        return Utterance(
            id=f"{self.name}/{path.stem}",
            path=path,
            corpus=self.name,
            speaker=f"ravdess_{actor:02d}",
            emotion=_EMOTIONS[match["emotion"]],
            sex="male" if actor % 2 else "female",
            language="en",
            intensity=_INTENSITIES[match["intensity"]],
            text=_STATEMENTS[match["statement"]],
        )

    def _is_possible(self, match: re.Match[str]) -> bool:
        """Whether these fields exist: 24 actors, one intensity of neutral, six sung emotions."""
        strong_neutral = match["emotion"] == "01" and match["intensity"] == "02"
        sung = match["channel"] == "01" or match["emotion"] <= "06"
        return 1 <= int(match["actor"]) <= 24 and not strong_neutral and sung


class RavdessSong(Ravdess):
    """RAVDESS, the song part: 23 of the same actors (18 did not sing), 44 clips each.

    Six emotions (no disgust, no surprise): 1,012 clips. Named as the speech, with channel 02; the
    speakers carry the same names as in the speech part, so that no split parts an actor in two.
    """

    name = "ravdess_song"
    title = "RAVDESS song"
    recording = "sung by professional actors, in a studio, on two sentences"
    emotions: ClassVar[tuple[str, ...]] = tuple(_EMOTIONS.values())[:6]
    folders: ClassVar[tuple[str, ...]] = (
        "ravdess_song",
        "Audio_Song_Actors_01-24",
        "ravdess-emotional-song-audio",
    )
    name_rule = "`03-02-EE-II-SS-RR-AA`, as `03-02-05-02-01-02-13.wav`"
    published = Published(
        clips=1012,
        speakers=23,
        by_emotion={emotion: 92 if emotion == "neutral" else 184 for emotion in emotions},
    )
    source: ClassVar[Source | None] = Archive(
        url=_RECORD + "Audio_Song_Actors_01-24.zip?download=1",
        size_bytes=225_505_317,
        md5="5411230427d67a21e18aa4d466e6d1b9",
    )
    known_twins: ClassVar[dict[str, str]] = {}
    channel: ClassVar[str] = "02"
