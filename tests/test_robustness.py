"""Robustness end to end: figures against hand counts, files, MLflow, and training for it."""

from pathlib import Path

import pandas as pd
import pytest
import synthetic
import torch
from composing import composed as compose_words
from omegaconf import DictConfig

from ser.assemble import compute_features, voices_of
from ser.augment import Augmented, RobustAugment
from ser.conditions import Degradation
from ser.config import check
from ser.errors import SerError
from ser.evaluate import evaluate
from ser.features import RawWaveform
from ser.robustness import (
    about_intervals,
    babble_clips,
    compare_conditions,
    gain_by_condition,
    gains_markdown,
    robustness_markdown,
    robustness_metrics,
)
from ser.robustness_plots import robustness_figure
from ser.run import train
from ser.run_folder import RunFolder

CLASSES = ("happy", "sad")
SMALL = [
    "dataset=ravdess", "split=speaker_kfold", "split.n_folds=3", "split.val_fraction=0.3",
    "encoder=tiny", "model=wav2vec2", "trainer.max_epochs=2", "trainer.accelerator=cpu",
]  # fmt: skip


def predictions(right: int, of: int = 20) -> pd.DataFrame:
    """Twenty clips of each class by four speakers; the first `right` of each class are right."""
    rows = [
        {
            "id": f"{truth}{n}", "corpus": "c", "speaker": f"s{n % 4}", "truth": truth,
            "prediction": truth if n < right else CLASSES[truth == "happy"],
        }
        for truth in CLASSES
        for n in range(of)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    conditions = [Degradation("white", 20), Degradation("white", 0), Degradation("telephone", 1)]
    degraded = [predictions(16), predictions(10).sample(frac=1, random_state=0), predictions(18)]
    return compare_conditions(conditions, degraded, predictions(18), CLASSES)


def test_the_table_has_clean_each_condition_and_the_mean(table):
    assert table["condition"].tolist() == [
        "clean", "white 20 dB SNR", "white 0 dB SNR", "telephone", "mean"
    ]  # fmt: skip
    assert table["uar"].tolist() == pytest.approx([0.9, 0.8, 0.5, 0.9, (0.8 + 0.5 + 0.9) / 3])
    assert table["drop"].tolist() == pytest.approx([0, 0.1, 0.4, 0, 0.9 - 2.2 / 3])
    inside = (table["low"] <= table["drop"]) & (table["drop"] <= table["high"])
    assert inside.all()
    assert table.loc[2, "low"] > 0.15  # ten of forty clips lost more: sure
    assert table.loc[3, "low"] == table.loc[3, "high"] == 0  # the very same answers


def test_metrics_and_markdown_hold_the_same_figures(table):
    metrics = robustness_metrics(table)
    assert metrics["robustness/white/0/uar"] == pytest.approx(0.5)
    assert metrics["robustness/white/20/drop"] == pytest.approx(0.1)
    assert metrics["robustness/telephone/1/war"] == pytest.approx(0.9)
    assert metrics["robustness/mean/uar"] == pytest.approx(2.2 / 3)
    assert metrics["robustness/clean/uar"] == pytest.approx(0.9) and len(metrics) == 15
    lines = robustness_markdown(table).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == [
        "0.900", "0.800", "0.500", "0.900", "0.733"
    ]  # fmt: skip
    assert lines[2].split("|")[4].strip() == "" and " to " in lines[3]


def test_the_figure_has_a_panel_for_each_kind_and_the_clean_line(table):
    figure = robustness_figure(table, "t", 0.5, None, "")
    noise, other = figure.axes
    assert [noise.get_title(), other.get_title()] == ["noise", "other"]
    heights = {line.get_ydata()[0] for line in noise.lines if line.get_linestyle() in ("--", ":")}
    assert sorted(heights) == pytest.approx([0.5, 0.9])
    drawn = noise.containers[0].lines[0]
    assert drawn.get_ydata().tolist() == pytest.approx([0.8, 0.5])
    assert [tick.get_text() for tick in noise.get_xticklabels()] == ["20", "0"]
    assert [text.get_text() for text in noise.get_legend().get_texts()] == ["white"]
    assert [tick.get_text() for tick in other.get_xticklabels()] == ["telephone"]


def test_a_family_of_no_panel_of_its_own_is_drawn_too(table):
    named = table.replace({"family": {"telephone": "wind"}, "condition": {"telephone": "wind"}})
    wide = named.assign(low=-0.9, high=0.95)  # of a few speakers
    *_, other = robustness_figure(wide, "t", 0.5, None, "").figure.axes
    (bar,) = other.collections[0].get_segments()
    assert bar[:, 1].tolist() == pytest.approx([0, 1])
    assert [tick.get_text() for tick in other.get_xticklabels()] == ["wind"]


def all_answers(clean: int, noisy: int, phone: int) -> pd.DataFrame:
    counts = {"clean": clean, "white 20 dB SNR": noisy, "telephone": phone}
    return pd.concat([predictions(n).assign(condition=label) for label, n in counts.items()])


def test_a_gain_is_paired_by_condition_and_its_mean_leaves_clean_out(table):
    before = all_answers(18, 8, 12).sample(frac=1, random_state=0)
    gains = gain_by_condition(before, all_answers(17, 14, 12), CLASSES)
    assert gains["condition"].tolist() == ["clean", "white 20 dB SNR", "telephone", "mean"]
    assert gains["gain"].tolist() == pytest.approx([-0.05, 0.3, 0, 0.15])
    assert gains["before"].tolist() == pytest.approx([0.9, 0.4, 0.6, 0.5])
    assert gains.loc[1, "low"] > 0 and gains.loc[2, "low"] == gains.loc[2, "high"] == 0
    assert gains.loc[3, "high"] == pytest.approx(gains.loc[1, "high"] / 2)
    assert "| +0.300 |" in gains_markdown(gains) and "| -0.050 |" in gains_markdown(gains)

    gains.loc[gains["condition"] == "telephone", "before"] = 0.98  # above all else
    figure = robustness_figure(table[table["severity"] != 0], "t", 0.5, gains, "linear-s0")
    assert "hollow: linear-s0" in figure.get_suptitle() and figure.axes[0].get_ylim()[1] > 0.98
    hollow = [line for axes in figure.axes for line in axes.lines
              if line.get_markerfacecolor() == "white" and line.get_markersize() > 4]  # fmt: skip
    assert [line.get_ydata().tolist() for line in hollow] == [[pytest.approx(0.4)], [0.98]]


def test_few_speakers_are_warned_of():
    told = [
        about_intervals(pd.DataFrame({"corpus": "x", "speaker": range(speakers)}))
        for speakers in (1, 4, 11)
    ]
    assert "clips alone" in told[0] and "4 speakers are few" in told[1]
    assert told[2].endswith("over speakers and their clips.")


def test_babble_is_of_the_clips_scored_unless_they_have_too_few_speakers(caplog):
    speech = pd.DataFrame({"speaker": list("aabbccddeeff"), "id": range(12)})
    five, four = speech[speech["speaker"] < "f"], speech[speech["speaker"] < "e"]
    assert babble_clips(five, speech) is five
    with caplog.at_level("INFO"):
        assert babble_clips(four, speech) is speech
    assert "voices of all 6 speakers" in caplog.text


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robustness")
    synthetic.write_corpus("ravdess", folder / "data" / "ravdess", speakers=6)
    return folder


def train_cfg(project: Path, *words: str) -> DictConfig:
    folders = [f"{name}_root={project / folder}" for name, folder in
               (("data", "data"), ("cache", "cache"), ("runs", "mlruns"))]  # fmt: skip
    return compose_words(*SMALL, *folders, *words)


def evaluate_cfg(project: Path, run: RunFolder, *words: str) -> DictConfig:
    folders = [f"cache_root={project / 'cache'}", f"runs_root={project / 'mlruns'}", "device=cpu"]
    return compose_words(*folders, f"run={run.path}", *words, config="evaluate")


def trained(project: Path, *words: str) -> RunFolder:
    before = set((project / "mlruns" / "runs").glob("*"))
    train(train_cfg(project, *words))
    (new,) = set((project / "mlruns" / "runs").glob("*")) - before
    return RunFolder(new)


@pytest.fixture(scope="module")
def run(project: Path) -> RunFolder:
    return trained(project, "dataset.labels=native")


FEW = ["robustness=[babble,telephone,speed]", "severities.babble=[10,0]"]


def test_a_run_is_scored_under_each_condition_and_a_second_time_from_the_cache(
    project, run, caplog, capsys
):
    from mlflow import MlflowClient

    uar = evaluate(evaluate_cfg(project, run, *FEW), [])
    folder = RunFolder(run.path / "evaluations" / "robustness")
    table = pd.read_csv(folder.path / "robustness.csv")
    assert table["condition"].tolist() == [
        "clean", "babble 10 dB SNR", "babble 0 dB SNR", "telephone", "speed ×0.9",
        "speed ×1.1", "mean",
    ]  # fmt: skip
    assert uar == table.loc[0, "uar"] == pytest.approx(run.metrics()["test/uar"])
    answers = pd.read_parquet(folder.predictions)
    assert (answers["condition"] == "clean").sum() == run.metrics()["test/clips"]
    for condition, group in answers.groupby("condition"):
        right = (group["truth"] == group["prediction"]).mean()
        assert right == pytest.approx(table.set_index("condition").loc[condition, "war"])
    assert answers.groupby("id").size().eq(6).all()
    probability = answers.set_index(["condition", "id"])["probability_happy"].unstack(0)
    assert (probability.nunique(axis=1) > 3).all()  # each condition was really heard
    assert (folder.path / "robustness.png").stat().st_size > 10_000
    assert "| telephone" in capsys.readouterr().out
    assert "| telephone" in (folder.path / "robustness.md").read_text()

    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    (logged,) = client.search_runs(["1"], "tags.kind = 'evaluation' and tags.robustness = 'true'")
    assert logged.data.metrics == folder.metrics()
    assert logged.data.metrics["robustness/mean/uar"] == pytest.approx(table["uar"].iloc[-1])

    with caplog.at_level("INFO", logger="ser"):
        evaluate(evaluate_cfg(project, run, *FEW), [])
    assert " 0 computed" in caplog.text
    assert not [line for line in caplog.messages if "computed" in line and " 0 comp" not in line]
    pd.testing.assert_frame_equal(pd.read_csv(folder.path / "robustness.csv"), table)


def test_a_run_is_held_against_another_that_was_scored_likewise(project, run, capsys):
    words = ["robustness=[speed,level]", f"against={run.path}"]
    evaluate(evaluate_cfg(project, run, "robustness=speed"), [])
    with pytest.raises(SerError, match="was not scored under level -30 dB"):
        evaluate(evaluate_cfg(project, run, *words), [])
    evaluate(evaluate_cfg(project, run, "robustness=[speed,level]"), [])
    other = trained(project, "dataset.labels=native", "seed=1")
    evaluate(evaluate_cfg(project, other, *words), [])
    gains = pd.read_csv(other.path / "evaluations" / "robustness" / "gains.csv")
    tables = [
        pd.read_csv(r.path / "evaluations" / "robustness" / "robustness.csv")["uar"].tolist()
        for r in (run, other)
    ]
    assert gains["before"].tolist() == pytest.approx(tables[0])
    assert gains["after"].tolist() == pytest.approx(tables[1])
    assert f"## against {run.path.name}" in capsys.readouterr().out
    with pytest.raises(SerError, match=r"nothing to compare with\. Score that run first"):
        evaluate(evaluate_cfg(project, other, *words, "part=val"), [])


def test_a_word_that_is_no_condition_is_refused_before_anything_is_read(project, run):
    with pytest.raises(SerError, match="robustness=wind is no condition"):
        evaluate(evaluate_cfg(project, run, "robustness=wind", "cache_root=/nowhere"), [])


def test_validation_clips_keep_their_own_folder(project, run):
    evaluate(evaluate_cfg(project, run, "robustness=level", "part=val"), [])
    assert (run.path / "evaluations" / "robustness_val" / "robustness.csv").is_file()


def test_native_classes_cannot_be_scored_on_several_corpora_together(project, run):
    words = ["dataset=combined", f"dataset.root={project / 'data'}"]
    with pytest.raises(SerError) as caught:
        evaluate(evaluate_cfg(project, run, *words), [])
    assert "knows the classes of ravdess alone" in str(caught.value)
    assert "one corpus at a time: dataset=NAME" in str(caught.value)


def test_copies_of_training_clips_hear_training_voices_only(project, monkeypatch):
    heard: list[RobustAugment] = []
    kept = RobustAugment.with_voices

    def watched(self: RobustAugment, voices: object) -> RobustAugment:
        heard.append(kept(self, voices))
        return heard[-1]

    monkeypatch.setattr(RobustAugment, "with_voices", watched)
    run = trained(
        project, "augment=robust", "augment.copies=2", "test=true", "dataset.labels=eight"
    )
    (augment,) = heard
    card = torch.load(run.best, weights_only=True)["ser"]
    test = pd.read_parquet(run.predictions)
    val = pd.read_parquet(run.path / "validation_predictions.parquet")
    assert augment.voices is not None
    mixed = set(augment.voices.by_speaker)
    assert mixed and mixed.isdisjoint({*test["speaker"], *val["speaker"]})
    assert mixed == set(card["speakers"]) - set(val["speaker"])
    stored = [
        p.read_text() for p in (project / "cache/features").glob("SpeechEmbedding-*/settings.txt")
    ]
    assert sum('"steps"' in text for text in stored) == 2


def test_the_options_of_robust_build_and_pass_the_check():
    cfg = compose_words("augment=robust", "dataset=demo")
    check(cfg)
    families = [family for step in cfg.augment.waveform.steps for family in step.families]
    assert "babble" in families and "mp3" not in families


def test_real_speech_is_degraded_without_a_fault(shared, tmp_path):
    from ser.speech import open_speech

    speech = open_speech(
        source="corpus", root=shared / "data" / "emodb", corpora=["emodb"], labels="native",
        strict=False, cache_root=tmp_path, progress=False,
    )  # fmt: skip
    table = speech.table.groupby("speaker").head(2)
    for family, severity in (("babble", 5), ("mp3", 16), ("telephone", 1), ("reverb", 1.0)):
        condition = Degradation(family, severity, voices_of(table))
        stores = compute_features(tmp_path, [Augmented(RawWaveform(), condition, 0)], table)
        assert all(sha256 in stores["waveform"][0] for sha256 in table["sha256"])
