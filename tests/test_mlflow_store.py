"""A database has all of MLflow's tables, or does not exist."""

import os
import shutil
import signal
import sqlite3
from contextlib import closing

import pytest

from ser.mlflow_store import follow_move
from ser.tracking import Tracker


def test_a_first_run_killed_while_mlflow_made_its_tables_does_not_spoil_the_next(
    tmp_path, monkeypatch
):
    from mlflow.store.db import utils

    def killed(engine):
        with engine.begin() as connection:  # what a later version of the tables adds
            connection.exec_driver_sql("CREATE TABLE review_queues (name TEXT)")
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(utils, "_upgrade_db", killed)
        Tracker(tmp_path, "x", None).start("a", {})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "mlflow.db.part").is_file()
    store = Tracker(tmp_path, "x", None)
    store.finish(store.start("b", {}), "FINISHED")
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.lock"}


@pytest.mark.parametrize("take", [shutil.move, shutil.copytree])
def test_a_store_that_was_moved_or_copied_names_what_lies_there_now(tmp_path, take):
    before, now = tmp_path / "a run's %", tmp_path / "now"
    store = Tracker(before, "x", None)
    run_id = store.start("done", {"run_folder": str(before / "runs" / "done"), "why": "a/b"})
    store.log_table(run_id, "table.txt", "of before")
    take(before, now)
    moved = Tracker(now, "x", None)
    run = moved.client.get_run(run_id)
    assert run.data.tags["run_folder"] == str(now / "runs" / "done")
    assert run.data.tags["why"] == "a/b"
    assert [each.path for each in moved.client.list_artifacts(run_id)] == ["table.txt"]
    later = moved.start("later", {})
    moved.log_table(later, "table.txt", "of now")
    assert len(list(now.rglob("table.txt"))) == 2
    assert len(list(before.rglob("table.txt"))) == (take is shutil.copytree)


def test_a_store_that_lies_where_it_was_is_left_as_it_is(tmp_path):
    store = Tracker(tmp_path, "x", None)
    store.start("done", {"run_folder": str(tmp_path / "runs" / "done")})
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        counted = database.execute("PRAGMA data_version").fetchone()
        follow_move(tmp_path / "mlflow.db", (tmp_path / "artifacts").resolve().as_uri())
        assert database.execute("PRAGMA data_version").fetchone() == counted
    (tmp_path / "damaged.db").write_text("no database")
    follow_move(tmp_path / "damaged.db", "file:///x/artifacts")  # MLflow says so, where it is asked
