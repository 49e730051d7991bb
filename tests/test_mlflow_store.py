"""A database has all of MLflow's tables, or does not exist."""

import os
import signal

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
