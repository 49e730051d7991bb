"""Which runs are at work: each holds a lock file, which the system frees when its process dies."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOCKED = "TEMPORARILY_UNAVAILABLE"  # how MLflow calls a database that is


class RunLocks:
    """Lock files `run-<id in MLflow>.lock` in a folder; one that is free was left by a kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, FileLock] = {}

    def hold(self, run_id: str) -> None:
        """Say that this process works on the run; nothing where one does already."""
        lock = FileLock(self._folder / f"run-{run_id}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            self._held[run_id] = lock

    def release(self, run_id: str) -> None:
        """Say that the run has ended."""
        if lock := self._held.pop(run_id, None):
            _remove(lock)

    def close_killed(self, client: "MlflowClient", own: bool) -> None:
        """Show the runs as killed whose process is gone without a word.

        In a store that is the folder's `own` also those that were killed before they had a lock.
        """
        from mlflow.exceptions import MlflowException

        if own:
            stored = [each.experiment_id for each in client.search_experiments()]
            for run in client.search_runs(stored, "status = 'RUNNING' and tags.kind != ''"):
                (self._folder / f"run-{run.info.run_id}.lock").touch()
        for path in self._folder.glob("run-*.lock"):
            lock, run_id = FileLock(path), path.stem.removeprefix("run-")
            with suppress(Timeout):
                lock.acquire(timeout=0)
                try:
                    if client.get_run(run_id).info.status == "RUNNING":
                        client.set_terminated(run_id, "KILLED")
                except MlflowException as error:
                    if error.error_code == _LOCKED:  # by another program: the next command's turn
                        lock.release()
                        continue  # else of a store that is no longer this one
                _remove(lock)


def _remove(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
