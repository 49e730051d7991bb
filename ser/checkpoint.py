"""Checkpoints: written whole or not at all, read without executing pickled code."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ser.errors import SerError
from ser.whole_files import replacing


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, replaced atomically and loaded with `weights_only`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write beside the target, flush, rename: the old file stays whole, come what may."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as part, part.open("wb") as stream:
            _save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Tensors and plain values only, whatever the caller asks for."""
        return load_checkpoint(Path(path), map_location or "cpu")


def _save(checkpoint: dict[str, Any], stream: BinaryIO) -> None:
    """torch.save, which raises an error of its own over that of a full disk."""
    try:
        torch.save(checkpoint, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this project.

    Raises SerError when the file is absent, damaged, holds pickled objects or is not ours.
    """
    if not path.is_file():
        raise SerError(_absent(path))
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
        _verify(path)
    except Exception as error:  # torch raises a dozen kinds for a damaged or a pickled file
        raise SerError(_unreadable(path, error)) from error
    if not isinstance(checkpoint, dict) or "ser" not in checkpoint:
        raise SerError(
            f"{path} is not a checkpoint of this project: the entry `ser` (classes, features, "
            "model) is missing. Take checkpoints/best.ckpt of a run folder."
        )
    return checkpoint


def _verify(path: Path) -> None:
    """Raise where bytes are not those that were written: torch compares no checksums."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:
                raise zipfile.BadZipFile


def _absent(path: Path) -> str:
    """What to say of a checkpoint that is not there: a run writes its best.ckpt at its end."""
    run = path.parent.parent
    if path.parts[-2:] == ("checkpoints", "best.ckpt") and (run / "config.yaml").is_file():
        return (
            f"{run} has no checkpoints/best.ckpt: the run was cut off before its end. Go on with "
            f"it: python train.py resume={run}"
        )
    return f"{path}: no such checkpoint. A run keeps its own in checkpoints/best.ckpt."


def _unreadable(path: Path, error: Exception) -> str:
    """Why torch could not read a file, as far as it can be told."""
    whole = zipfile.is_zipfile(path)
    if "GLOBAL" in str(error) or (whole and isinstance(error, pickle.UnpicklingError)):
        return (
            f"{path} holds pickled objects: a checkpoint must be a file that this project wrote, "
            "of tensors and plain values only, since unpickling would execute its code. Take "
            "checkpoints/best.ckpt of a run folder, or train again."
        )
    if isinstance(error, PermissionError):
        return f"{path} cannot be opened ({error.strerror}). Make checkpoints/best.ckpt readable."
    what = "not all of it can be read" if whole else "it is no whole zip file, as torch writes them"
    return (
        f"{path} is damaged or incomplete: {what}. Copy it again from where it came, take "
        "checkpoints/best.ckpt of another run folder, or train again."
    )
