"""Seeded, balanced draws of speakers and of clips: what the policies are made of.

A draw depends on the seed, the fold and the corpus' own rows only, so that the speakers of a corpus
fall into the same parts whether it is split alone or together with others.
"""

import zlib
from collections.abc import Collection

import numpy as np
import pandas as pd

from ser.splits.base import Division

DRAWS = 20  # enough to find balance; few enough that another seed finds other speakers
ENOUGH_TRAIN_SPEAKERS = 3  # one validates and two are left to learn what differs between speakers


def generator(seed: int, fold: int, purpose: str) -> np.random.Generator:
    """A random generator of its own for each seed, fold and purpose."""
    return np.random.default_rng([seed, fold, zlib.crc32(purpose.encode())])


def round_half_up(value: float) -> int:
    """The nearest whole number, .5 upwards (Python's round goes to the even one)."""
    return int(value + 0.5)


def draw_speakers(rows: pd.DataFrame, n_speakers: int, rng: np.random.Generator) -> frozenset[str]:
    """`n_speakers` of one corpus: of DRAWS draws, the one most like the corpus in sex and label."""
    clips = pd.crosstab(rows["speaker"], rows["label"]).sort_index()
    sexes = pd.crosstab(rows["speaker"], rows["sex"]).clip(upper=1).sort_index()
    draws = [rng.permutation(len(clips))[:n_speakers] for _ in range(DRAWS)]
    counts = (clips.to_numpy(), sexes.to_numpy())
    best = min(draws, key=lambda draw: sum(_imbalance(count, draw) for count in counts))
    return frozenset(clips.index[best])


def _imbalance(counts: np.ndarray, chosen: np.ndarray) -> float:
    """Total difference between the shares in the chosen rows and in all rows, 0 to 2."""
    part, whole = counts[chosen].sum(axis=0), counts.sum(axis=0)
    return float(np.abs(part / part.sum() - whole / whole.sum()).sum())


def draw_clips(rows: pd.DataFrame, fraction: float, rng: np.random.Generator) -> frozenset[str]:
    """Ids of a share of the clips, stratified by corpus x label, equal recordings kept together.

    Systematic sampling over the shuffled strata laid end to end: each stratum gives its share
    within one recording, and all of them together theirs.
    """
    units = rows.drop_duplicates("sha256")
    units = units.iloc[rng.permutation(len(units))]
    units = units.sort_values(["corpus", "label"], kind="stable")
    steps = np.floor(np.arange(len(units) + 1) * fraction + rng.random())
    chosen = units.loc[np.diff(steps) > 0, "sha256"]
    return frozenset(rows.loc[rows["sha256"].isin(set(chosen)), "id"])


def hold_out(
    rows: pd.DataFrame, test: Collection[str], *, val_fraction: float, seed: int, fold: int
) -> Division:
    """Test on the clips `test`; validate on speakers (or else clips) drawn from the others.

    Every corpus with at least ENOUGH_TRAIN_SPEAKERS (3) speakers outside the test part gives
    `val_fraction` of them, at least one, balanced in sex and label; corpora with fewer speakers
    give none. If no corpus has enough (TESS trained on one woman), validation is `val_fraction` of
    the train clips, stratified by corpus x label, equal recordings kept together.
    """
    train = rows[~rows["id"].isin(set(test))]
    speakers: set[str] = set()
    for corpus, own in train.groupby("home"):
        n_speakers = own["speaker"].nunique()
        if n_speakers >= ENOUGH_TRAIN_SPEAKERS:
            n_val = min(max(1, round_half_up(n_speakers * val_fraction)), n_speakers - 2)
            speakers |= draw_speakers(own, n_val, generator(seed, fold, f"val {corpus}"))
    if speakers:
        val = frozenset(train.loc[train["speaker"].isin(speakers), "id"])
        return Division(val, frozenset(test), val_shares_speakers=False)
    val = draw_clips(train, val_fraction, generator(seed, fold, "val clips"))
    return Division(val, frozenset(test), val_shares_speakers=True)
