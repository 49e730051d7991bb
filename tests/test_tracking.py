"""What lands in MLflow, read back through MLflow's own client."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest

from ser import tracking
from ser.errors import SerError
from ser.tracking import PARENT_VARIABLE, Tracker, flatten, git_commit


@pytest.fixture(autouse=True)
def no_parent(monkeypatch):
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)


def test_nested_options_become_dotted_keys():
    config = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None, "f": {}}
    assert flatten(config) == {"a.b.c": 1, "a.d": [1, 2], "e": None, "f": {}}


def test_the_store_is_a_file_under_the_root_unless_told_otherwise(tmp_path):
    own = Tracker(tmp_path / "runs", "x", None)
    assert own.uri == f"sqlite:///{tmp_path}/runs/mlflow.db" and own.root.is_dir()
    assert Tracker(tmp_path, "x", "http://elsewhere:5000").uri == "http://elsewhere:5000"


def test_a_run_holds_tags_options_figures_and_files(tracker, tmp_path):
    run_id = tracker.start("tim-demo", {"model": "tim"})
    options = {"model": {"width": 39, "text": "x" * 400}, **{f"key{n}": n for n in range(150)}}
    tracker.log_config(run_id, options)
    tracker.log_metrics(run_id, {"test/recall/ärger!": 0.5})
    tracker.log_metrics(run_id, {"test/uar": 0.25, **{f"many/{n}": n / 7 for n in range(1100)}})
    folder = tmp_path / "run"
    (folder / "figures").mkdir(parents=True)
    for name in ("config.yaml", "run.lock", "figures/curves.png"):
        (folder / name).write_text("seed: 0\n")
    tracker.log_folder(run_id, folder)
    tracker.log_table(run_id, "comparison.md", "| a |\n")
    tracker.finish(run_id, "FINISHED")

    run = tracker.client.get_run(run_id)
    assert run.info.run_name == "tim-demo" and run.info.status == "FINISHED"
    assert run.data.tags["model"] == "tim"
    assert len(run.data.params) == 152 and run.data.params["model.width"] == "39"
    assert run.data.params["model.text"] == "x" * 400
    assert run.data.metrics.pop("test/recall/ärger_") == 0.5
    assert len(run.data.metrics) == 1101 and run.data.metrics["test/uar"] == 0.25
    assert run.data.metrics["many/1099"] == pytest.approx(157)
    files = {file.path for file in tracker.client.list_artifacts(run_id)}
    assert files == {"config.yaml", "comparison.md", "figures"}
    (inner,) = tracker.client.list_artifacts(run_id, "figures")
    assert inner.path == "figures/curves.png"
    assert run.info.artifact_uri.startswith((tracker.root / "artifacts").as_uri())


def test_a_runs_page_names_its_speech_and_shows_its_figures(tracker):
    run_id = tracker.start("tim", {"corpora": "ravdess,tess", "manifest": "0123456789abcdef"})
    tracker.describe(run_id, "| UAR |")
    run = tracker.client.get_run(run_id)
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("ravdess + tess", "0123456789abcdef")
    assert run.data.tags["mlflow.note.content"] == "| UAR |"
    assert run.data.tags["mlflow.source.type"] == "LOCAL" and run.data.tags["mlflow.user"]
    assert run.data.tags["mlflow.source.git.commit"][:12] == git_commit()[:12]
    assert not tracker.client.get_run(tracker.start("sweep", {})).inputs.dataset_inputs


def test_options_are_logged_once_and_a_resumed_run_keeps_them(tracker):
    run_id = tracker.start("resumed", {})
    tracker.log_config(run_id, {"seed": 0})
    tracker.finish(run_id, "KILLED")
    tracker.reopen(run_id)
    tracker.log_config(run_id, {"seed": 1, "new": 2})
    run = tracker.client.get_run(run_id)
    assert run.info.status == "RUNNING" and run.data.params == {"seed": "0", "new": "2"}


def test_lightnings_logger_writes_into_the_same_run(tracker):
    run_id = tracker.start("logged", {})
    logger = tracker.logger(run_id)
    logger.log_metrics({"val/uar": 0.5}, step=3)
    assert "MLFLOW_TRACKING_URI" not in os.environ  # or the next run of a sweep would be given it
    assert logger.run_id == run_id
    (point,) = tracker.client.get_metric_history(run_id, "val/uar")
    assert (point.value, point.step) == (0.5, 3)


def test_children_of_a_parent_are_found(tracker):
    with tracker.parent("sweep a", {"sweep": "a"}, None) as parent:
        assert os.environ[PARENT_VARIABLE] == parent
        ids = {}
        for name, status in [("one", "FINISHED"), ("two", "FAILED"), ("two", "FINISHED")]:
            run_id = tracker.start(name, {"config": name, "run_folder": f"/runs/{len(ids)}"})
            tracker.log_config(run_id, {"model": {"name": name}})
            tracker.log_metrics(run_id, {"test/uar": 0.5})
            tracker.finish(run_id, status)
            ids[run_id] = status
        cut_off = tracker.start("three", {"config": "three", "run_folder": "/runs/3"})
    tracker.finish(tracker.start("stranger", {"config": "one"}), "FINISHED")
    assert PARENT_VARIABLE not in os.environ
    assert tracker.client.get_run(parent).info.status == "FINISHED"

    children = tracker.children(parent).set_index("run_id")
    finished = {run_id for run_id, status in ids.items() if status == "FINISHED"}
    assert set(children.index) == finished and cut_off not in children.index
    assert set(children["model.name"]) == {"one", "two"} == set(children["config"])
    assert children["test/uar"].tolist() == [0.5, 0.5]

    for recipe, status, folder in [
        ("one", "FINISHED", "/runs/0"), ("two", "FINISHED", "/runs/2"),
        ("three", "RUNNING", "/runs/3"),
    ]:  # fmt: skip
        found = tracker.find_child(parent, recipe)
        assert (found.info.status, found.data.tags["run_folder"]) == (status, folder)
    assert tracker.find_child(parent, "four") is None
    assert tracker.children("no such parent").empty
    tracker.finish(cut_off, "KILLED")


def test_a_large_sweep_has_all_of_its_children(tracker, monkeypatch):
    many = [
        SimpleNamespace(
            info=SimpleNamespace(run_id=str(n)),
            data=SimpleNamespace(tags={}, params={}, metrics={}),
        )
        for n in range(4000)  # five arms, three seeds, CREMA-D's 91 speakers in turn: 1365
    ]
    client = SimpleNamespace(search_runs=lambda *_, max_results: many[:max_results])
    monkeypatch.setattr(tracker, "client", client)
    monkeypatch.setattr(Tracker, "_experiment_id", lambda self: "1")
    assert len(tracker.children("parent")) == 4000


def test_a_sweep_is_known_by_its_name_and_gone_on_with(tracker):
    assert tracker.find_parent("b") is None
    with tracker.parent("sweep b", {"sweep": "b"}, None) as parent:
        pass
    assert tracker.find_parent("b") == parent
    with tracker.parent("sweep b", {"sweep": "b"}, parent) as again:
        child = tracker.start("late", {})
    assert again == parent
    assert tracker.client.get_run(child).data.tags["mlflow.parentRunId"] == parent


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("bad"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_parent_ends_as_its_children_did(tracker, error, status):
    with pytest.raises(type(error)), tracker.parent("cut off", {}, None) as parent:
        raise error
    assert tracker.client.get_run(parent).info.status == status
    assert PARENT_VARIABLE not in os.environ


def test_an_interrupt_that_left_the_database_locked_is_not_hidden(tracker, monkeypatch):
    from mlflow.exceptions import MlflowException

    def locked(*_: object) -> None:
        raise MlflowException("database is locked")

    run_id = tracker.start("a", {})
    monkeypatch.setattr("mlflow.MlflowClient.set_terminated", locked)
    told: list[str] = []
    monkeypatch.setattr("ser.tracking.log.warning", told.append)
    tracker.finish(run_id, "KILLED")
    assert len(told) == 1 and "as running until another command" in told[0], told
    with pytest.raises(MlflowException):
        tracker.finish(run_id, "FINISHED")


def test_a_deleted_experiment_is_not_written_to(tracker):
    gone = Tracker(tracker.root, "gone", None)
    gone.start("first", {})
    gone.client.delete_experiment(gone.client.get_experiment_by_name("gone").experiment_id)
    with pytest.raises(SerError, match=r"experiment gone was deleted .* logger\.experiment=NAME"):
        gone.start("second", {})


def test_the_commit_is_marked_when_files_were_changed(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    code = tmp_path / "ser" / "tracking.py"
    monkeypatch.setattr(tracking, "__file__", str(code))
    assert git_commit() == "unknown"
    git("init")
    code.parent.mkdir()
    code.write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git("add", ".")
    git("commit", "-m", "first")
    clean = git_commit()
    assert len(clean) == 12 and int(clean, 16) >= 0
    (tmp_path / "untracked.txt").write_text("b\n")
    (code.parent / "__pycache__").mkdir()
    (code.parent / "__pycache__" / "tracking.pyc").touch()
    assert git_commit() == clean
    for new in (code.parent / "models" / "mine.py", tmp_path / "conf" / "model" / "mine.yaml"):
        new.parent.mkdir(parents=True)
        new.touch()
        assert git_commit() == f"{clean}+"
        new.unlink()
        assert git_commit() == clean
    code.write_text("a = 2\n")
    assert git_commit() == f"{clean}+"


def test_no_git_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit() == "unknown"


START = """
import sys, time
from pathlib import Path
from ser.tracking import Tracker
import mlflow
Path(sys.argv[2]).touch()
while len(list(Path(sys.argv[2]).parent.glob("ready*"))) < 3:
    time.sleep(0.01)
Tracker(Path(sys.argv[1]), "ser", None).start("first", {})
"""


def test_several_first_runs_may_start_at_the_same_moment(tmp_path):
    store = tmp_path / "mlruns"
    started = [
        subprocess.Popen([sys.executable, "-c", START, str(store), str(tmp_path / f"ready{i}")])
        for i in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    client = Tracker(store, "ser", None).client
    experiment = client.get_experiment_by_name("ser").experiment_id
    assert len(client.search_runs([experiment])) == 3


def test_the_end_of_training_is_not_yet_the_end_of_the_run(tracker):
    run_id = tracker.start("first", {})
    tracker.logger(run_id).finalize("success")
    assert tracker.client.get_run(run_id).info.status == "RUNNING"
    tracker.finish(run_id, "FINISHED")
    assert tracker.client.get_run(run_id).info.status == "FINISHED"


def test_a_step_that_a_resume_repeats_is_logged_once(tracker):
    run_id = tracker.start("cut off", {})
    first = tracker.logger(run_id)
    for step in (4, 9):
        first.log_metrics({"val/uar": step / 10, "epoch": step}, step=step)
    first.log_metrics({"val/uar": 1.4}, step=14)  # killed before the rest of its epoch
    again = tracker.logger(run_id)
    for step in (9, 14, 19):
        again.log_metrics({"val/uar": step / 10, "epoch": step}, step=step)
    for key in ("val/uar", "epoch"):
        points = tracker.client.get_metric_history(run_id, key)
        assert [point.step for point in points] == [4, 9, 14, 19]
    assert [point.value for point in points] == [5, 10, 15, 20]  # epochs from 1
    for _ in range(2):
        tracker.log_metrics(run_id, {"test/uar": 0.5})
    assert len(tracker.client.get_metric_history(run_id, "test/uar")) == 1


def test_an_error_of_the_database_is_raised_and_not_printed_as_well(tmp_path, capfd):
    from mlflow.exceptions import MlflowException

    from ser.quiet import quieten

    store = Tracker(tmp_path, "x", None)
    run_id = store.start("a", {})
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE tags")
    quieten()
    with pytest.raises(MlflowException, match="no such table"):
        store.describe(run_id, "text")
    assert "Traceback" not in capfd.readouterr().err
