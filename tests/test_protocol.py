"""Reading the runs of a protocol: comparable, complete, aligned; the average over seeds."""

import numpy as np
import pandas as pd
import pytest
from protocol_runs import CLASSES, finished_children

from ser.errors import SerError
from ser.protocol import Arm, read_protocol, seed_averaged

ARMS = {"tim": 0.4, "ensemble": 0.8}


@pytest.fixture
def children(tmp_path):
    return finished_children(tmp_path, ARMS, seeds=2)


def read(children: pd.DataFrame):
    return read_protocol(children, "mine", "python sweep.py sweep=protocol")


def test_arms_hold_a_table_a_seed_with_the_folds_pooled(children):
    protocol = read(children)
    assert [arm.name for arm in protocol.arms] == ["tim", "ensemble"]
    assert protocol.folds == (0, 1) and protocol.seeds == ("0", "1")
    assert protocol.classes == CLASSES and protocol.incomplete == ()
    for arm in protocol.arms:
        assert arm.seeds == ("0", "1") and arm.commits == ("0123456789ab",)
        for table in arm.tables:
            assert list(table["id"]) == sorted(table["id"]) and len(table) == 72
            assert set(table.groupby("fold")["speaker"].nunique()) == {3}


def test_an_arm_that_lacks_a_fold_is_left_out_and_named(children):
    lacking = children["overrides"] == "model=tim seed=1 split.fold=0"
    protocol = read(children[~lacking])
    assert protocol.incomplete == ("tim seed 1 lacks fold 0",)
    assert [arm.seeds for arm in protocol.arms] == [("0",), ("0", "1")]
    with pytest.raises(SerError, match=r"mine: no arm has finished .*seed 0 lacks fold 1"):
        fold = children["fold"] + children["seed"] + children["model"]
        read(children[fold.isin(["00tim", "11ensemble"])])


@pytest.mark.parametrize("tag", ["manifest", "labels", "split", "dataset", "synthetic"])
def test_runs_on_other_clips_are_refused(children, tag):
    children.loc[0, tag] = "another"
    with pytest.raises(SerError, match=rf"The runs differ in {tag}: .*another"):
        read(children)


def test_another_split_of_a_fold_is_refused(children):
    children.loc[children.index[children["fold"] == "1"][0], "split_hash"] = "c" * 64
    with pytest.raises(SerError, match="Fold 1 has 2 splits"):
        read(children)


def test_a_recipe_run_twice_is_refused(children):
    with pytest.raises(SerError, match="Arm tim has two runs of seed 0, fold 0"):
        read(pd.concat([children, children.iloc[:1]]))


def averaged(*probabilities: list[list[float]]) -> Arm | None:
    tables = [
        pd.DataFrame(rows, columns=["probability_happy", "probability_sad"]).assign(
            id=["a", "b"], truth="sad", prediction="happy", confidence=0.0
        )
        for rows in probabilities
    ]
    return seed_averaged(Arm("tim", "tim", tuple(tables), ("0", "1", "2")[: len(tables)]))


def test_the_average_over_seeds_is_of_probabilities_and_not_of_votes():
    arm = averaged([[0.6, 0.4], [0.6, 0.4]], [[0.55, 0.45], [0.1, 0.9]], [[0.1, 0.9], [0.7, 0.3]])
    assert arm is not None
    (table,) = arm.tables
    # two of three seeds say happy for both clips; the means say sad for both
    assert list(table["prediction"]) == ["sad", "sad"]
    assert table["probability_sad"].tolist() == pytest.approx([1.75 / 3, 1.6 / 3])
    assert np.allclose(table["confidence"], table["probability_sad"])
    assert arm.name == "tim, probabilities averaged over seeds" and arm.average_of == "tim"


def test_seeds_that_agree_have_no_average():
    assert averaged([[0.6, 0.4], [0.1, 0.9]]) is None
    assert averaged([[0.6, 0.4], [0.1, 0.9]], [[0.6, 0.4], [0.1, 0.9]]) is None
