"""From options to scored runs."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import synthetic
import torch
from hydra import compose
from pipeline_runs import TIM, composed, options, run_script, train

from ser.errors import SerError
from ser.run_folder import RunFolder, find_run


def test_a_run_leaves_its_results(tim_run: RunFolder) -> None:
    metrics = tim_run.metrics()
    predictions = pd.read_parquet(tim_run.predictions)
    right = (predictions["truth"] == predictions["prediction"]).mean()
    assert metrics["test/war"] == pytest.approx(right)
    assert metrics["test/clips"] == len(predictions)
    assert {"test/uar", "test/macro_f1", "best/uar", "test/recall/happy"} <= set(metrics)
    assert tim_run.state()["status"] == "finished"
    assert (tim_run.path / "figures" / "confusion_matrix.png").stat().st_size > 10_000
    assert (tim_run.path / "figures" / "training_curves.png").stat().st_size > 10_000
    probabilities = predictions.filter(like="probability_")
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)


def test_the_card_holds_what_validation_says_of_confidence(tim_run: RunFolder) -> None:
    from ser.checkpoint import load_checkpoint
    from ser.confidence import at_temperature, calibrate
    from ser.recognizer import load_recognizer

    card, metrics = load_checkpoint(tim_run.best)["ser"], tim_run.metrics()
    val = pd.read_parquet(tim_run.path / "validation_predictions.parquet")
    again = calibrate(at_temperature(val, card["classes"], 1.0), card["classes"], 0.9)
    assert card["temperature"] == pytest.approx(again.temperature, rel=1e-3)
    assert card["temperature"] == metrics["best/temperature"] == val["temperature"].iloc[0]
    assert card["abstain_below"] == pytest.approx(again.below, abs=1e-6)
    recognizer = load_recognizer(tim_run.best)
    assert recognizer.temperature == card["temperature"]
    assert recognizer.abstain_below == card["abstain_below"]
    test = pd.read_parquet(tim_run.predictions)
    answers = recognizer.predict_files([Path(path) for path in test["path"].head(2)])
    assert answers["confidence"].to_numpy() == pytest.approx(test["confidence"].head(2), abs=1e-4)
    for name in ("reliability", "risk_coverage"):
        assert (tim_run.path / "figures" / f"{name}.png").stat().st_size > 10_000
    assert (tim_run.path / "subgroups.md").read_text().startswith("# Subgroups: tim-ravdess")


def test_the_test_clips_choose_nothing(project: Path, hydra_ready: None, tmp_path: Path) -> None:
    from ser.checkpoint import load_checkpoint

    words = [*TIM, "keep=best", "early_stopping.patience=1"]
    run = train(project, *words)
    shutil.copytree(project / "data", tmp_path / "data")
    for number, path in enumerate(pd.read_parquet(run.predictions)["path"]):
        clip = tmp_path / Path(path).relative_to(project.resolve())
        synthetic.write_clip(clip, synthetic.tone(f"planted {number}", emotion=9))
    other = train(tmp_path, *words)
    ours, theirs = run.metrics(), other.metrics()
    chosen = [key for key in ours if not key.startswith("test/")]
    assert {"epochs", "best/kept_epoch", "best/temperature", "best/abstain_below"} <= set(chosen)
    assert {key: theirs[key] for key in chosen} == {key: ours[key] for key in chosen}
    assert theirs["test/nll"] != ours["test/nll"]
    weights = [load_checkpoint(r.best)["state_dict"] for r in (run, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_mlflow_holds_config_metrics_tags_and_files(project: Path, tim_run: RunFolder) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    run = client.get_run(tim_run.state()["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["trainer.max_epochs"] == "3"
    assert run.data.metrics["test/uar"] == tim_run.metrics()["test/uar"]
    assert len(client.get_metric_history(run.info.run_id, "val/uar")) == 3
    assert run.data.tags["model"] == "tim" and run.data.tags["split"] == "speaker_kfold"
    assert run.data.tags["synthetic"] == "false" and len(run.data.tags["split_hash"]) == 64
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "metrics.json", "predictions.parquet", "figures", "checkpoints"} <= files


def test_files_that_are_left_out_stand_in_the_card_and_in_mlflow(tmp_path, hydra_ready) -> None:
    from ser.run import tracker_of

    clips = synthetic.write_corpus("ravdess", tmp_path / "data" / "ravdess", speakers=6)
    clips[0].write_bytes(b"")
    clips[1].write_text("no audio")
    run = train(tmp_path, "model=chance")
    told = "ravdess: 2 problem files left out (unreadable 1, zero-length 1)"
    assert f"\n- {told}.\n" in (run.path / "MODEL_CARD.md").read_text()
    client = tracker_of(compose("train", options(tmp_path))).client
    assert client.get_run(run.state()["run_id"]).data.tags["left_out"] == told


def test_evaluate_gives_the_figures_that_training_logged(
    project: Path, tim_run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    from ser.evaluate import evaluate

    words = [f"runs_root={project / 'mlruns'}", f"run={tim_run.path}", "device=cpu"]
    with caplog.at_level("INFO", logger="ser"):
        uar = evaluate(composed(project, "evaluate", *words), [])
    assert uar == tim_run.metrics()["test/uar"]
    assert "equal those that training logged" in caplog.text
    scored = json.loads((tim_run.path / "evaluations" / "test" / "metrics.json").read_text())
    assert {"test/ece", "test/ece_uncalibrated", "test/brier", "test/nll"} <= set(scored)
    assert scored == {key: tim_run.metrics()[key] for key in scored}
    again = pd.read_parquet(tim_run.path / "evaluations" / "test" / "predictions.parquet")
    pd.testing.assert_frame_equal(again, pd.read_parquet(tim_run.predictions))


def test_another_corpus_is_scored_on_the_models_classes(
    project: Path, tim_run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    from ser.evaluate import evaluate

    synthetic.write_corpus("emodb", project / "data" / "emodb", speakers=2)
    words = [f"runs_root={project / 'mlruns'}", f"run={tim_run.path}", "device=cpu"]
    words += ["dataset=emodb", f"dataset.root={project / 'data' / 'emodb'}"]
    with caplog.at_level("INFO", logger="ser"):
        evaluate(composed(project, "evaluate", *words), [])
    assert "boredom are left out: the model has no such class" in caplog.text
    scored = pd.read_parquet(tim_run.path / "evaluations" / "emodb" / "predictions.parquet")
    assert set(scored["corpus"]) == {"emodb"} and "boredom" not in set(scored["truth"])
    left = RunFolder(tim_run.path / "evaluations" / "emodb").metrics()["test/left_out/boredom"]
    report = (tim_run.path / "evaluations" / "emodb" / "report.txt").read_text()
    assert f"\n{left:.0f} clips of boredom are left out: the model has no such class.\n" in report


def test_speakers_heard_in_training_are_not_scored_unless_asked(
    project: Path, tim_run: RunFolder
) -> None:
    from ser.evaluate import evaluate

    words = [f"runs_root={project / 'mlruns'}", f"run={tim_run.path}", "device=cpu"]
    words += ["dataset=ravdess", f"dataset.root={project / 'data' / 'ravdess'}"]
    evaluate(composed(project, "evaluate", *words), [])
    target = tim_run.path / "evaluations" / "ravdess" / "predictions.parquet"
    unseen = pd.read_parquet(target)
    assert set(unseen["id"]) == set(pd.read_parquet(tim_run.predictions)["id"])
    evaluate(composed(project, "evaluate", *words, "seen=keep"), [])
    kept = tim_run.path / "evaluations" / "ravdess_seen" / "predictions.parquet"
    assert len(pd.read_parquet(kept)) > len(unseen) == len(pd.read_parquet(target))


@pytest.mark.parametrize(("seen", "key"), [("drop", "left_out/heard"), ("keep", "heard")])
def test_what_the_model_had_heard_is_told_in_all_that_is_written(
    project: Path, tim_run: RunFolder, seen: str, key: str
) -> None:
    from mlflow import MlflowClient

    from ser.card_facts import transfer_text
    from ser.evaluate import evaluate

    words = [f"runs_root={project / 'mlruns'}", f"run={tim_run.path}", "device=cpu"]
    words += ["dataset=ravdess", f"dataset.root={project / 'data' / 'ravdess'}", f"seen={seen}"]
    evaluate(composed(project, "evaluate", *words), [])
    name = "ravdess_seen" if seen == "keep" else "ravdess"
    folder = RunFolder(tim_run.path / "evaluations" / name)
    heard, scored = (folder.metrics()[f"test/{name}"] for name in (key, "clips"))
    n_all = scored + heard * (seen == "drop")
    told = f"{heard:.0f} of {n_all:.0f} clips are of speakers that the model was trained on"
    assert told in (folder.path / "report.txt").read_text()
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    run = client.search_runs(["1"], "tags.kind = 'evaluation'", max_results=1)[0]
    assert told in run.data.tags["mlflow.note.content"]
    assert "| all clips" in run.data.tags["mlflow.note.content"]
    assert run.info.run_name.startswith("evaluation tim-")
    assert (folder.path / "subgroups.md").read_text().startswith("# Subgroups: tim-")
    assert ("known speakers too" in run.info.run_name) == (seen == "keep")
    assert f"{heard:.0f} of" * (seen == "keep") in transfer_text(tim_run.path)
    assert "known speakers" in transfer_text(tim_run.path)


def test_recordings_heard_in_training_are_not_scored_under_another_speakers_name(
    project: Path, tim_run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from ser.evaluate import evaluate

    wavs = sorted((project / "data" / "ravdess").rglob("*.wav"))
    clips = pd.DataFrame({"path": wavs, "emotion": "sad", "speaker": "somebody"})
    clips.to_csv(tmp_path / "clips.csv", index=False)
    words = [f"runs_root={project / 'mlruns'}", f"run={tim_run.path}", "device=cpu"]
    words += ["dataset=folder", f"dataset.root={tmp_path / 'clips.csv'}"]
    evaluate(composed(project, "evaluate", *words), [])
    scored = pd.read_parquet(tim_run.path / "evaluations" / "folder" / "predictions.parquet")
    own = pd.read_parquet(tim_run.predictions)
    assert {Path(path).name for path in scored["path"]} == {Path(p).name for p in own["path"]}
    assert "or the very recordings; they are left out" in caplog.text
    assert "held figures of other clips" not in caplog.text
    for wav in wavs:
        shutil.copy(wav, tmp_path / wav.name)
    moved = clips.assign(path=[tmp_path / wav.name for wav in wavs])
    moved.to_csv(tmp_path / "clips.csv", index=False)
    evaluate(composed(project, "evaluate", *words), [])
    assert "folder held figures of other clips, which are replaced" in caplog.text


def test_a_label_set_other_than_the_models_is_refused(project: Path, tim_run: RunFolder) -> None:
    from ser.evaluate import evaluate

    words = [f"runs_root={project / 'mlruns'}", f"run={tim_run.path}", "dataset=emodb"]
    words += [f"dataset.root={project / 'data' / 'emodb'}", "dataset.labels=four"]
    with pytest.raises(SerError, match="trained on label set eight"):
        evaluate(composed(project, "evaluate", *words), ["dataset.labels=four"])


def test_a_second_run_computes_no_feature_and_repeats_the_first(
    project: Path, tim_run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="ser"):
        again = train(project, *TIM)
    assert " 0 computed" in caplog.text
    assert again.metrics() == tim_run.metrics()


@pytest.mark.parametrize("model", ["chance", "linear", "wav2vec2", "ensemble", "cnn_lstm"])
def test_every_arm_trains_and_is_scored(project: Path, hydra_ready: None, model: str) -> None:
    run = train(project, f"model={model}", "trainer.max_epochs=1", "test=true")
    assert 0 <= run.metrics()["test/uar"] <= 1


@pytest.mark.parametrize("augment", ["none", "mixup", "waveform", "voice"])
def test_every_augmentation_trains(project: Path, hydra_ready: None, augment: str) -> None:
    run = train(project, *TIM, f"augment={augment}", "trainer.max_epochs=1", "test=false")
    assert "test/uar" not in run.metrics() and not run.predictions.exists()


def test_lora_fine_tunes_on_waveforms(project: Path, hydra_ready: None) -> None:
    run = train(project, "model=wav2vec2", "model.finetune=lora", "trainer.max_epochs=1")
    assert "waveform" in run.config.read_text()


def test_a_sweep_does_what_is_missing_and_tells_the_arms_apart(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = options(project, "sweep.grid.model=[tim]", "sweep.grid.seed=[0,1]")
    words += ["+sweep.grid.augment=[none,specaugment]", "trainer.max_epochs=1"]
    first = run_script("sweep.py", project, *words)
    assert first.returncode == 0, first.stderr
    assert "augment=none" in first.stdout and "augment=specaugment" in first.stdout
    assert "±" in first.stdout
    again = run_script("sweep.py", project, *words)
    assert again.stdout.count("\ndone before: ") == 4


def test_a_mistake_is_one_paragraph_and_status_2(project: Path) -> None:
    done = run_script("train.py", project, "dataset=emodb", "dataset.root=nowhere")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.strip().count("\n") == 0 and "dataset.root" in done.stderr


def test_find_run_by_id_folder_and_checkpoint(project: Path, tim_run: RunFolder) -> None:
    runs = project / "mlruns" / "runs"
    run_id = json.loads((tim_run.path / "run.json").read_text())["run_id"]
    for named in (str(tim_run.path), run_id, run_id[:8], str(tim_run.best)):
        assert find_run(named, runs, finished=True).path.resolve() == tim_run.path.resolve()
