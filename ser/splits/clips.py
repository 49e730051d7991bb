"""Policies that divide clips and not speakers: test speakers are heard in training.

They flatter every model and are here to compare with figures published that way.
"""

import pandas as pd

from ser.errors import SerError
from ser.splits.base import Division, SplitPolicy
from ser.splits.draw import draw_clips, generator


class Random(SplitPolicy):
    """Clips at random, stratified by corpus x label; equal recordings stay together. One fold."""

    shares_speakers = True

    def __init__(
        self, name: str, fold: int, seed: int, val_fraction: float, test_fraction: float
    ) -> None:
        """The fractions are of all clips."""
        super().__init__(name, fold, val_fraction=val_fraction, test_fraction=test_fraction)
        self.seed = seed
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction

    def count_folds(self, table: pd.DataFrame) -> int:
        """One: another draw is another seed."""
        return 1

    def divide(self, table: pd.DataFrame) -> Division:
        """Draw the test clips, then the val clips from the others."""
        rng = generator(self.seed, self.fold, "random")
        test = draw_clips(table, self.test_fraction, rng)
        rest = table[~table["id"].isin(test)]
        val = draw_clips(rest, self.val_fraction / (1 - self.test_fraction), rng)
        return Division(val, test, val_shares_speakers=True)


class ClipKFold(SplitPolicy):
    """K folds of shuffled clips, as TIM-Net's paper tests; equal recordings stay in one fold.

    Unlike the paper, what validates is clips of the other folds, never the tested ones.
    """

    shares_speakers = True

    def __init__(self, name: str, fold: int, seed: int, n_folds: int, val_fraction: float) -> None:
        """`val_fraction`: of the clips outside the test fold."""
        super().__init__(name, fold, val_fraction=val_fraction)
        self.seed = seed
        self.n_folds = n_folds
        self.val_fraction = val_fraction

    def count_folds(self, table: pd.DataFrame) -> int:
        """`n_folds`; SerError where there are fewer different recordings than that."""
        recordings = table["sha256"].nunique()
        if not 2 <= self.n_folds <= recordings:
            raise SerError(
                f"split.n_folds={self.n_folds}: {self.name} takes 2 folds at least and at most one "
                f"for each different recording, of which the table has {recordings}."
            )
        return self.n_folds

    def divide(self, table: pd.DataFrame) -> Division:
        """Scikit-learn's shuffled KFold over the different recordings."""
        from sklearn.model_selection import KFold

        units = table.drop_duplicates("sha256")["sha256"].to_numpy()
        folds = KFold(self.n_folds, shuffle=True, random_state=self.seed).split(units)
        tested = set(units[list(folds)[self.fold][1]])
        in_test = table["sha256"].isin(tested)
        rng = generator(self.seed, self.fold, "val clips")
        val = draw_clips(table[~in_test], self.val_fraction, rng)
        return Division(val, frozenset(table.loc[in_test, "id"]), val_shares_speakers=True)
