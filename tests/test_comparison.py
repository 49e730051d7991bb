"""The table over runs: which arm a run belongs to, folds pooled, mean and deviation over seeds."""

import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from sklearn.metrics import balanced_accuracy_score

from ser import comparison
from ser.comparison import arm_names, compare_rows, model_names, tell_comparison
from ser.errors import SerError
from ser.metrics import METRICS

CLASSES = ("happy", "sad")


class Kept:
    """A tracker with given children; keeps the tables that it is told to log."""

    def __init__(self, children: pd.DataFrame) -> None:
        self._children = children
        self.tables: dict[str, str] = {}

    def children(self, parent: str) -> pd.DataFrame:
        return self._children

    def log_table(self, run_id: str, name: str, text: str) -> None:
        self.tables[name] = text

    def describe(self, run_id: str, text: str) -> None:
        self.description = text


def child(overrides: str, **changes: object) -> dict[str, object]:
    words = dict(word.split("=", 1) for word in overrides.split() if "=" in word)
    figures = {f"{part}/{name}": 0.5 for part in ("best", "test") for name in METRICS}
    return {
        "overrides": overrides, "model": words.get("model", "ensemble"), "fold": "0",
        "seed": words.get("seed", "0"), "config": overrides, "synthetic": "false",
        "run_folder": "/nowhere", **figures, **changes,
    }  # fmt: skip


def names(*overrides: str) -> list[str]:
    return arm_names(pd.DataFrame([child(words) for words in overrides]))


@pytest.fixture
def printed(monkeypatch):
    """What is printed, as in a pipe."""
    stream = io.StringIO()
    monkeypatch.setattr(comparison, "Console", lambda: Console(file=stream, width=200))
    return stream


def test_an_arm_is_named_by_what_varies():
    assert names("model=tim seed=0", "model=linear seed=0") == ["tim", "linear"]
    assert names("model=tim augment=none", "model=tim augment=mixup") == [
        "augment=none", "augment=mixup",
    ]  # fmt: skip
    assert names("model=tim optimizer.lr=1", "model=linear optimizer.lr=2") == [
        "tim optimizer.lr=1", "linear optimizer.lr=2",
    ]  # fmt: skip


def test_an_experiment_is_named_though_all_runs_have_it():
    words = "model=tim experiment=x"
    assert names(f"{words} seed=0", f"{words} seed=1") == ["tim experiment=x"] * 2
    assert names(f"{words} optimizer.lr=1", f"{words} optimizer.lr=2") == [
        "experiment=x optimizer.lr=1", "experiment=x optimizer.lr=2",
    ]  # fmt: skip


def test_seeds_and_folds_repeat_an_arm():
    assert names("seed=0 split.fold=1", "seed=1 split.fold=2") == ["ensemble", "ensemble"]
    assert names("model=tim dataset=demo", "model=tim dataset=demo") == ["tim", "tim"]


def test_values_that_hold_spaces_are_whole():
    words = "model=tim feature.speeds=[0.9, {}] +trainer.x=1"
    assert names(words.format("1"), words.format("1.1")) == [
        "feature.speeds=[0.9, 1]", "feature.speeds=[0.9, 1.1]",
    ]  # fmt: skip


def test_an_option_left_out_is_an_arm_of_its_own():
    assert names("model=tim", "model=tim augment=mixup") == ["tim", "augment=mixup"]


def test_one_row_for_each_arm_and_seed():
    figures = {("tim", 0): 0.1, ("tim", 1): 0.2, ("linear", 0): 0.3, ("linear", 1): 0.4}
    children = [
        child(f"model={model} seed={seed}", **{"test/uar": value, "epochs": 3.0})
        for (model, seed), value in figures.items()
    ]
    rows = compare_rows(pd.DataFrame(children))
    seen = [(row["arm"], row["seed"], row["folds"], row["test/uar"]) for row in rows]
    assert seen == [
        ("tim", "0", 1, 0.1), ("tim", "1", 1, 0.2), ("linear", "0", 1, 0.3), ("linear", "1", 1, 0.4)
    ]  # fmt: skip
    assert "epochs" not in rows[0]


@pytest.fixture
def folds(tmp_path) -> list[dict[str, object]]:
    """Two folds of one run: a small one all right, a larger one mostly wrong."""
    parts = {
        0: (["happy", "sad"], ["happy", "sad"]),
        1: (["happy", "sad", "sad", "sad"], ["sad", "sad", "happy", "happy"]),
    }
    runs = []
    for fold, (truth, prediction) in parts.items():
        folder = tmp_path / str(fold)
        folder.mkdir()
        table = pd.DataFrame({"truth": truth, "prediction": prediction})
        table = table.assign(id=[f"{fold}/{n}" for n in range(len(table))], corpus="x", sex="male")
        table = table.assign(speaker=f"s{fold}", confidence=1.0, temperature=1.0)
        for name in CLASSES:
            table[f"probability_{name}"] = (table["prediction"] == name).astype(float)
        table.to_parquet(folder / "predictions.parquet")
        runs.append(child(f"split.fold={fold}", fold=str(fold), run_folder=str(folder)))
    return runs


def test_the_clips_of_folds_are_pooled_and_scored_once(folds):
    (row,) = compare_rows(pd.DataFrame(folds))
    truth = ["happy", "sad", "happy", "sad", "sad", "sad"]
    prediction = ["happy", "sad", "sad", "sad", "happy", "happy"]
    assert row["folds"] == 2 and row["test/clips"] == 6
    assert row["test/uar"] == pytest.approx(balanced_accuracy_score(truth, prediction))
    assert row["test/war"] == pytest.approx(0.5)


def test_validation_figures_of_several_folds_are_their_mean(printed):
    values = [0.2, 0.4, 0.9]
    children = [
        {key: value for key, value in row.items() if not key.startswith("test/")}
        for n, value in enumerate(values)
        for row in [child(f"split.fold={n}", fold=str(n), **{"best/uar": value})]
    ]
    (row,) = compare_rows(pd.DataFrame(children))
    assert row["folds"] == 3 and row["best/uar"] == pytest.approx(0.5)
    tell_comparison(Kept(pd.DataFrame(children)), "parent")
    assert "kept checkpoint; mean over folds, mean ± sd over seeds" in printed.getvalue()


def test_a_seed_that_lacks_folds_is_a_row_of_its_own_that_names_them(folds, printed):
    other = [{**run, "seed": "1", "overrides": f"seed=1 {run['overrides']}"} for run in folds]
    tracker = Kept(pd.DataFrame([*folds, {**other[1], "test/uar": 0.0}]))
    tell_comparison(tracker, "parent")
    whole, partial = compare_rows(tracker.children("parent"))
    assert (whole["arm"], whole["test/clips"]) == ("ensemble", 6)
    assert (partial["arm"], partial["test/uar"]) == ("ensemble (only fold 1)", 0)
    assert "ensemble (only fold 1)" in printed.getvalue()
    assert "±" not in tracker.tables["comparison.md"]


def test_runs_with_and_without_test_figures_are_not_pooled(folds):
    closed = child("test=false split.fold=0", **{"test/uar": np.nan, "best/uar": 0.1})
    closed |= {"seed": "1"}
    rows = compare_rows(pd.DataFrame([*folds, closed, {**closed, "fold": "1"}]))
    assert "test/uar" in rows[0] and "test/uar" not in rows[1] and rows[1]["best/uar"] == 0.1


def test_the_table_tells_mean_and_deviation_over_seeds(printed):
    values = [0.1, 0.2, 0.6]
    children = [child(f"seed={n}", **{"test/uar": value}) for n, value in enumerate(values)]
    tracker = Kept(pd.DataFrame(children))
    tell_comparison(tracker, "parent")
    text = printed.getvalue()
    expected = f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert expected == "0.300 ± 0.265" and expected in text
    assert "3 runs, test part; folds pooled, mean ± sd over seeds" in text
    assert "SYNTHETIC" not in text
    assert expected in tracker.tables["comparison.md"] and expected in tracker.description
    runs = pd.read_csv(io.StringIO(tracker.tables["runs.csv"]))
    assert runs["test/uar"].tolist() == values and runs["seed"].tolist() == [0, 1, 2]


def test_without_test_figures_the_validation_part_is_compared(printed):
    closed = child("model=tim")
    closed = {key: value for key, value in closed.items() if not key.startswith("test/")}
    tell_comparison(Kept(pd.DataFrame([closed, child("model=linear")])), "parent")
    assert "2 runs, validation part, kept checkpoint" in printed.getvalue()
    assert "best/uar" in printed.getvalue() and "test/uar" not in printed.getvalue()


def test_synthetic_speech_is_named_in_the_title(printed):
    tell_comparison(Kept(pd.DataFrame([child("model=tim", synthetic="true")])), "parent")
    assert "SYNTHETIC SPEECH" in printed.getvalue()


def test_only_the_recipes_asked_for_and_each_once(printed):
    children = [
        child("model=tim"), child("model=tim", **{"test/uar": 0.9}), child("model=linear"),
    ]  # fmt: skip
    tracker = Kept(pd.DataFrame(children))
    tell_comparison(tracker, "parent", ["model=tim"])
    runs = pd.read_csv(io.StringIO(tracker.tables["runs.csv"]))
    assert runs["arm"].tolist() == ["tim"] and runs["test/uar"].tolist() == [0.5]


@pytest.mark.parametrize("children", [pd.DataFrame(), pd.DataFrame([child("model=tim")])])
def test_nothing_finished_nothing_compared(children, printed, caplog):
    caplog.set_level(logging.WARNING, logger="ser")
    tracker = Kept(children)
    tell_comparison(tracker, "parent", ["another recipe"])
    assert "no run has finished" in caplog.text
    assert printed.getvalue() == "" and tracker.tables == {}


def test_a_fold_whose_predictions_are_gone_is_not_passed_over(folds):
    Path(str(folds[1]["run_folder"]), "predictions.parquet").unlink()
    with pytest.raises(SerError, match=r"1 has no predictions\.parquet"):
        compare_rows(pd.DataFrame(folds))


def test_models_of_one_name_are_told_apart_by_their_options() -> None:
    def model(name: str, fusion: str, path: str, **later: int) -> DictConfig:
        arm = {"encoder": {"name": "whisper_base", "path": path}, "hidden": 64}
        return OmegaConf.create({"name": name, "fusion": fusion, "wav2vec2": arm, **later})

    moved = [model("ensemble", "gated", "/a"), model("ensemble", "gated", "/b", silence_s=1)]
    assert model_names(moved) == ["ensemble", "ensemble"]
    several = [*moved, model("ensemble", "concat", "/a"), model("other", "concat", "/a")]
    gated = "ensemble fusion=gated"
    assert model_names(several) == [gated, gated, "ensemble fusion=concat", "other"]
    several[2].wav2vec2.hidden = 32  # fusion tells it apart already
    assert model_names(several) == [gated, gated, "ensemble fusion=concat", "other"]
    several[1].wav2vec2.hidden = 32
    assert model_names(several)[:2] == [f"{gated} wav2vec2.hidden={n}" for n in (64, 32)]
