"""Policies that test on speakers never heard in training, for any corpora."""

from abc import abstractmethod

import pandas as pd

from ser.errors import SerError
from ser.splits.base import Division, SplitPolicy
from ser.splits.draw import draw_speakers, generator, hold_out, round_half_up


class HeldOutSpeakers(SplitPolicy):
    """Tests on some speakers; validates on speakers drawn from the others (see `hold_out`)."""

    def __init__(self, name: str, fold: int, seed: int, val_fraction: float) -> None:
        """`val_fraction`: of each corpus' speakers outside the test part."""
        super().__init__(name, fold, val_fraction=val_fraction)
        self.seed = seed
        self.val_fraction = val_fraction

    @abstractmethod
    def test_rows(self, table: pd.DataFrame) -> "pd.Series[bool]":
        """Which rows the fold tests: all clips of its speakers and no others."""

    def divide(self, table: pd.DataFrame) -> Division:
        """The test speakers' clips, and validation from the rest."""
        test = table.loc[self.test_rows(table), "id"]
        return hold_out(
            table, set(test), val_fraction=self.val_fraction, seed=self.seed, fold=self.fold
        )


class Speaker(SplitPolicy):
    """One draw of speakers for each corpus, balanced in sex and label: the default.

    Every corpus of three speakers or more gives some to each part. Of a corpus of two (TESS) the
    seed sends one to train and the other to test, none to validation; a lone speaker trains. If no
    corpus can spare a validation speaker (TESS alone), validation is clips of the train speakers.
    A corpus is divided in the same way alone and among others.
    """

    def __init__(
        self, name: str, fold: int, seed: int, val_fraction: float, test_fraction: float
    ) -> None:
        """The fractions are of each corpus' speakers."""
        super().__init__(name, fold, val_fraction=val_fraction, test_fraction=test_fraction)
        self.seed = seed
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction

    def count_folds(self, table: pd.DataFrame) -> int:
        """One: another draw is another seed. SerError where no corpus has two speakers."""
        most = table.groupby("home")["speaker"].nunique().max()
        if most < 2:
            raise SerError(
                f"split={self.name}: no corpus of the table has two speakers, so none can be kept "
                "for the test. Add speakers, or choose split=random (shares speakers) or, over "
                "several corpora, split=loco."
            )
        return 1

    def divide(self, table: pd.DataFrame) -> Division:
        """Draw test and val speakers corpus by corpus."""
        val: set[str] = set()
        test: set[str] = set()
        for corpus, rows in table.groupby("home"):
            own_val, own_test = self._draw(rows, str(corpus))
            val |= own_val
            test |= own_test
        test_ids = frozenset(table.loc[table["speaker"].isin(test), "id"])
        if val:
            val_ids = frozenset(table.loc[table["speaker"].isin(val), "id"])
            return Division(val_ids, test_ids, val_shares_speakers=False)
        return hold_out(
            table, test_ids, val_fraction=self.val_fraction, seed=self.seed, fold=self.fold
        )

    def _draw(self, rows: pd.DataFrame, corpus: str) -> tuple[frozenset[str], frozenset[str]]:
        """Val and test speakers of one corpus; at least one of each, and one left, of three."""
        n_speakers = rows["speaker"].nunique()
        if n_speakers < 2:
            return frozenset(), frozenset()
        rng = generator(self.seed, self.fold, corpus)
        n_test = max(1, round_half_up(n_speakers * self.test_fraction))
        test = draw_speakers(rows, min(n_test, max(1, n_speakers - 2)), rng)
        rest = rows[~rows["speaker"].isin(test)]
        if n_speakers == 2:
            return frozenset(), test
        n_val = max(1, round_half_up(n_speakers * self.val_fraction))
        return draw_speakers(rest, min(n_val, rest["speaker"].nunique() - 1), rng), test


class SpeakerKFold(HeldOutSpeakers):
    """K folds of speakers, each fold with its share of every corpus and sex."""

    def __init__(self, name: str, fold: int, seed: int, n_folds: int, val_fraction: float) -> None:
        """`val_fraction`: of each corpus' speakers outside the test fold."""
        super().__init__(name, fold, seed, val_fraction)
        self.n_folds = n_folds

    def count_folds(self, table: pd.DataFrame) -> int:
        """`n_folds`; SerError where there are fewer speakers than that."""
        n_speakers = table["speaker"].nunique()
        if not 2 <= self.n_folds <= n_speakers:
            raise SerError(
                f"split.n_folds={self.n_folds}: {self.name} takes 2 folds at least and at most one "
                f"for each speaker, of which the table has {n_speakers}."
            )
        return self.n_folds

    def test_rows(self, table: pd.DataFrame) -> "pd.Series[bool]":
        """Deal the shuffled speakers, corpus by corpus and sex by sex, to the folds in turn."""
        speakers = table.groupby("speaker")[["home", "sex"]].first()
        rng = generator(self.seed, 0, "folds")  # one shuffle for all folds
        speakers = speakers.iloc[rng.permutation(len(speakers))]
        speakers = speakers.sort_values(["home", "sex"], kind="stable")
        return table["speaker"].isin(set(speakers.index[self.fold :: self.n_folds]))


class LeaveOneSpeakerOut(HeldOutSpeakers):
    """Fold i tests on the i-th speaker, in alphabetical order."""

    def count_folds(self, table: pd.DataFrame) -> int:
        """One for each speaker; SerError where there is only one."""
        n_speakers = int(table["speaker"].nunique())
        if n_speakers < 2:
            raise SerError(
                f"split={self.name}: the table has one speaker, and leaving it out leaves none to "
                "train on. Add speakers, or choose split=random (shares speakers)."
            )
        return n_speakers

    def test_rows(self, table: pd.DataFrame) -> "pd.Series[bool]":
        """The clips of the fold's speaker."""
        return table["speaker"].isin([sorted(set(table["speaker"]))[self.fold]])


class LeaveOneCorpusOut(HeldOutSpeakers):
    """Fold i tests on the i-th corpus, in alphabetical order: what a user's own recording meets.

    Corpora of the same people (ravdess, ravdess_song) are left out together, under the first name.
    """

    def count_folds(self, table: pd.DataFrame) -> int:
        """One for each corpus; SerError where there is only one."""
        corpora = sorted(set(table["home"]))
        if len(corpora) < 2:
            raise SerError(
                f"split={self.name}: the table holds {corpora[0]} alone, and leaving it out leaves "
                "nothing to train on. Choose a dataset of two corpora or more."
            )
        return len(corpora)

    def test_rows(self, table: pd.DataFrame) -> "pd.Series[bool]":
        """The clips of the fold's corpus."""
        return table["home"].isin([sorted(set(table["home"]))[self.fold]])
