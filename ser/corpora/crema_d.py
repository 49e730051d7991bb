"""CREMA-D: 91 actors, twelve sentences, six emotions."""

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ser.corpora.base import Corpus, Listing, Problem, Published, Utterance
from ser.corpora.sources import GitLfs
from ser.errors import SerError

_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
_EMOTIONS = {
    "NEU": "neutral",
    "HAP": "happy",
    "SAD": "sad",
    "ANG": "angry",
    "FEA": "fearful",
    "DIS": "disgust",
}
_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high"}
_NAME = re.compile(
    rf"(?P<actor>10(?:0[1-9]|[1-8]\d|9[01]))_(?P<sentence>{'|'.join(_SENTENCES)})"
    rf"_(?P<emotion>{'|'.join(_EMOTIONS)})_(?P<level>LO|MD|HI|XX?)"
)
_DEMOGRAPHICS = "VideoDemographics.csv"
_REPOSITORY = "https://github.com/CheyneyComputerScience/CREMA-D"
_MEDIA = "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/"


@dataclass(frozen=True, slots=True)
class _Actor:
    age: int
    sex: str


class CremaD(Corpus):
    """CREMA-D: 91 actors of 20 to 74 years (48 men, 43 women), 7,442 clips, 5.26 h, 16 kHz.

    Files are named `{actor}_{sentence}_{emotion}_{level}`; levels LO, MD, HI for the sentence IEO
    only, XX elsewhere (older copies hold `1040_ITH_SAD_X`, with one X). Age and sex come from
    `VideoDemographics.csv`, looked for in the root, above it and below it. Published faults:
    `1076_MTI_SAD_XX` is silent, and three pairs of files hold the same samples under different
    labels; of each pair we leave out the one that TensorFlow Datasets leaves out, if both are
    there. 7,438 clips remain. The repository keeps its audio in git-lfs: a plain clone or zip
    holds pointers instead of audio. Listeners who only hear reach the acted label in 40 % of
    ratings, and answer neutral for 53 % of sad.
    Source: github CheyneyComputerScience/CREMA-D.
    """

    name = "crema_d"
    title = "CREMA-D"
    licence = "ODbL 1.0 (contents: DbCL 1.0)"
    citation = "Cao et al. (2014), IEEE Transactions on Affective Computing 5(4): 377-390"
    url = _REPOSITORY
    recording = "acted, on twelve sentences"
    emotions: ClassVar[tuple[str, ...]] = tuple(_EMOTIONS.values())
    folders = ("crema_d", "CREMA-D-master")
    name_rule = "`{actor}_{sentence}_{emotion}_{level}`, as `1001_DFA_ANG_XX.wav`"
    published = Published(
        clips=7442,
        speakers=91,
        by_emotion={emotion: 1087 if emotion == "neutral" else 1271 for emotion in emotions},
    )
    source: ClassVar[GitLfs] = GitLfs(
        zip_url=f"{_REPOSITORY}/archive/refs/heads/master.zip",
        media_url=_MEDIA,
        folder="AudioWAV",
        extra_files=(_DEMOGRAPHICS,),
    )
    known_faults: ClassVar[dict[str, str]] = {"crema_d/1076_MTI_SAD_XX": "published silent"}
    known_twins: ClassVar[dict[str, str]] = {
        "crema_d/1006_TIE_NEU_XX": "crema_d/1006_TIE_HAP_XX",
        "crema_d/1013_WSI_DIS_XX": "crema_d/1013_WSI_SAD_XX",
        "crema_d/1017_IWW_FEA_XX": "crema_d/1017_IWW_ANG_XX",
    }

    def list(self) -> Listing:
        """List the clips, with age and sex where the demographics are there."""
        listing = super().list()
        actors, note = self._demographics()
        return replace(
            listing,
            utterances=tuple(_with_actor(clip, actors) for clip in listing.utterances),
            copies=tuple(_with_actor(clip, actors) for clip in listing.copies),
            notes=(*listing.notes, *note),
        )

    def parse(self, path: Path) -> Utterance | Problem | None:
        """Read actor, sentence, emotion and level from the name."""
        match = _NAME.fullmatch(path.stem)
        if match is None or (match["sentence"] != "IEO" and match["level"] in _INTENSITIES):
            return self.unknown_name(path)
        level = "XX" if match["level"] == "X" else match["level"]
        stem = f"{match['actor']}_{match['sentence']}_{match['emotion']}_{level}"
        return Utterance(
            id=f"{self.name}/{stem}",
            path=path,
            corpus=self.name,
            speaker=f"{self.name}_{match['actor']}",
            emotion=_EMOTIONS[match["emotion"]],
            language="en",
            intensity=_INTENSITIES.get(level),
            text=_SENTENCES[match["sentence"]],
        )

    def _demographics(self) -> tuple[dict[str, _Actor], tuple[str, ...]]:
        """Actors by speaker, and a note where their file is missing."""
        near = (self.root / _DEMOGRAPHICS, self.root.absolute().parent / _DEMOGRAPHICS)
        below = sorted(self.root.rglob(_DEMOGRAPHICS))
        path = next((path for path in (*near, *below) if path.is_file()), None)
        if path is not None:
            return _read_demographics(path), ()
        note = (
            f"crema_d: no {_DEMOGRAPHICS} in {self.root}: age and sex are unknown. Put the "
            f"repository's file there ({_MEDIA}{_DEMOGRAPHICS})"
        )
        return {}, (note,)


def _with_actor(clip: Utterance, actors: dict[str, _Actor]) -> Utterance:
    actor = actors.get(clip.speaker)
    return clip if actor is None else replace(clip, age=actor.age, sex=actor.sex)


def _read_demographics(path: Path) -> dict[str, _Actor]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {
                f"crema_d_{row['ActorID']}": _Actor(int(row["Age"]), row["Sex"].lower())
                for row in csv.DictReader(file)
            }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SerError(
            f"{path} cannot be read as CREMA-D's demographics ({error!r}): it needs the columns "
            f"ActorID, Age and Sex. Take the file anew from {_REPOSITORY}."
        ) from error
