"""Canonical emotions, the label sets that a run may use, and the mapping between them."""

import re
from collections.abc import Iterable

from ser.errors import SerError

EMOTIONS = (
    "neutral",
    "calm",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgust",
    "surprised",
    "boredom",
)
"""Every canonical emotion in the one order that reports, matrices and classes use."""

NATIVE = "native"
"""The label set that keeps a corpus's own classes."""

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "eight": EMOTIONS[:8],
    "seven": ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
    "six": ("neutral", "happy", "sad", "angry", "fearful", "disgust"),
    "four": ("neutral", "happy", "sad", "angry"),
}
"""The fixed label sets. A set without calm takes calm as neutral; what else it lacks is dropped."""

_ALIASES = {
    "anger": "angry",
    "annoyed": "angry",
    "bored": "boredom",
    "calmness": "calm",
    "disgusted": "disgust",
    "fear": "fearful",
    "anxiety": "fearful",
    "afraid": "fearful",
    "happiness": "happy",
    "joy": "happy",
    "neutrality": "neutral",
    "ps": "surprised",
    "pleasant surprise": "surprised",
    "pleasant surprised": "surprised",
    "sadness": "sad",
    "surprise": "surprised",
}


def canonical_emotion(word: str) -> str:
    """Return the canonical emotion that `word` means, whatever its case, spaces or underscores.

    A sign is no hyphen: `-1` and `1` stay two classes.

    A word that is no known emotion comes back lower-cased: a `folder` corpus may bring its own.
    """
    plain = " ".join(re.sub(r"_|(?<=\w)-(?=\w)", " ", word).split()).lower()
    return _ALIASES.get(plain, plain.replace(" ", "_"))


def map_emotion(emotion: str, label_set: str) -> str | None:
    """Return the class of a canonical emotion in `label_set`, or None where the set drops it.

    Raises SerError for an unknown label set.
    """
    if label_set == NATIVE:
        return emotion
    classes = _classes(label_set)
    if emotion in classes:
        return emotion
    return "neutral" if emotion == "calm" else None


def classes_of(label_set: str, emotions: Iterable[str]) -> tuple[str, ...]:
    """Return the classes of a run, in order.

    A fixed set gives all of its classes, present or not. `native` gives those present: canonical
    emotions in canonical order, then any others alphabetically.
    """
    if label_set != NATIVE:
        return _classes(label_set)
    present = set(emotions)
    known = [emotion for emotion in EMOTIONS if emotion in present]
    return (*known, *sorted(present.difference(EMOTIONS)))


def _classes(label_set: str) -> tuple[str, ...]:
    if label_set not in LABEL_SETS:
        choices = ", ".join([NATIVE, *LABEL_SETS])
        raise SerError(f"There is no label set {label_set!r}. Choose one of: {choices}.")
    return LABEL_SETS[label_set]
