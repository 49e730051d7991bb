"""A run whose process died without a word is shown as killed by the next command, no other is."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException

from ser.run_locks import RunLocks
from ser.tracking import Tracker


def killed(work) -> None:
    """Do this in a process that is killed once it is done."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("again", [False, True])
def test_a_run_that_was_killed_is_shown_as_such_once_another_command_begins(tmp_path, again):
    run_id = Tracker(tmp_path, "x", None).start("goes on", {}) if again else ""
    if again:
        Tracker(tmp_path, "x", None).finish(run_id, "KILLED")

    def work() -> None:
        tracker = Tracker(tmp_path, "x", None)
        if again:
            tracker.reopen(run_id)
        else:
            tracker.start("evaluation", {"kind": "evaluation"})

    killed(work)
    assert len(list(tmp_path.glob("run-*.lock"))) == 1
    client = Tracker(tmp_path, "x", None).client
    (run,) = client.search_runs([client.get_experiment_by_name("x").experiment_id])
    assert run.info.status == "KILLED" and not list(tmp_path.glob("run-*.lock"))


def test_a_run_that_was_killed_before_it_had_a_lock_is_shown_as_killed(tmp_path, monkeypatch):
    def work() -> None:
        monkeypatch.setattr(RunLocks, "hold", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        Tracker(tmp_path, "x", None).start("training", {"kind": "training"})

    Tracker(tmp_path, "x", None).client.create_run("0", run_name="of another program")
    killed(work)
    client = Tracker(tmp_path, "x", None).client
    runs = client.search_runs(["0", client.get_experiment_by_name("x").experiment_id])
    found = {run.info.run_name: run.info.status for run in runs}
    assert found == {"training": "KILLED", "of another program": "RUNNING"}


def test_a_command_that_begins_beside_the_start_of_a_run_waits_for_its_lock(tmp_path, monkeypatch):
    hold, beside = (
        RunLocks.hold,
        threading.Thread(target=lambda: Tracker(tmp_path, "x", None).client),
    )

    def late(locks: RunLocks, run_id: str) -> None:
        beside.start()
        beside.join(timeout=2)
        hold(locks, run_id)

    tracker = Tracker(tmp_path, "x", None)
    assert tracker.client
    monkeypatch.setattr(RunLocks, "hold", late)
    run_id = tracker.start("training", {"kind": "training"})
    beside.join()
    assert tracker.status(run_id) == "RUNNING"


def test_a_run_that_is_at_work_stays_as_it_is(tracker):
    run_id = tracker.start("alive", {})
    with tracker.running(run_id):
        assert (tracker.root / f"run-{run_id}.lock").is_file()
        assert Tracker(tracker.root, tracker.experiment, None).status(run_id) == "RUNNING"
    other = Tracker(tracker.root, tracker.experiment, None)
    assert other.status(run_id) == "FINISHED"
    assert not (tracker.root / f"run-{run_id}.lock").exists()


def test_a_lock_of_a_run_that_the_store_does_not_have_is_removed(tmp_path):
    with FileLock(tmp_path / "run-0123.lock"):
        pass
    (tmp_path / "run-0123.lock").touch()
    Tracker(tmp_path, "x", None).finish(Tracker(tmp_path, "x", None).start("a", {}), "FINISHED")
    assert not (tmp_path / "run-0123.lock").exists()


@pytest.mark.parametrize("code", ["TEMPORARILY_UNAVAILABLE", "RESOURCE_DOES_NOT_EXIST"])
def test_a_killed_run_of_a_database_that_is_locked_is_left_to_the_next_command(tmp_path, code):
    def get_run(run_id):
        error = MlflowException(run_id)
        error.error_code = code
        raise error

    path = tmp_path / "run-0123.lock"
    path.touch()
    RunLocks(tmp_path).close_killed(SimpleNamespace(get_run=get_run), own=False)
    assert path.exists() == (code == "TEMPORARILY_UNAVAILABLE")
    with FileLock(path, timeout=0):
        pass
