"""SAVEE: the Surrey audio-visual expressed emotion database."""

import re
from pathlib import Path

from ser.corpora.base import Corpus, Problem, Published, Utterance

_EMOTIONS = {
    "n": "neutral",
    "h": "happy",
    "sa": "sad",
    "a": "angry",
    "f": "fearful",
    "d": "disgust",
    "su": "surprised",
}
_SPEAKERS = ("DC", "JE", "JK", "KL")
_NAME = re.compile(
    rf"(?:(?P<speaker>{'|'.join(_SPEAKERS)})_)?(?P<emotion>sa|su|a|d|f|h|n)(?P<number>\d\d)",
    re.IGNORECASE,
)


class Savee(Corpus):
    """SAVEE: four English men of 27 to 31 years, 480 clips, 0.51 h, 44.1 kHz, seven emotions.

    Two layouts: `AudioData/{DC,JE,JK,KL}/a01` as distributed and `ALL/DC_a01` as on Kaggle.
    15 clips an emotion and speaker, 30 neutral. KL is 20 to 25 dB quieter than the others, and
    the other three clip. All four are men: sex is confounded with corpus. The sentences (TIMIT)
    are not named by the files.
    Source: cvssp.org/savee, on registration only.
    """

    name = "savee"
    title = "SAVEE"
    licence = "research only, on registration"
    citation = "Haq & Jackson (2010), Machine Audition, ch. 17, 398-423"
    url = "http://cvssp.org/savee/"
    recording = "acted by four men, on read sentences"
    emotions = tuple(_EMOTIONS.values())
    folders = (
        "savee",
        "AudioData",
        "surrey-audiovisual-expressed-emotion-savee",
        "savee-database",
    )
    name_rule = "`{DC|JE|JK|KL}/{a|d|f|h|n|sa|su}NN` or `{DC|JE|JK|KL}_{a|d|f|h|n|sa|su}NN`"
    published = Published(
        clips=480,
        speakers=4,
        by_emotion={emotion: 120 if emotion == "neutral" else 60 for emotion in emotions},
    )
    registration = (
        "SAVEE is given on registration only: register at http://cvssp.org/savee/, then put its "
        "AudioData folder (or the files DC_a01.wav, ...) into data/savee/."
    )

    def parse(self, path: Path) -> Utterance | Problem | None:
        """Read emotion and number from the name, the speaker from the name or the folder."""
        match = _NAME.fullmatch(path.stem)
        speaker = ((match and match["speaker"]) or path.parent.name).upper()
        if match is None or speaker not in _SPEAKERS:
            return self.unknown_name(path)
        emotion = match["emotion"].lower()
        return Utterance(
            id=f"{self.name}/{speaker}_{emotion}{match['number']}",
            path=path,
            corpus=self.name,
            speaker=f"{self.name}_{speaker}",
            emotion=_EMOTIONS[emotion],
            sex="male",
            language="en",
        )
