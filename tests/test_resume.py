"""Runs that are cut off and gone on with, and the second training on train and validation."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra import compose
from omegaconf import OmegaConf
from pipeline_runs import ROOT, TIM, composed, options, run_script, train

from ser.checkpoint import load_checkpoint
from ser.errors import INTERRUPTED, SerError
from ser.run_folder import RunFolder, find_run
from ser.tracking import Tracker


def test_a_killed_run_resumes_to_the_same_figures(project: Path, tim_run: RunFolder) -> None:
    words = [w for w in options(project, *TIM) if not w.startswith("trainer.max_epochs")]
    whole = train(project, *TIM, "trainer.max_epochs=6")
    folder, _ = _stop_in_training([*words, "trainer.max_epochs=6"], project, signal.SIGKILL)
    places = [word for word in words if "_root=" in word]
    done = run_script("train.py", project, f"resume={folder.path}", *places)
    assert done.returncode == 0, done.stderr
    assert folder.state()["status"] == "finished"
    assert folder.metrics() == whole.metrics()
    first, second = (pd.read_csv(run.path / "history.csv") for run in (whole, folder))
    pd.testing.assert_frame_equal(first, second)


def test_refit_trains_on_validation_too_once_it_is_scored(
    project: Path, tim_run: RunFolder
) -> None:
    from ser.assemble import build_data
    from ser.fitting import fit
    from ser.run import prepare

    run = train(project, *TIM, "refit=true")
    found, before = run.metrics(), tim_run.metrics()
    of_validation = {key for key in before if key.startswith("best/")}
    assert {key: found[key] for key in of_validation} == {key: before[key] for key in of_validation}
    card = (run.path / "MODEL_CARD.md").read_text()
    assert "trained anew, for as many epochs, on train and validation together" in card
    first = (tim_run.path / "MODEL_CARD.md").read_text()
    assert "trained anew" not in first
    assert "Seed 0; epoch 3 of 3 was kept." in first
    assert "3 speakers were heard in training" in first
    assert "4 speakers were heard in training" in card

    job = prepare(compose("train", options(project, *TIM)))
    split = job.material.split
    joint = replace(split, train=tuple(sorted(split.train + split.val)))
    job = replace(job, material=replace(job.material, split=joint))
    other = RunFolder(project / "by_hand")
    other.path.mkdir()
    other.set_state(run_id="none", status="running")
    task, epochs = fit(job, build_data(job.cfg, job.material, job.features), other, False)
    delivered = load_checkpoint(run.best)["state_dict"]
    assert epochs == 3 and delivered.keys() == task.state_dict().keys()
    for name, value in task.state_dict().items():
        torch.testing.assert_close(delivered[name], value, rtol=0, atol=0)
    first = load_checkpoint(run.last)["state_dict"]
    assert not torch.equal(first["model.head.weight"], delivered["model.head.weight"])
    assert {"train/loss", "train/uar"} < set(pd.read_csv(run.path / "history_again.csv").columns)


def test_what_trained_on_validation_is_not_scored_on_it(project: Path, hydra_ready: None) -> None:
    from ser.evaluate import evaluate

    run = train(project, *TIM, "refit=true", "trainer.max_epochs=1", "test=false")
    for checkpoint in (run.best, run.again):
        words = [f"runs_root={project / 'mlruns'}", f"run={checkpoint}", "device=cpu", "part=val"]
        with pytest.raises(SerError, match="part=val: tim was fitted again on train and val"):
            evaluate(composed(project, "evaluate", *words), [])


def test_refit_ends_with_the_epoch_that_was_kept(project: Path, hydra_ready: None) -> None:
    # gradients are climbed and the loss rises: it is not the last epoch that is kept
    words = ["monitor.metric=val/loss", "monitor.mode=min", "+optimizer.maximize=true"]
    run = train(project, *TIM, "refit=true", "keep=best", *words)
    again = pd.read_csv(run.path / "history_again.csv")
    assert len(again) == run.metrics()["best/kept_epoch"] == again["epoch"].iloc[-1] < 3
    assert len(pd.read_csv(run.path / "history.csv")) == 3


def test_a_run_of_before_refit_resumes(project: Path, hydra_ready: None) -> None:
    from ser.run import train as train_run

    run = train(project, *TIM, "trainer.max_epochs=1")
    before, cfg = run.metrics(), OmegaConf.load(run.config)
    del cfg["refit"]
    OmegaConf.save(cfg, run.config)
    run.set_state(status="running")
    train_run(compose("train", options(project, f"resume={run.path}")))
    assert run.state()["status"] == "finished" and run.metrics() == before


def test_a_run_killed_in_its_second_training_resumes_to_the_same_figures(
    project: Path, hydra_ready: None
) -> None:
    chosen = [*TIM, "refit=true", "trainer.max_epochs=6"]
    words = [w for w in options(project) if not w.startswith("trainer.max_epochs")]
    whole = train(project, *chosen)
    folder, _ = _stop_in_training([*words, *chosen], project, signal.SIGKILL, "again.ckpt")
    assert not folder.best.is_file()
    done = run_script("train.py", project, f"resume={folder.path}", *words[-3:])
    assert done.returncode == 0, done.stderr
    assert folder.metrics() == whole.metrics()
    for name in ("history.csv", "history_again.csv"):
        first, second = (pd.read_csv(run.path / name) for run in (whole, folder))
        pd.testing.assert_frame_equal(first, second)


def test_a_run_killed_once_it_had_stopped_early_trains_no_more(
    project: Path, hydra_ready: None
) -> None:
    from ser.run import train as train_run

    run = train(project, *TIM, "early_stopping.patience=1", "trainer.max_epochs=30")
    expected = run.metrics()
    assert expected["epochs"] < 30
    state = run.state()
    del state["epochs"]
    (run.path / "run.json").write_text(json.dumps(state | {"status": "running"}))
    (run.path / "metrics.json").unlink()
    train_run(compose("train", options(project, f"resume={run.path}")))
    assert run.metrics() == expected


def test_ctrl_c_says_how_to_go_on(project: Path, hydra_ready: None) -> None:
    words = [*options(project, *TIM), "trainer.max_epochs=200"]
    folder, done = _stop_in_training(words, project, signal.SIGINT)
    assert done.returncode == INTERRUPTED
    assert f"interrupted; go on with: python train.py resume={folder.path}" in done.stdout


def _stop_in_training(
    words: list[str], project: Path, how: signal.Signals, written: str = "last.ckpt"
) -> tuple[RunFolder, subprocess.CompletedProcess]:
    """Start a run in a process of its own and stop it once this checkpoint of an epoch is there."""
    runs = project / "mlruns" / "runs"
    before = set(runs.glob("*"))
    command = [sys.executable, ROOT / "train.py", *words]
    # a job in the background ignores Ctrl-C, and so would the process that it starts
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heard)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        new = [path for path in runs.glob("*") if path not in before]
        if new and (RunFolder(new[0]).checkpoints / written).is_file():
            break
        time.sleep(0.01)
    os.kill(process.pid, how)
    told, _ = process.communicate(timeout=60)
    folder = RunFolder(next(path for path in runs.glob("*") if path not in before))
    assert folder.state()["status"] == "running" and folder.last.is_file()
    return folder, subprocess.CompletedProcess(command, process.returncode, told)


def test_a_run_cut_off_before_mlflow_had_its_copy_is_the_last_and_finished_there_by_a_resume(
    project: Path, tmp_path: Path, hydra_ready: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser.run import tracker_of
    from ser.run import train as train_run

    root = f"runs_root={tmp_path}"

    def full(self: Tracker, run_id: str, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Tracker, "log_folder", full)
        train_run(compose("train", options(project, *TIM, root, "trainer.max_epochs=1")))
    again = compose("train", options(project, root, "resume=last"))
    run = find_run("last", tmp_path / "runs", finished=True)
    tracker, run_id = tracker_of(again), run.state()["run_id"]
    assert tracker.status(run_id) == "FAILED"
    assert train_run(again) == run.metrics()["best/uar"]
    assert tracker.status(run_id) == "FINISHED"
    with pytest.raises(SerError, match="has been cut off"):
        find_run("last", tmp_path / "runs", finished=False)
    kept = tracker.client.download_artifacts(run_id, "run.json")
    assert json.loads(Path(kept).read_text())["status"] == "finished"


def test_a_run_whose_options_mlflow_does_not_have_leaves_no_folder(
    project: Path, hydra_ready: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser.run import train as train_run

    asked: list[tuple[Tracker, str]] = []

    def killed(tracker: Tracker, run_id: str, _: object) -> None:
        asked.append((tracker, run_id))
        raise KeyboardInterrupt

    monkeypatch.setattr(Tracker, "log_config", killed)
    runs = project / "mlruns" / "runs"
    before = set(runs.glob("*"))
    with pytest.raises(KeyboardInterrupt):
        train_run(compose("train", options(project, *TIM)))
    assert set(runs.glob("*")) == before
    ((tracker, run_id),) = asked
    assert tracker.status(run_id) == "KILLED"


def test_a_run_that_another_process_writes_is_left_alone(project: Path, hydra_ready: None) -> None:
    from ser.run import tracker_of
    from ser.run import train as train_run

    run = train(project, *TIM, "trainer.max_epochs=1")
    again = compose("train", options(project, f"resume={run.path}"))
    run.set_state(status="running")
    tracker, run_id = tracker_of(again), run.state()["run_id"]
    tracker.reopen(run_id)
    with run.claimed(), pytest.raises(SerError, match="another process is writing this run"):
        train_run(again)
    assert tracker.status(run_id) == "RUNNING"


def test_resume_refuses_other_speech(project: Path, hydra_ready: None) -> None:
    from ser.run import train as train_run

    run = train(project, *TIM, "trainer.max_epochs=1")
    run.set_state(status="running")
    next((project / "data" / "ravdess").rglob("*.wav")).rename(project / "away.wav")
    with pytest.raises(SerError, match="has changed since this run began"):
        train_run(compose("train", options(project, f"resume={run.path}")))


def test_a_run_of_another_version_of_the_code_does_not_resume(
    project: Path, hydra_ready: None
) -> None:
    from ser.run import train as train_run

    run = train(project, *TIM, "trainer.max_epochs=1")
    run.set_state(status="running")
    cfg = OmegaConf.load(run.config)
    n_blocks = cfg.model.pop("n_blocks")
    OmegaConf.save(cfg, run.config)
    words = options(project, f"resume={run.path}")
    with pytest.raises(SerError, match=r"another version of this code: .*'n_blocks'"):
        train_run(compose("train", words))
    cfg.model.n_blocks, cfg.feature.mfcc.feature.mfcc.n_mels = n_blocks, 64
    OmegaConf.save(cfg, run.config)
    with pytest.raises(SerError, match=r"last\.ckpt was trained on .*n_mels=128, here it is 64"):
        train_run(compose("train", words))
    cfg.feature.mfcc.feature.mfcc.n_mels, cfg.model.n_blocks = 128, n_blocks + 1
    OmegaConf.save(cfg, run.config)
    with pytest.raises(SerError, match=r"last\.ckpt: its weights do not fit the network of this"):
        train_run(compose("train", words))
