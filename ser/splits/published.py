"""Speaker lists that papers published for one corpus: results compare with theirs.

The lists stand in conf/split/<name>.yaml, as the codes that the corpus gives its speakers. Clips of
other corpora are refused; with `others` = train they train too, and never validate.
"""

from collections.abc import Sequence

import pandas as pd

from ser.errors import SerError
from ser.splits.base import Division, SplitPolicy, shorten
from ser.splits.speakers import HeldOutSpeakers

OTHERS = ("refuse", "train")


class SpeakerFolds(HeldOutSpeakers):
    """Published test speakers for each fold; validation is drawn from the other speakers."""

    def __init__(
        self,
        name: str,
        fold: int,
        seed: int,
        val_fraction: float,
        corpus: str,
        others: str,
        test_speakers: Sequence[Sequence[str]],
    ) -> None:
        """`test_speakers`: for each fold the codes of its speakers ("02" for ravdess_02)."""
        super().__init__(name, fold, seed, val_fraction)
        self.corpus, self.others = corpus, others
        self.test_speakers = tuple(tuple(codes) for codes in test_speakers)

    def count_folds(self, table: pd.DataFrame) -> int:
        """As published; SerError unless the table is this corpus with all the listed speakers."""
        check_protocol(self.name, self.corpus, self.others, sum(self.test_speakers, ()), table)
        return len(self.test_speakers)

    def divide(self, table: pd.DataFrame) -> Division:
        """As of the corpus alone: all else trains."""
        return super().divide(table[table["corpus"] == self.corpus])

    def test_rows(self, table: pd.DataFrame) -> "pd.Series[bool]":
        """The clips of the fold's published speakers."""
        return spoken_by(self.corpus, self.test_speakers[self.fold], table)


class FixedSpeakers(SplitPolicy):
    """Published val and test speakers; the corpus' other speakers train. One fold, no seed."""

    def __init__(
        self,
        name: str,
        fold: int,
        corpus: str,
        others: str,
        val_speakers: Sequence[str],
        test_speakers: Sequence[str],
    ) -> None:
        """The speakers as the corpus' own codes ("1015" for crema_d_1015)."""
        super().__init__(name, fold)
        self.corpus, self.others = corpus, others
        self.val_speakers = tuple(val_speakers)
        self.test_speakers = tuple(test_speakers)

    def count_folds(self, table: pd.DataFrame) -> int:
        """One; SerError unless the table is this corpus with all the listed speakers."""
        listed = self.val_speakers + self.test_speakers
        check_protocol(self.name, self.corpus, self.others, listed, table)
        return 1

    def divide(self, table: pd.DataFrame) -> Division:
        """The published parts."""
        val = table.loc[spoken_by(self.corpus, self.val_speakers, table), "id"]
        test = table.loc[spoken_by(self.corpus, self.test_speakers, table), "id"]
        return Division(frozenset(val), frozenset(test), val_shares_speakers=False)


def spoken_by(corpus: str, codes: Sequence[str], table: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows belong to these speakers, whatever the case of their codes."""
    names = {f"{corpus}_{code}".casefold() for code in codes}
    return table["speaker"].str.casefold().isin(names)


def check_protocol(
    name: str, corpus: str, others: str, codes: Sequence[str], table: pd.DataFrame
) -> None:
    """SerError unless the table holds all of these speakers, and others only if they may train."""
    if others not in OTHERS:
        raise SerError(f"split.others={others} is no option. Choose one of: {', '.join(OTHERS)}.")
    if others == "refuse" and set(table["corpus"]) - {corpus}:
        raise SerError(
            f"split={name} is a published protocol of {corpus} alone, and the table holds "
            f"{', '.join(sorted(set(table['corpus'])))}. Set dataset={corpus}, or "
            "split.others=train to train on the others too, or choose a split for any corpora: "
            "speaker, speaker_kfold, loso, loco."
        )
    present = set(table["speaker"].str.casefold())
    missing = [f"{corpus}_{c}" for c in codes if f"{corpus}_{c}".casefold() not in present]
    if missing:
        raise SerError(
            f"split={name} lists speakers that the table lacks: {shorten(missing)}. A published "
            f"protocol needs all of its speakers: complete the {corpus} folder, or choose "
            "split=speaker_kfold."
        )
