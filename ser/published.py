"""Figures that others published, to stand beside ours where the protocol is near enough.

Each has its source and says how its clips or split differ from ours. WAR and UAR are shares.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HUMAN, MODEL = "listeners", "published"


@dataclass(frozen=True)
class PublishedFigure:
    """One published row, and the protocols beside which it may stand."""

    name: str
    source: str
    """Who, where, and what differs from a run here."""
    corpora: tuple[str, ...]
    """Corpora of the protocol, sorted; empty for any two or more together."""
    splits: tuple[str, ...]
    """Splits of the protocol; empty for any."""
    n_classes: int
    uar: float | None = None
    war: float | None = None
    printed: str = ""
    """WAR as its source has it, where that is not one figure: `0.818 ± 0.020`."""
    kind: str = MODEL


_LUNA = (
    "Luna-Jiménez et al. 2022, Applied Sciences 12(1) 327: the same five folds of actors, on all "
    "1,440 clips"
)
_LISTENERS = "listeners' accuracy on the spoken clips, as Luna-Jiménez et al. 2022 compare with"
_EMOBOX = "EmoBox (Ma et al. 2024, INTERSPEECH), frozen encoder and a small head, the same folds"
_TIMNET = (
    "Ye et al. 2023, ICASSP, and the authors' corrected figures; speakers shared between train and "
    "test, folds drawn by another generator"
)
_VOTES = (
    "counted from the voice-only ratings in CREMA-D's tabulatedVotes.csv (Cao et al. 2014): "
    "share of ratings, all clips"
)
_DECK = (
    "the student project that this one began from: its slides, RAVDESS, TESS, CREMA-D and SAVEE "
    "together, split at random. Not the same clips, split or seed"
)


def _emobox(corpus: str, split: str, n_classes: int, rows: str) -> list[PublishedFigure]:
    """Rows `encoder UA WA` in percent."""
    found = []
    for line in rows.strip().splitlines():
        name, unweighted, weighted = line.split()
        uar, war = float(unweighted) / 100, float(weighted) / 100
        found.append(PublishedFigure(name, _EMOBOX, (corpus,), (split,), n_classes, uar, war))
    return found


def _timnet(corpus: str, n_classes: int, *shares: float) -> list[PublishedFigure]:
    """As printed, and after the authors no longer chose the checkpoint on the test fold."""
    names = "TIM-Net as printed", "TIM-Net as corrected"
    pairs = zip(names, zip(shares[::2], shares[1::2], strict=True), strict=True)
    return [
        PublishedFigure(name, _TIMNET, (corpus,), ("timnet10",), n_classes, uar, war)
        for name, (uar, war) in pairs
    ]


def _slides(n_classes: int) -> list[PublishedFigure]:
    """The two rows of the slides."""
    rows = ("TIM alone", 0.51, "~0.51"), ("ensemble", 0.705, "~0.70-0.71")
    return [
        PublishedFigure(
            f"the slides: {arm}", _DECK, (), ("deck_random",), n_classes, None, war, as_
        )
        for arm, war, as_ in rows
    ]


PUBLISHED: tuple[PublishedFigure, ...] = (
    PublishedFigure(
        "listeners", _LISTENERS, ("ravdess",), (), 8, war=0.670, kind=HUMAN
    ),
    PublishedFigure(
        "fine-tuned xlsr-wav2vec2-large", _LUNA, ("ravdess",), ("luna5",), 8, war=0.8182,
        printed="0.818 ± 0.020",
    ),
    PublishedFigure(
        "frozen xlsr-wav2vec2 + MLP", _LUNA, ("ravdess",), ("luna5",), 8, war=0.5653
    ),
    PublishedFigure("listeners", _VOTES, ("crema_d",), (), 6, uar=0.407, war=0.400, kind=HUMAN),
    *_emobox("ravdess", "emobox_r6", 8, """
        wav2vec2-base 54.33 55.40
        HuBERT-base 65.43 66.21
        HuBERT-large 70.00 70.29
        WavLM-base 61.56 62.10
        WavLM-large 72.00 72.22
        data2vec2-large 71.15 71.63
        Whisper-large-v3 75.32 75.87"""),
    *_emobox("savee", "emobox_s4", 7, """
        wav2vec2-base 44.89 49.83
        HuBERT-base 58.90 59.85
        HuBERT-large 71.91 75.05
        WavLM-base 63.57 67.05
        WavLM-large 66.74 70.80
        data2vec2-large 75.75 78.59
        Whisper-large-v3 74.07 77.24"""),
    *_timnet("ravdess", 8, 0.9193, 0.9208, 0.9004, 0.9007),
    *_timnet("emodb", 7, 0.9517, 0.9570, 0.8919, 0.9028),
    *_timnet("savee", 7, 0.8631, 0.8771, 0.7726, 0.7936),
    *_slides(7),
    *_slides(8),  # their corpora have eight emotions together, seven without calm
)  # fmt: skip


def published_for(
    corpora: Iterable[str], split: str, classes: Sequence[str]
) -> list[PublishedFigure]:
    """The published rows that may stand beside a protocol, in the order of PUBLISHED."""
    ours = tuple(sorted(corpora))
    return [
        figure
        for figure in PUBLISHED
        if (figure.corpora == ours if figure.corpora else len(ours) > 1)
        and (not figure.splits or split in figure.splits)
        and figure.n_classes == len(classes)
    ]
