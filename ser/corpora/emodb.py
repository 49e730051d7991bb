"""EmoDB: the Berlin database of emotional speech."""

import re
from pathlib import Path
from typing import ClassVar

from ser.corpora.base import Corpus, Problem, Published, Utterance
from ser.corpora.sources import Archive

_EMOTIONS = {
    "N": "neutral",
    "F": "happy",
    "T": "sad",
    "W": "angry",
    "A": "fearful",
    "E": "disgust",
    "L": "boredom",
}
_SPEAKERS = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
_SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
_NAME = re.compile(
    rf"(?P<speaker>{'|'.join(_SPEAKERS)})(?P<text>{'|'.join(_SENTENCES)})"
    rf"(?P<emotion>[{''.join(_EMOTIONS)}])[a-z]?"
)


class EmoDb(Corpus):
    """EmoDB: ten German actors (five women), ten sentences, seven emotions, one of them boredom.

    Files are named `03a01Fa`: speaker (2 digits), sentence (3), the emotion's German initial
    (W Wut, L Langeweile, E Ekel, A Angst, F Freude, T Trauer, N neutral), and the version.
    535 clips, 0.41 h, 16 kHz. Boredom is in the label set `native` only.
    Source: emodb.bilderbar.info.
    """

    name = "emodb"
    title = "EmoDB"
    licence = "free for research"
    citation = "Burkhardt, Paeschke, Rolfes, Sendlmeier & Weiss (2005), Interspeech"
    url = "http://emodb.bilderbar.info/"
    recording = "acted, on ten sentences"
    emotions: ClassVar[tuple[str, ...]] = tuple(_EMOTIONS.values())
    folders = ("emodb", "berlin-database-of-emotional-speech-emodb")
    name_rule = "`SSTTTEv` (speaker, sentence, emotion, version), as `03a01Fa.wav`"
    published = Published(
        clips=535,
        speakers=10,
        by_emotion={
            "neutral": 79,
            "happy": 71,
            "sad": 62,
            "angry": 127,
            "fearful": 69,
            "disgust": 46,
            "boredom": 81,
        },
    )
    # The publisher gives neither a size nor a checksum for this address.
    source: ClassVar[Archive] = Archive(url="http://emodb.bilderbar.info/download/download.zip")

    def parse(self, path: Path) -> Utterance | Problem | None:
        """Read speaker, sentence and emotion from the name."""
        match = _NAME.fullmatch(path.stem)
        if match is None:
            return self.unknown_name(path)
        sex, age = _SPEAKERS[match["speaker"]]
        return Utterance(
            id=f"{self.name}/{path.stem}",
            path=path,
            corpus=self.name,
            speaker=f"{self.name}_{match['speaker']}",
            emotion=_EMOTIONS[match["emotion"]],
            sex=sex,
            age=age,
            language="de",
            text=_SENTENCES[match["text"]],
        )
