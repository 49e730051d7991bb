"""Who speaks what in the demo corpora, and under which names: the layouts of the real ones."""

import csv
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from ser.corpora.demo.delivery import PUNCTUATION, Speaker, draw_delivery, speak
from ser.corpora.demo.espeak import Espeak

_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-029")
_VARIANTS = {"male": ("m1", "m2", "m3", "m4", "m5", "m7", "m8"),
             "female": ("f1", "f2", "f3", "f4", "f5")}  # fmt: skip
_README = """This speech is SYNTHETIC. espeak-ng spoke it, and a program chose how each emotion \
sounds.
It is named and laid out like RAVDESS, TESS, CREMA-D and SAVEE so that the same programs read it,
but it holds nothing of them. Figures measured on it say nothing about people.
"""

_RAVDESS_ACTORS = range(1, 9)
_RAVDESS_STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
_TESS_WORDS = ("back", "bar", "chair", "dog", "fall", "gun", "home", "jar")
_TESS_CODES = {"angry": "angry", "disgust": "disgust", "fearful": "fear", "happy": "happy",
               "neutral": "neutral", "surprised": "ps", "sad": "sad"}  # fmt: skip
_CREMA_D_ACTORS = range(1001, 1011)
_CREMA_D_CODES = {"neutral": "NEU", "happy": "HAP", "sad": "SAD", "angry": "ANG", "fearful": "FEA",
                  "disgust": "DIS"}  # fmt: skip
_CREMA_D_SENTENCES = {"IEO": "It's eleven o'clock", "DFA": "Don't forget a jacket",
                      "TSI": "The surface is slick"}  # fmt: skip
_CREMA_D_LEVELS = {"LO": 0.7, "HI": 1.25, "XX": 1.0}
_SAVEE_CODES = {"neutral": "n", "happy": "h", "sad": "sa", "angry": "a", "fearful": "f",
                "disgust": "d", "surprised": "su"}  # fmt: skip
_SAVEE_SENTENCES = ("The boat left at noon", "Her coat hangs in the hall",
                    "We met them at the station", "He put the letters away",
                    "The garden needs some rain", "They painted the fence blue")  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """One file to write."""

    path: str
    """Below the demo's folder."""
    speaker: Speaker
    emotion: str
    text: str
    sample_rate_hz: int
    strength: float


def write_corpora(folder: Path, *, seed: int) -> None:
    """Speak every clip into `folder`, with CREMA-D's demographics and a README."""
    espeak = Espeak()
    for clip in plan_clips(seed):
        _write_clip(espeak, clip, folder, seed)
    _write_demographics(folder / "crema_d" / "VideoDemographics.csv", seed)
    (folder / "README.txt").write_text(_README, encoding="utf-8")


def plan_clips(seed: int) -> tuple[Clip, ...]:
    """All clips of the four corpora, in the order in which they are spoken."""
    corpora = (_ravdess(seed), _tess(seed), _crema_d(seed), _savee(seed))
    return tuple(clip for corpus in corpora for clip in corpus)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A random generator of its own for each seed and purpose."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def _write_clip(espeak: Espeak, clip: Clip, folder: Path, seed: int) -> None:
    import soundfile

    speaker = clip.speaker
    manner = generator(seed, f"{speaker.corpus} {speaker.code} {clip.emotion}")
    moment = generator(seed, clip.path)
    strength = clip.strength * speaker.expressiveness
    delivery = draw_delivery(clip.emotion, strength, manner, moment)
    text = clip.text + PUNCTUATION.get(clip.emotion, ".")
    samples = speak(espeak, text, speaker, delivery, clip.sample_rate_hz, moment)
    path = folder / clip.path
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, clip.sample_rate_hz, subtype="PCM_16")


def _cast(
    corpus: str, code: str, sex: str, seed: int, *, level_dbfs: float, expressiveness: float
) -> Speaker:
    """A speaker's voice, drawn from corpus and code around the corpus' level and acting."""
    random = generator(seed, f"{corpus} {code}")
    return Speaker(
        corpus=corpus,
        code=code,
        sex=sex,
        voice=f"{random.choice(_ACCENTS)}+{random.choice(_VARIANTS[sex])}",
        tract=float(random.uniform(0.93, 1.07)),
        words_per_minute=float(random.uniform(145, 190)),
        level_dbfs=level_dbfs + float(random.normal(0, 3)),
        expressiveness=expressiveness * float(random.uniform(0.8, 1.2)),
    )


def _ravdess(seed: int) -> Iterator[Clip]:
    """Eight actors, two statements, two intensities; as quiet as the real one."""
    for actor in _RAVDESS_ACTORS:
        sex = "male" if actor % 2 else "female"
        speaker = _cast("ravdess", f"{actor:02d}", sex, seed, level_dbfs=-40, expressiveness=1.0)
        for number, emotion in enumerate(_EMOTIONS, start=1):
            for intensity in ("01",) if emotion == "neutral" else ("01", "02"):
                for statement, text in _RAVDESS_STATEMENTS.items():
                    name = f"03-01-{number:02d}-{intensity}-{statement}-01-{actor:02d}.wav"
                    path = f"ravdess/Actor_{actor:02d}/{name}"
                    strength = 1.25 if intensity == "02" else 0.9
                    yield Clip(path, speaker, emotion, text, 48_000, strength)


def _tess(seed: int) -> Iterator[Clip]:
    """Two women, seven emotions, eight words."""
    for code in ("OAF", "YAF"):
        speaker = _cast("tess", code, "female", seed, level_dbfs=-26, expressiveness=1.3)
        for emotion, token in _TESS_CODES.items():
            for word in _TESS_WORDS:
                path = f"tess/{code}_{token}/{code}_{word}_{token}.wav"
                yield Clip(path, speaker, emotion, f"Say the word {word}", 24_414, 1.0)


def _crema_d(seed: int) -> Iterator[Clip]:
    """Ten actors, six emotions, three sentences, one of them at two levels; faintly acted."""
    for actor in _CREMA_D_ACTORS:
        sex = _crema_d_sex(actor)
        speaker = _cast("crema_d", str(actor), sex, seed, level_dbfs=-30, expressiveness=0.85)
        for emotion, code in _CREMA_D_CODES.items():
            for sentence, text in _CREMA_D_SENTENCES.items():
                leveled = sentence == "IEO" and emotion != "neutral"
                for level in ("LO", "HI") if leveled else ("XX",):
                    path = f"crema_d/AudioWAV/{actor}_{sentence}_{code}_{level}.wav"
                    yield Clip(path, speaker, emotion, text, 16_000, _CREMA_D_LEVELS[level])


def _savee(seed: int) -> Iterator[Clip]:
    """Four men, three clips an emotion and six neutral, as six sentences go round; KL is quiet."""
    for code in ("DC", "JE", "JK", "KL"):
        level_dbfs = -44 if code == "KL" else -22
        speaker = _cast("savee", code, "male", seed, level_dbfs=level_dbfs, expressiveness=1.0)
        said = count()
        for emotion, letters in _SAVEE_CODES.items():
            for number in range(1, 7 if emotion == "neutral" else 4):
                text = _SAVEE_SENTENCES[next(said) % len(_SAVEE_SENTENCES)]
                path = f"savee/AudioData/{code}/{letters}{number:02d}.wav"
                yield Clip(path, speaker, emotion, text, 44_100, 1.0)


def _crema_d_sex(actor: int) -> str:
    return "male" if actor % 2 else "female"


def _write_demographics(path: Path, seed: int) -> None:
    """VideoDemographics.csv with the columns of the real one."""
    ages = generator(seed, "ages").integers(20, 75, len(_CREMA_D_ACTORS))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("ActorID", "Age", "Sex", "Race", "Ethnicity"))
        for actor, age in zip(_CREMA_D_ACTORS, ages, strict=True):
            sex = _crema_d_sex(actor).capitalize()
            writer.writerow((actor, int(age), sex, "Synthetic", "Synthetic"))
