from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from ser.errors import SerError
from ser.splits import LeakError, Split, SplitPolicy, check_classes, check_leaks

CONF = Path(__file__).resolve().parents[1] / "conf" / "split"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))
LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgust")
SPEAKERS = {
    "ravdess": {f"{i:02d}": "male" if i % 2 else "female" for i in range(1, 25)},
    "tess": {"OAF": "female", "YAF": "female"},
    "crema_d": {str(i): "male" if i % 2 else "female" for i in range(1001, 1092)},
    "savee": {code: "male" for code in ("DC", "JE", "JK", "KL")},
    "emodb": {c: "male" if c in ("03", "10", "11", "12", "15") else "female"
              for c in ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")},
}  # fmt: skip
PUBLISHED = {"luna5": ("ravdess", 5), "emobox_r6": ("ravdess", 6), "emobox_s4": ("savee", 4),
             "tfds_c": ("crema_d", 1), "emosuperb_c5": ("crema_d", 5),
             "tess_oaf2yaf": ("tess", 1), "tess_yaf2oaf": ("tess", 1)}  # fmt: skip


def table_of(*corpora: str, takes: int = 2) -> pd.DataFrame:
    rows = [
        (f"{corpus}/{code}_{label}_{take}", corpus, f"{corpus}_{code}", sex, label)
        for corpus in corpora
        for code, sex in SPEAKERS[corpus].items()
        for label in LABELS
        for take in range(takes)
    ]
    table = pd.DataFrame(rows, columns=["id", "corpus", "speaker", "sex", "label"])
    return table.assign(sha256="sha " + table["id"])


def policy_of(option: str, **changes: object) -> SplitPolicy:
    config = OmegaConf.load(CONF / f"{option}.yaml")
    policy = instantiate(OmegaConf.merge(config, changes), _convert_="all")
    assert isinstance(policy, SplitPolicy)
    return policy


def split_of(option: str, table: pd.DataFrame, **changes: object) -> Split:
    return policy_of(option, **changes).split(table)


def speakers_of(ids: tuple[str, ...], table: pd.DataFrame) -> set[str]:
    return set(table.loc[table["id"].isin(ids), "speaker"])


def table_for(option: str) -> pd.DataFrame:
    if option in PUBLISHED:
        return table_of(PUBLISHED[option][0])
    return table_of("savee", "tess", "emodb", takes=3)


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
    assert len(val) == 3
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
    two = split_of("speaker", table_of("tess", takes=10))
    assert two.val_shares_speakers and two.val
    with pytest.raises(SerError, match="split=random"):
        split_of("speaker", table[table["speaker"] == "savee_DC"])


@pytest.mark.parametrize("option", ["random", "speaker", "speaker_kfold", "timnet10", "luna5"])
def test_another_seed_is_another_draw(option: str) -> None:
    splits = {split_of(option, table_of("ravdess"), seed=seed).digest for seed in range(4)}
    assert len(splits) == 4


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
    emodb = set(table.loc[table["corpus"] == "emodb", "id"])
    assert set(split_of("loco", table, fold=0).test) == emodb


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


def share_content(table: pd.DataFrame, n_groups: int) -> pd.DataFrame:
    return table.assign(sha256=[f"sha {i % n_groups}" for i in range(len(table))])


@pytest.mark.parametrize("option", ["random", "timnet10", "tess_oaf2yaf"])
def test_equal_recordings_stay_in_one_part(option: str) -> None:
    table = table_of("tess", takes=10)
    half = table["speaker"] == "tess_OAF"
    table = pd.concat([share_content(table[half], 30), table[~half]], ignore_index=True)
    split = split_of(option, table)  # 60 clips of OAF, each recording twice
    parts = [set(table.loc[table["id"].isin(ids), "sha256"]) for ids in split.parts.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_the_same_recording_under_two_speakers_is_a_leak() -> None:
    table = table_of("savee")
    same = table["id"].isin(["savee/JE_sad_0", "savee/KL_sad_0"])
    table.loc[same, "sha256"] = "one recording"
    with pytest.raises(LeakError, match="savee/JE_sad_0, savee/KL_sad_0"):
        split_of("emobox_s4", table, fold=0)


def test_speaker_leak_names_five_offenders_and_how_many() -> None:
    table = table_of("ravdess")
    split = split_of("speaker", table)
    moved = replace(split, train=split.train[::2], test=split.train[1::2])
    with pytest.raises(LeakError, match=r"train and test share the speaker.* in all\)") as error:
        check_leaks(moved, table)
    assert str(error.value).count("ravdess_") == 5
    check_leaks(replace(moved, shares_speakers=True), table)
    with pytest.raises(LeakError, match="the clip"):
        check_leaks(replace(split, val=split.test), table)


def test_split_of_another_table_is_named() -> None:
    with pytest.raises(SerError, match="the table lacks"):
        check_leaks(split_of("speaker", table_of("ravdess")), table_of("savee"))


def test_digest_reads_the_parts_and_not_the_order() -> None:
    split = Split("s", 0, 1, ("a", "b"), ("c",), ("d",), False)
    assert replace(split, name="t", train=("b", "a")).digest == split.digest
    assert replace(split, train=("a",), val=("b", "c")).digest != split.digest


def test_protocol_on_another_table_names_rule_and_fix() -> None:
    with pytest.raises(SerError, match=r"split=luna5 .* ravdess alone.*holds savee.*dataset=ravd"):
        split_of("luna5", table_of("savee"))
    with pytest.raises(SerError, match="split=luna5"):
        split_of("luna5", table_of("savee", "ravdess"))
    table = table_of("crema_d")
    few = table[table["speaker"] < "crema_d_1031"]
    with pytest.raises(SerError, match=r"crema_d_1050, .*\(20 in all\)"):
        split_of("tfds_c", few)


@pytest.mark.parametrize(
    ("option", "changes", "message"),
    [
        ("loco", {}, "savee alone"),
        ("speaker_kfold", {}, r"split.n_folds=5: .* table has 4"),
        ("timnet10", {"n_folds": 1}, "2 folds at least"),
        ("speaker", {"test_fraction": 0}, "split.test_fraction=0"),
        ("random", {"test_fraction": 0.6, "val_fraction": 0.4}, "nothing to train on"),
    ],
)
def test_what_does_not_fit_is_refused(option: str, changes: dict[str, float], message: str) -> None:
    with pytest.raises(SerError, match=message):
        split_of(option, table_of("savee"), **changes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.drop(columns=["sex", "sha256"]), "sex, sha256"),
        (lambda table: table.iloc[:0], "holds no clip"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "unique"),
        (lambda table: table[table["speaker"] == "savee_DC"], "one speaker"),
    ],
)
def test_bad_tables_are_refused(
    spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(SerError, match=message):
        split_of("loso", spoil(table_of("savee")))


def test_unknown_sex_is_a_sex_of_its_own() -> None:
    assert split_of("speaker_kfold", table_of("ravdess").assign(sex=None)).test


def test_empty_part_and_untrained_class_are_named() -> None:
    table = table_of("savee")
    split = split_of("speaker", table)
    with pytest.raises(SerError, match="the val part is empty"):
        check_classes(replace(split, val=()), table, LABELS)
    with pytest.raises(SerError, match="calm, boredom"):
        check_classes(split, table, (*LABELS, "calm", "boredom"))
