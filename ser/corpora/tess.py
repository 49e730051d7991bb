"""TESS: the Toronto emotional speech set."""

import re
from pathlib import Path
from typing import ClassVar

from ser.corpora.base import Corpus, Problem, Published, Utterance
from ser.corpora.sources import Dataverse
from ser.labels import canonical_emotion

_NAME = re.compile(
    r"(?P<speaker>OAF|OA|YAF)_(?P<word>[a-z]+)_"
    r"(?P<emotion>angry|disgust|fear|happy|neutral|ps|sad)",
    re.IGNORECASE,
)
_AGES = {"OAF": 64, "YAF": 26}


class Tess(Corpus):
    """TESS: two women say "Say the word …" with 200 words in seven emotions.

    Files are named `{OAF|YAF}_{word}_{emotion}`, OAF the older (64 years) and YAF the younger
    (26); `ps` is pleasant surprise. 2,800 clips, 1.60 h, 24,414 Hz but for OAF_food_fear
    (96 kHz). One file lacks a letter (`OA_bite_neutral`; its id here is that of
    OAF_bite_neutral), folders differ in case and spelling (only the file's name is read), and the
    Kaggle copy nests the whole tree inside itself. Both speakers are women: sex is confounded
    with corpus. Two speakers are too few for validation by speaker.
    Source: Borealis, doi 10.5683/SP2/E8H2MF.
    """

    name = "tess"
    title = "TESS"
    licence = "CC BY-NC-ND 4.0"
    citation = "Pichora-Fuller & Dupuis (2020), Borealis, doi:10.5683/SP2/E8H2MF"
    url = "https://doi.org/10.5683/SP2/E8H2MF"
    recording = "acted by two women, on one carrier phrase"
    emotions = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    folders = (
        "tess",
        "TESS Toronto emotional speech set data",
        "TESS Toronto emotional speech set",
        "toronto-emotional-speech-set-tess",
    )
    name_rule = "`{OAF|YAF}_{word}_{emotion}`, as `OAF_back_angry.wav`"
    published = Published(clips=2800, speakers=2, by_emotion=dict.fromkeys(emotions, 400))
    source: ClassVar[Dataverse] = Dataverse(
        base_url="https://borealisdata.ca", doi="doi:10.5683/SP2/E8H2MF"
    )

    def parse(self, path: Path) -> Utterance | Problem | None:
        """Read speaker, word and emotion from the name, whatever the folder."""
        match = _NAME.fullmatch(path.stem)
        if match is None:
            return self.unknown_name(path)
        speaker = "YAF" if match["speaker"].upper() == "YAF" else "OAF"
        word, emotion = match["word"].lower(), match["emotion"].lower()
        return Utterance(
            id=f"{self.name}/{speaker}_{word}_{emotion}",
            path=path,
            corpus=self.name,
            speaker=f"{self.name}_{speaker}",
            emotion=canonical_emotion(emotion),
            sex="female",
            age=_AGES[speaker],
            language="en",
            text=f"Say the word {word}",
        )
