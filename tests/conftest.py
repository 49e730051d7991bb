"""Fixtures that more than one room needs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ser.tracking import Tracker


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real speech and golden values, or a skip where it is not there."""
    root = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("SER_SHARED", root.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real speech at {folder} (set SER_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> "Tracker":
    """One MLflow store for all tests that need one: its tables take seconds to make."""
    from ser.tracking import Tracker

    return Tracker(tmp_path_factory.mktemp("mlflow"), "tests", None)


@pytest.fixture(autouse=True, scope="module")
def own_store() -> None:
    """No store from the environment: MLflow's client may leave its address there."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
