"""Who is tested: the policies of conf/split on small tables."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from split_tables import (
    LABELS,
    OPTIONS,
    PUBLISHED,
    policy_of,
    speakers_of,
    split_of,
    table_for,
    table_of,
)

from ser.errors import SerError
from ser.splits import SplitPolicy, check_classes
from ser.splits.base import Division


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_divides_all_clips_into_three_parts_whatever_their_order(option: str) -> None:
    table = table_for(option)
    split = split_of(option, table)
    assert split.name == option
    ids = [clip for part in split.parts.values() for clip in part]
    assert sorted(ids) == sorted(table["id"])
    check_classes(split, table, LABELS)
    shuffled = table.sample(frac=1, random_state=3)
    assert split_of(option, shuffled) == split
    assert split_of(option, shuffled).digest == split.digest


@pytest.mark.parametrize("option", OPTIONS)
def test_test_speakers_are_unheard_unless_the_protocol_says_so(option: str) -> None:
    table = table_for(option)
    split = split_of(option, table)
    heard = speakers_of(split.train + split.val, table)
    assert split.shares_speakers == (option in ("random", "deck_random", "timnet10"))
    assert bool(heard & speakers_of(split.test, table)) == split.shares_speakers
    assert split.val_shares_speakers == (split.shares_speakers or option.startswith("tess_"))


@pytest.mark.parametrize("option", OPTIONS)
def test_the_folds_test_each_clip_once_where_the_protocol_has_folds(option: str) -> None:
    table = table_for(option)
    n_folds = split_of(option, table).n_folds
    tested = [clip for fold in range(n_folds) for clip in split_of(option, table, fold=fold).test]
    assert len(tested) == len(set(tested))
    assert (len(tested) == len(table)) == (n_folds > 1)
    with pytest.raises(SerError, match=rf"^split.fold={n_folds}: {option} has {n_folds} fold"):
        split_of(option, table, fold=n_folds)


@pytest.mark.parametrize(("option", "expected"), PUBLISHED.items())
def test_published_protocols_have_their_number_of_folds(
    option: str, expected: tuple[str, int]
) -> None:
    corpus, n_folds = expected
    assert policy_of(option).count_folds(table_of(corpus)) == n_folds


@pytest.mark.parametrize(("option", "published"), PUBLISHED.items())
def test_other_corpora_are_refused_or_train_and_change_nothing_else(
    option: str, published: tuple[str, int]
) -> None:
    corpus, other = published[0], "emodb"
    table = table_of(corpus, other, takes=10)
    with pytest.raises(SerError, match=f"protocol of {corpus} alone.*emodb.*split.others=train"):
        split_of(option, table)
    alone, joined = (
        split_of(option, rows, others="train") for rows in (table_of(corpus, takes=10), table)
    )
    assert (joined.val, joined.test) == (alone.val, alone.test)
    assert set(joined.train) - set(alone.train) == set(table.loc[table["corpus"] == other, "id"])


def test_others_has_two_options() -> None:
    with pytest.raises(SerError, match=r"split.others=drop is no option. Choose one of: refuse,"):
        split_of("luna5", table_of("ravdess"), others="drop")


def test_fold_out_of_range_names_the_folds() -> None:
    with pytest.raises(SerError) as error:
        split_of("luna5", table_of("ravdess"), fold=7)
    assert str(error.value) == "split.fold=7: luna5 has 5 folds, 0 to 4."
    with pytest.raises(SerError, match=r"split.fold=-1"):
        split_of("luna5", table_of("ravdess"), fold=-1)


def test_luna5_tests_the_published_actors_and_validates_on_both_sexes() -> None:
    table = table_of("ravdess")
    split = split_of("luna5", table, fold=4)
    tested = {f"ravdess_{actor}" for actor in ("01", "04", "09", "22")}
    assert speakers_of(split.test, table) == tested
    val = speakers_of(split.val, table)
    assert len(val) == 2
    assert set(table.loc[table["speaker"].isin(val), "sex"]) == {"male", "female"}


def test_tfds_c_has_the_published_sizes_in_speakers() -> None:
    table = table_of("crema_d")
    split = split_of("tfds_c", table)
    assert [len(speakers_of(ids, table)) for ids in split.parts.values()] == [63, 9, 19]


def test_emosuperb_c5_blocks_are_consecutive() -> None:
    table = table_of("crema_d")
    last = speakers_of(split_of("emosuperb_c5", table, fold=4).test, table)
    assert last == {f"crema_d_{actor}" for actor in range(1073, 1092)}


def test_emobox_s4_tests_in_the_published_order_and_validates_on_one_speaker() -> None:
    table = table_of("savee")
    order = [speakers_of(split_of("emobox_s4", table, fold=fold).test, table) for fold in range(4)]
    assert order == [{"savee_JE"}, {"savee_KL"}, {"savee_DC"}, {"savee_JK"}]
    assert len(speakers_of(split_of("emobox_s4", table).val, table)) == 1


def test_tess_between_its_speakers_validates_on_clips_of_the_train_speaker() -> None:
    table = table_of("tess", takes=10)
    split = split_of("tess_oaf2yaf", table)
    assert speakers_of(split.test, table) == {"tess_YAF"}
    assert speakers_of(split.train, table) == speakers_of(split.val, table) == {"tess_OAF"}
    labels = table.set_index("id").loc[list(split.val), "label"].value_counts()
    assert set(labels) <= {1, 2} and len(labels) == len(LABELS)  # .15 of 10 each


def test_speaker_gives_every_corpus_its_share_and_keeps_tess() -> None:
    table = table_of("ravdess", "tess", "crema_d", "savee", "emodb")
    split = split_of("speaker", table)
    counts = {
        part: table[table["id"].isin(ids)].groupby("corpus")["speaker"].nunique().to_dict()
        for part, ids in split.parts.items()
    }
    assert counts["test"] == {"ravdess": 5, "crema_d": 18, "savee": 1, "emodb": 2, "tess": 1}
    assert counts["val"] == {"ravdess": 4, "crema_d": 14, "savee": 1, "emodb": 2}
    assert counts["train"]["tess"] == 1
    for ids in split.parts.values():
        sexes = table[table["id"].isin(ids) & table["corpus"].eq("ravdess")]["sex"]
        assert sexes.value_counts(normalize=True).min() >= 0.4


def test_speaker_divides_a_corpus_alone_as_among_others() -> None:
    alone = split_of("speaker", table_of("ravdess"))
    among = split_of("speaker", table_of("tess", "ravdess", "savee"))
    assert set(alone.test) <= set(among.test)
    assert set(alone.val) <= set(among.val)


def test_speaker_on_three_and_on_two_speakers() -> None:
    table = table_of("savee")
    three = table[table["speaker"] != "savee_KL"]
    split = split_of("speaker", three)
    assert [len(speakers_of(ids, table)) for ids in split.parts.values()] == [1, 1, 1]
    split = split_of("speaker", three, val_fraction=0.6)  # two of three, and none left to train
    assert [len(speakers_of(ids, table)) for ids in split.parts.values()] == [1, 1, 1]
    lone = pd.concat([three, table_of("tess")[lambda rows: rows["speaker"] == "tess_OAF"]])
    assert speakers_of(split_of("speaker", lone).train, lone) > {"tess_OAF"}
    two = split_of("speaker", table_of("tess", takes=10))
    assert two.val_shares_speakers and two.val
    with pytest.raises(SerError, match="split=random"):
        split_of("speaker", table[table["speaker"] == "savee_DC"])


@pytest.mark.parametrize("option", ["random", "speaker", "speaker_kfold", "timnet10", "luna5"])
def test_another_seed_is_another_draw(option: str) -> None:
    splits = [split_of(option, table_of("ravdess"), seed=seed) for seed in range(4)]
    assert len({split.val for split in splits}) == 4
    assert len({split.test for split in splits}) == (1 if option == "luna5" else 4)


def test_val_speakers_differ_between_folds_and_ignore_the_test_labels() -> None:
    table = table_of("ravdess")
    split = split_of("luna5", table, fold=1)
    relabelled = table.assign(
        label=table["label"].where(~table["id"].isin(split.test), "happy"),
    )
    assert split_of("luna5", relabelled, fold=1).val == split.val
    vals = [speakers_of(split_of("luna5", table, fold=f).val, table) for f in range(5)]
    assert len({frozenset(val) for val in vals}) > 1


def test_speaker_kfold_balances_corpus_and_sex() -> None:
    table = table_of("ravdess", "emodb", "tess")
    for fold in range(5):
        split = split_of("speaker_kfold", table, fold=fold)
        tested = table[table["id"].isin(split.test)].drop_duplicates("speaker")
        counts = tested.groupby(["corpus", "sex"]).size()
        assert counts["ravdess"].between(2, 3).all()
        assert counts["emodb"].to_dict() == {"female": 1, "male": 1}


def test_loso_and_loco_go_alphabetically() -> None:
    table = table_of("savee", "emodb")
    assert speakers_of(split_of("loso", table, fold=0).test, table) == {"emodb_03"}
    assert speakers_of(split_of("loso", table, fold=13).test, table) == {"savee_KL"}
    assert split_of("loso", table_of("tess", takes=10), fold=1).n_folds == 2
    emodb = set(table.loc[table["corpus"] == "emodb", "id"])
    assert set(split_of("loco", table, fold=0).test) == emodb


@pytest.mark.parametrize("corpora", [("ravdess", "emodb"), ("emodb", "tess")])
def test_loco_of_two_corpora_goes_from_either_to_the_other(corpora: tuple[str, str]) -> None:
    table = table_of(*corpora, takes=10)
    for fold, tested in enumerate(sorted(corpora)):
        split = split_of("loco", table, fold=fold)
        assert split.n_folds == 2 and not split.shares_speakers
        assert set(split.test) == set(table.loc[table["corpus"] == tested, "id"])
        assert split.val_shares_speakers == (tested == "emodb" and "tess" in corpora)
        heard = set(table.loc[table["corpus"] != tested, "speaker"])
        assert speakers_of(split.train + split.val, table) == heard
        assert split.train and split.val


@pytest.mark.parametrize("option", ["speaker", "speaker_kfold", "loso", "loco"])
def test_corpora_of_the_same_speakers_are_divided_together(option: str) -> None:
    table = table_of("ravdess", "savee")
    song = table_of("ravdess").assign(corpus="ravdess_song")
    song = song.assign(id="song/" + song["id"], sha256="song " + song["sha256"])
    together = pd.concat([table, song], ignore_index=True)
    split = split_of(option, together)
    assert split.n_folds == split_of(option, table).n_folds
    tested = together[together["id"].isin(split.test)]
    counts = tested[tested["speaker"].str.startswith("ravdess")].groupby("corpus").size()
    assert counts["ravdess"] == counts["ravdess_song"]


def test_random_is_stratified_by_corpus_and_label() -> None:
    table = table_of("tess", "savee", takes=10)  # 20 and 40 clips of a corpus x label
    split = split_of("random", table, test_fraction=0.2, val_fraction=0.1)
    test = table[table["id"].isin(split.test)].groupby(["corpus", "label"]).size()
    assert test["tess"].between(3, 5).all() and test["savee"].between(7, 9).all()
    assert abs(len(split.test) - 72) <= 1 and abs(len(split.val) - 36) <= 1


@pytest.mark.parametrize("option", OPTIONS)
def test_folds_of_takes_the_table_that_split_takes(option: str) -> None:
    table = table_for(option)
    assert policy_of(option).folds_of(table) == split_of(option, table).n_folds


@pytest.mark.parametrize("collect", [list, tuple, pd.Series])
def test_a_division_may_hold_its_ids_in_any_collection(collect: Callable[..., Any]) -> None:
    class Named(SplitPolicy):
        def count_folds(self, table: pd.DataFrame) -> int:
            return 1

        def divide(self, table: pd.DataFrame) -> Division:
            val, test = (
                table.loc[table["speaker"] == f"savee_{who}", "id"] for who in ("JE", "KL")
            )
            return Division(collect(val), collect(test), val_shares_speakers=False)

    table = table_of("savee")
    split = Named("named", 0).split(table)
    assert speakers_of(split.train, table) == {"savee_DC", "savee_JK"}
    assert speakers_of(split.val, table) == {"savee_JE"}
    assert split.test == tuple(sorted(table.loc[table["speaker"] == "savee_KL", "id"]))
