"""MLflow's client on a store; a database has all of MLflow's tables, or does not exist."""

import os
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ser.imports import quick_imports

if TYPE_CHECKING:
    from mlflow import MlflowClient

# No word on making its tables, and none sent to its makers; read when mlflow is imported, which
# every use here does late.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_SQLITE = "sqlite:///"


def open_store(uri: str) -> "MlflowClient":
    """The client on this address; hold a lock, as one process alone makes the tables."""
    # .5 s sooner than its own use would
    with quick_imports("mlflow"):
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow import MlflowClient

    database = Path(uri.removeprefix(_SQLITE))
    if uri.startswith(_SQLITE) and not database.exists():
        # MLflow takes seconds for them, and cannot go on with what a killed process made
        part = database.with_name(f"{database.name}.part")
        for left in part.parent.glob(f"{part.name}*"):
            left.unlink()
        root = "./mlruns"  # MLflow's own default
        SqlAlchemyStore(f"{_SQLITE}{part}", root).engine.dispose()  # type: ignore[no-untyped-call]
        part.replace(database)
    return MlflowClient(uri)


def follow_move(database: Path, artifacts: str) -> None:
    """Have a database that was moved or copied with its folder name what lies there now.

    MLflow keeps whole addresses: new artifacts would go to where the folder was, and a sweep would
    not find its runs. `artifacts` is the address of the folder's own, which its runs lie beside.
    """
    if not database.exists():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as store, store:
        found = store.execute("SELECT artifact_location FROM experiments")  # or MLflow says why not
        for (before,) in found.fetchall():
            if before == artifacts or not re.fullmatch("file:.*/artifacts", before):
                continue
            old, new = before.removesuffix("artifacts"), artifacts.removesuffix("artifacts")
            _move(store, "experiments", "artifact_location", old, new)
            _move(store, "runs", "artifact_uri", old, new)
            _move(store, "tags", "value", *(unquote(urlsplit(one).path) for one in (old, new)))


def _move(store: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    """What begins with `old` begins with `new`."""
    store.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
        (new, len(old) + 1, len(old), old),
    )
