"""Fixtures that more than one room needs."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ser.run_folder import RunFolder
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


@pytest.fixture
def take_float64() -> Iterator[Callable[[], None]]:
    """Makes float64 torch's default type for the rest of the test, as a program's may be."""
    import torch

    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with speech, where runs are kept; torch and MLflow start once for all tests."""
    folder = tmp_path_factory.mktemp("project")
    import synthetic

    synthetic.write_corpus("ravdess", folder / "data" / "ravdess", speakers=6)
    return folder


@pytest.fixture(scope="module")
def hydra_ready() -> Iterator[None]:
    from hydra import initialize_config_dir

    from ser.config import CONF

    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


@pytest.fixture(scope="module")
def tim_run(project: Path, hydra_ready: None) -> "RunFolder":
    from pipeline_runs import TIM, train

    return train(project, *TIM)
