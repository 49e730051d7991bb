"""Fixtures that more than one room needs."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real speech and golden values, or a skip where it is not there."""
    root = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("SER_SHARED", root.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real speech at {folder} (set SER_SHARED)")
    return folder
