"""What a split refuses: leaks, bad tables, protocols on the wrong corpus."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from split_tables import (
    LABELS,
    split_of,
    table_of,
)

from ser.errors import SerError
from ser.splits import LeakError, Split, check_classes, check_leaks


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
    assert str(error.value).count("ravdess_") == 5 and str(error.value).count(" in all") == 1
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
        ("random", {"test_fraction": 0.6, "val_fraction": 0.4}, r"split.test_f.* = 1: .*nothing"),
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
    two = table[table["label"].isin(["sad", "angry"])]
    check_classes(split_of("speaker", two), two, ("sad", "angry"))
    with pytest.raises(SerError, match=r"All clips are of one class \(sad\)"):
        check_classes(split, table, ("sad",))
