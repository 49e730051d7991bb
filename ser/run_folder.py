"""The folder of one run: what it was asked, where it stands, what it found."""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from ser.errors import SerError
from ser.tables import DAMAGED, read_table
from ser.whole_files import write_text

log = logging.getLogger(__name__)

_MOMENT = re.compile(r"^[\d-]+_[\d-]+_")

_COPY = "Restore it from the artifacts that MLflow keeps of a finished run, or train again."
_STATE = {"run_id", "status"}
_SECTIONS = ("dataset", "split", "feature", "model", "cache_root", "loader")
"""What a config.yaml holds however old it is, in its order; one that was cut off lacks the last."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder, and its small state file `run.json`."""

    path: Path

    @property
    def config(self) -> Path:
        """The whole configuration, as composed."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """`best.ckpt` (scored), `last.ckpt`, and what else a run had to keep on its way."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The checkpoint that is scored: all that a run learned, written at its end."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.checkpoints / "last.ckpt"

    @property
    def kept(self) -> Path:
        """The best epoch on validation, as it was trained, where that one is scored."""
        return self.checkpoints / "kept.ckpt"

    @property
    def again(self) -> Path:
        """The last epoch of the training on train and validation together."""
        return self.checkpoints / "again.ckpt"

    @property
    def predictions(self) -> Path:
        """Test clips with truth, prediction and probabilities."""
        return self.path / "predictions.parquet"

    def check_config(self) -> None:
        """SerError where config.yaml is empty, cut off or no YAML; it names the file."""
        text = self.config.read_text(encoding="utf-8", errors="replace")
        missing = [key for key in _SECTIONS if not re.search(rf"^{key}:", text, re.MULTILINE)]
        if missing:
            raise SerError(
                f"{self.config} is damaged or cut off: it lacks {', '.join(missing)}. {_COPY}"
            )
        try:
            yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SerError(f"{self.config} is damaged: it is no YAML ({error}). {_COPY}") from error

    def read_predictions(self) -> pd.DataFrame:
        """The table of `predictions`; SerError where there is none or it cannot be read."""
        if not self.predictions.is_file():
            raise SerError(
                f"{self.path} has no predictions.parquet: the run has not scored its test part "
                f"(cut off, or test=false). Go on with it: python train.py resume={self.path}"
            )
        try:
            return read_table(self.predictions)
        except DAMAGED as error:
            raise SerError(f"{self.predictions} cannot be read ({error}). {_COPY}") from error

    def has_predictions(self) -> bool:
        """Whether `predictions` is there and can be read."""
        try:
            self.read_predictions()
        except SerError:
            return False
        return True

    def state(self) -> dict[str, Any]:
        """`run_id`, `status` and what else run.json holds; SerError where it is damaged."""
        path = self.path / "run.json"
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            state = None
        if not isinstance(state, dict) or not state.keys() >= _STATE:
            raise SerError(
                f"{path} is damaged: it must hold run_id and status as JSON. Restore it from a "
                'copy, or write it anew: {"run_id": "ID", "status": "finished"} (or running), '
                "where ID is that of the MLflow run whose tag run_folder names this folder."
            )
        return state

    def set_state(self, **values: Any) -> None:
        """Change entries of run.json."""
        path = self.path / "run.json"
        old = self.state() if path.exists() else {}
        write_text(path, json.dumps({**old, **values}, indent=2))

    def metrics(self) -> dict[str, float]:
        """What metrics.json holds; SerError where it is damaged or not there."""
        path = self.path / "metrics.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise SerError(f"{path} cannot be read ({error}). {_COPY}") from error

    def write_metrics(self, metrics: Mapping[str, float]) -> None:
        """Write metrics.json, keys as in MLflow."""
        write_text(self.path / "metrics.json", json.dumps(dict(metrics), indent=2, sort_keys=True))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder, log into its train.log; SerError when another process holds it."""
        lock = FileLock(self.path / "run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise SerError(
                f"{self.path}: another process is writing this run. Wait for it or end it first."
            ) from error
        remove_parts(self.path)
        remove_parts(self.checkpoints)
        writer = logging.FileHandler(self.path / "train.log", encoding="utf-8")
        writer.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logging.getLogger("ser").addHandler(writer)
        try:
            yield
        finally:
            logging.getLogger("ser").removeHandler(writer)
            writer.close()
            lock.release()


def without_moment(name: str) -> str:
    """A run folder's name, or a title that begins by it, without the moment that the run began."""
    return _MOMENT.sub("", name)


@contextmanager
def begun(runs: Path, name: str) -> Iterator[RunFolder]:
    """A new run folder, which stays once it has its run.json; nothing can go on with one before.

    Those without that a kill left are removed: of two processes one alone may be in here.
    """
    for path in runs.glob("*"):
        if _MOMENT.match(path.name) and path.is_dir():
            _remove_unbegun(path)
    folder = create_run_folder(runs, name)
    try:
        yield folder
    finally:
        _remove_unbegun(folder.path)


def _remove_unbegun(path: Path) -> None:
    """Remove a run folder that holds its options at most."""
    names = {each.name for each in path.iterdir() if each.suffix != ".part"}
    if names <= {"config.yaml"}:
        shutil.rmtree(path)


def create_run_folder(runs: Path, name: str) -> RunFolder:
    """A new folder `<time>_<name>`; a number is added when two runs start at the same moment."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    newest = max((path.name for path in runs.glob("*") if _MOMENT.match(path.name)), default="")
    if newest[: len(stamp)] > stamp:
        log.warning(
            "the clock says %s, and %s began later: `last` stays that one, so name this run by its "
            "folder", stamp, runs / newest,
        )  # fmt: skip
    for number in range(1000):
        path = runs / (f"{stamp}_{name}" + (f"_{number}" if number else ""))
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return RunFolder(path)
    raise SerError(f"{runs}: a thousand runs named {name} were started within a second.")


def find_run(named: str, runs: Path, *, finished: bool) -> RunFolder:
    """The run folder that a folder, a checkpoint in it, an MLflow run id or `last` names.

    `last` is the newest run that has finished, or with finished=False one that has not.
    """
    if named == "last":
        return _last(runs, finished)
    path = Path(named)
    if path.suffix == ".ckpt":
        path = path.resolve().parent.parent
    if (path / "run.json").is_file() and (path / "config.yaml").is_file():
        return RunFolder(path)
    if path.exists():
        raise SerError(
            f"{named} is not a run folder: it has no run.json and config.yaml. Run folders are "
            f"written by train.py under {runs}, and it prints their names."
        )
    by_id = _runs(runs) if len(named) >= 6 else []
    found = [folder for folder, state in by_id if state["run_id"].startswith(named)]
    if len(found) == 1:
        return found[0]
    raise SerError(
        f"{named}: no run of that name. Give a run folder, an MLflow run id of a run under {runs}, "
        "a checkpoint (….ckpt) or `last`."
    )


def _runs(runs: Path) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
    """Every run folder with its state, the newest first; those that are damaged are named."""
    for path in sorted(runs.glob("*/run.json"), reverse=True):
        folder = RunFolder(path.parent)
        try:
            state = folder.state()
        except SerError as error:
            log.warning("Left out: %s", error)
            continue
        yield folder, state


def _last(runs: Path, finished: bool) -> RunFolder:
    """The newest that has finished, or that was cut off; one that failed at once is neither.

    One that was cut off while MLflow got its copy has finished, and may be gone on with.
    """
    for folder, state in _runs(runs):
        whole, lacks = state["status"] == "finished", not state.get("in_mlflow", True)
        if whole if finished else state["status"] == "running" or (whole and lacks):
            return folder
    kind = "finished" if finished else "been cut off"
    raise SerError(f"`last`: no run under {runs} has {kind}. Give a run folder or a run id.")


def remove_parts(folder: Path, of: str = "*") -> None:
    """Remove what a killed command half wrote in a folder and its figures, or of one file there."""
    for place in (folder, folder / "figures"):
        for left in place.glob(f"{of}.part"):
            left.unlink(missing_ok=True)
