"""MLflow's client on a store; a database has all of MLflow's tables, or does not exist."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

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
