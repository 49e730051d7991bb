"""Recall gaps by hand and by simulation; confounds found from the table, not from names."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from ser.subgroups import confounds, groups_of, subgroup_table, subgroups_markdown

CLASSES = ("neutral", "happy", "sad")


def clips(
    speakers: dict[str, tuple[str, str, float]], n_clips: int = 30, seed: int = 0
) -> pd.DataFrame:
    """`speakers`: name to corpus, sex and the chance that a clip of theirs is recognised."""
    random = np.random.default_rng(seed)
    rows = []
    for speaker, (corpus, sex, skill) in speakers.items():
        for k in range(n_clips):
            truth = CLASSES[k % 3]
            other = CLASSES[(k + 1) % 3]
            prediction = truth if random.random() < skill else other
            rows.append((f"{speaker}/{k}", corpus, speaker, sex, truth, prediction))
    columns = ["id", "corpus", "speaker", "sex", "truth", "prediction"]
    fixed = {"age": pd.NA, "intensity": None, "text": None, "duration_s": 2.5}
    return pd.DataFrame(rows, columns=columns).assign(**fixed)


def balanced(skill_of_men: float = 0.5, skill_of_women: float = 0.8) -> pd.DataFrame:
    skills = {"male": skill_of_men, "female": skill_of_women}
    return clips(
        {f"{sex}{k}": ("here", sex, skill) for sex, skill in skills.items() for k in range(6)}
    )


def row(table: pd.DataFrame, attribute: str, group: str) -> pd.Series:
    return table.set_index(["attribute", "group"]).loc[(attribute, group)]


def test_the_gap_is_the_difference_of_uar_where_all_classes_are_there():
    predictions = balanced()
    men = predictions[predictions["sex"] == "male"]
    women = predictions[predictions["sex"] == "female"]
    uar_of = [balanced_accuracy_score(part["truth"], part["prediction"]) for part in (men, women)]
    found = row(subgroup_table(predictions, CLASSES, n_draws=50), "sex", "male")
    assert found["uar"] == pytest.approx(uar_of[0])
    assert found["war"] == pytest.approx((men["truth"] == men["prediction"]).mean())
    assert found["gap"] == pytest.approx(uar_of[0] - uar_of[1])
    assert (found["clips"], found["speakers"], found["classes"]) == (180, 6, 3)
    assert found["resampled"] == "speakers" and found["confounded_with"] == ""


def test_a_gap_counts_only_classes_that_both_sides_have():
    predictions = balanced().assign(prediction=lambda table: table["truth"])
    neutral = predictions["truth"] == "neutral"
    predictions["intensity"] = np.where(neutral, "normal", "strong")
    predictions.loc[(predictions["truth"] == "sad") & (predictions.index % 2 == 0), "intensity"] = (
        "normal"
    )
    wrong = (predictions["truth"] == "sad") & (predictions["intensity"] == "strong")
    predictions.loc[wrong, "prediction"] = "happy"
    table = subgroup_table(predictions, CLASSES, n_draws=50)
    strong = row(table, "intensity", "strong")
    assert strong["classes"] == 2 and strong["uar"] == 0.5  # happy 1, sad 0
    assert strong["gap"] == -1  # sad alone is in both


def test_a_planted_gap_is_outside_zero_and_no_gap_mostly_is_not():
    planted = row(subgroup_table(balanced(), CLASSES), "sex", "female")
    assert 0 < planted["gap_low"] < planted["gap"] < planted["gap_high"]
    holds = 0
    for seed in range(20):
        same = clips(
            {f"{sex}{k}": ("here", sex, 0.6) for sex in ("male", "female") for k in range(8)},
            seed=seed,
        )
        found = row(subgroup_table(same, CLASSES, n_draws=200), "sex", "male")
        holds += found["gap_low"] <= 0 <= found["gap_high"]
    assert holds >= 16  # of 20, at a nominal 19


def test_one_speaker_has_its_clips_drawn_and_it_is_said():
    table = subgroup_table(balanced(), CLASSES, n_draws=200)
    speakers = table[table["attribute"] == "speaker"]
    assert set(speakers["resampled"]) == {"clips"} and len(speakers) == 12
    assert (speakers["gap_low"] < speakers["gap"]).all()
    assert (speakers["gap"] < speakers["gap_high"]).all()


def test_two_speakers_are_compared_by_their_clips():
    pair = clips({"a": ("here", "male", 0.5), "b": ("here", "female", 0.9)}, n_clips=90)
    found = row(subgroup_table(pair, CLASSES), "sex", "male")
    assert found["resampled"] == "clips" and np.isfinite(found["gap_low"])
    recall = pair["truth"] == pair["prediction"]
    spread = sum(recall[pair["speaker"] == name].var() / 90 for name in "ab") ** 0.5
    assert found["gap_high"] - found["gap_low"] == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_bands_of_age_and_duration():
    predictions = balanced()
    predictions["age"] = pd.array(np.tile([29, 30, 59, 60, None], 72), dtype="Int64")
    predictions["duration_s"] = np.tile([1.99, 2.0, 3.0, 4.0, 9.0, 2.9], 60)
    groups = groups_of(predictions)
    assert groups["age"].head(4).tolist() == ["under 30", "30 to 44", "45 to 59", "60 on"]
    assert groups["age"].isna().sum() == 72
    assert groups["duration"].head(6).tolist() == [
        "under 2 s", "2 to 3 s", "3 to 4 s", "4 s on", "4 s on", "2 to 3 s",
    ]  # fmt: skip


def test_bands_stand_in_their_own_order_and_other_groups_by_their_gap():
    predictions = balanced()
    predictions["duration_s"] = np.tile([1.0, 2.5, 3.5, 5.0], 90)
    slow = predictions["duration_s"] == 3.5
    predictions.loc[slow, "prediction"] = CLASSES[0]  # the worst
    table = subgroup_table(predictions, CLASSES, n_draws=20)
    bands = table.loc[table["attribute"] == "duration"]
    assert bands["group"].tolist() == ["under 2 s", "2 to 3 s", "3 to 4 s", "4 s on"]
    assert bands["gap"].idxmin() == bands.index[2]
    speakers = table.loc[table["attribute"] == "speaker", "gap"]
    assert speakers.is_monotonic_increasing


def test_what_does_not_vary_is_no_attribute_and_tables_without_age_are_read():
    predictions = balanced().drop(columns="age")
    assert list(groups_of(predictions)) == ["sex", "speaker"]
    assert set(subgroup_table(predictions, CLASSES, n_draws=20)["attribute"]) == {"sex", "speaker"}


def test_groups_of_few_clips_are_left_out():
    predictions = balanced()
    predictions["text"] = "long enough"
    predictions.loc[:8, "text"] = "nine clips"
    table = subgroup_table(predictions, CLASSES, n_draws=20)
    assert "sentence" not in set(table["attribute"])
    predictions.loc[9, "text"] = "nine clips"  # and one more
    table = subgroup_table(predictions, CLASSES, n_draws=20)
    assert table.loc[table["attribute"] == "sentence", "clips"].tolist() == [10, 350]


def test_confounds_are_found_from_the_table():
    speakers = {f"w{k}": ("one", "female", 0.9) for k in range(2)}
    speakers |= {f"m{k}": ("two", "male", 0.5) for k in range(4)}
    mixed = {f"x{k}": ("three", sex, 0.7) for k, sex in enumerate(("male", "female"))}
    predictions = clips(speakers | mixed)
    (found,) = confounds(groups_of(predictions))
    assert (found.first, found.second) == ("corpus", "sex")
    assert set(found.absent) == {("one", "male"), ("two", "female")}
    table = subgroup_table(predictions, CLASSES, n_draws=20)
    assert row(table, "corpus", "one")["confounded_with"] == "sex"
    assert row(table, "corpus", "three")["confounded_with"] == ""
    assert row(table, "sex", "female")["confounded_with"] == "corpus"
    text = subgroups_markdown(table, [found], "a run")
    assert (
        "**Warning:** corpus and sex are confounded (no clip of two × female, one × male)" in text
    )


def test_a_pair_that_is_rare_anyway_is_no_confound():
    predictions = balanced()
    predictions["text"] = ["rare" if k < 12 else "common" for k in range(len(predictions))]
    assert predictions.loc[predictions["text"] == "rare", "sex"].nunique() == 1
    met = confounds(groups_of(predictions))
    assert all("sex" not in found.groups[k] for found in met for k in (0, 1))
    table = subgroup_table(predictions, CLASSES, n_draws=20)
    assert row(table, "sex", "female")["confounded_with"] == ""
    assert row(table, "sentence", "rare")["confounded_with"] == "sex"
