"""What a user is told of an error: of ours, and of those that others raise at the user's doing."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from ser.errors import REFUSED, SerError, full_place, is_full, refusal

_MLFLOWS = {"MlflowException", "DatabaseError"}  # its own, SQLAlchemy's: slow to import
_OF_THE_DATABASE = ("sqlite3.", "database schema", "Run with id=")
_FULL_DISK = (
    "Free some, or name folders on another disk, and give the same command again; a training that "
    "had begun is gone on with by train.py resume= and its run folder."
)
_CHOSEN = {"runs_root": "FOLDER", "cache_root": "FOLDER", "sweep.results": "FILE", "run": "RUN"}


def mistake_of(error: Exception, cfg: DictConfig) -> Exception | None:
    """What the user is told of an error; None where it is none of theirs."""
    if _is_full_disk(error):
        return SerError(f"{full_place(error, str(cfg.runs_root))}. {_FULL_DISK}")
    if isinstance(error, OSError) and error.errno in REFUSED:
        return _unwritable(error, cfg)
    mlflows = any(kind.__name__ in _MLFLOWS for kind in type(error).__mro__)
    if mlflows and OmegaConf.select(cfg, "logger.uri"):
        return SerError(
            f"logger.uri={cfg.logger.uri}: MLflow cannot work with it ({error}). Give a database "
            "such as sqlite:///FILE.db, or the address of a server that runs, or leave it out."
        )
    if mlflows and any(word in str(error) for word in _OF_THE_DATABASE):
        database = Path(cfg.runs_root).absolute() / "mlflow.db"
        return SerError(
            f"{database}: MLflow cannot work with it ({str(error).splitlines()[0]}). If another "
            "program holds it, wait or end that. If an older MLflow made it, copy it and run "
            f"`mlflow db upgrade sqlite:///{database}`. If it is damaged, or is not the one that "
            "the run began with, put that one's copy there, or move it away and start a new run: "
            "the run folders keep their figures."
        )
    if isinstance(error, MissingMandatoryValue):
        return SerError(
            f"{error.full_key} has no default and was not given: add {error.full_key}=…"
        )
    if isinstance(error, (ConfigAttributeError, ConfigKeyError)) and error.full_key:
        group, _, rest = error.full_key.partition(".")
        where = f"the file of conf/{group}/ that was chosen" if rest else "the file in conf/"
        return SerError(
            f"{error.full_key} is missing: {where} must set it, as its neighbours do. Add the "
            f"line, or give it: +{error.full_key}=…"
        )
    return error if isinstance(error, (SerError, OmegaConfBaseException)) else None


def _unwritable(error: OSError, cfg: DictConfig) -> SerError | None:
    """Where what cannot be written lies in a place that the user chooses, or above it."""
    if not error.filename:
        return None
    at = Path(error.filename).absolute()
    for key, kind in _CHOSEN.items():
        chosen = OmegaConf.select(cfg, key)
        place = Path(chosen or "").absolute()
        if chosen is not None and (at.is_relative_to(place) or place.is_relative_to(at)):
            return SerError(
                f"{key}={chosen}: {error.filename} cannot be written ({refusal(error)}). Make it "
                f"writable, or name another: {key}={kind}."
            )
    return None


def _is_full_disk(error: Exception) -> bool:
    """Of the system, or of SQLite in MLflow's words."""
    full = isinstance(error, OSError) and is_full(error)
    return full or "disk is full" in str(error)
