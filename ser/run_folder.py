"""The folder of one run: what it was asked, where it stands, what it found."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ser.errors import SerError


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

    def state(self) -> dict[str, Any]:
        """`run_id`, `status` and what else run.json holds."""
        return dict(json.loads((self.path / "run.json").read_text(encoding="utf-8")))

    def set_state(self, **values: Any) -> None:
        """Change entries of run.json."""
        path = self.path / "run.json"
        old = self.state() if path.exists() else {}
        write_text(path, json.dumps({**old, **values}, indent=2))

    def metrics(self) -> dict[str, float]:
        """What metrics.json holds."""
        return dict(json.loads((self.path / "metrics.json").read_text(encoding="utf-8")))

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
        writer = logging.FileHandler(self.path / "train.log", encoding="utf-8")
        writer.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logging.getLogger("ser").addHandler(writer)
        try:
            yield
        finally:
            logging.getLogger("ser").removeHandler(writer)
            writer.close()
            lock.release()


def create_run_folder(runs: Path, name: str) -> RunFolder:
    """A new folder `<time>_<name>`; a number is added when two runs start at the same moment."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
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
    found = [f for f in _runs(runs) if len(named) >= 6 and f.state()["run_id"].startswith(named)]
    if len(found) == 1:
        return found[0]
    raise SerError(
        f"{named}: no run of that name. Give a run folder, an MLflow run id of a run under {runs}, "
        "a checkpoint (….ckpt) or `last`."
    )


def _runs(runs: Path) -> list[RunFolder]:
    """Every run folder, the newest first."""
    return [RunFolder(path.parent) for path in sorted(runs.glob("*/run.json"), reverse=True)]


def _last(runs: Path, finished: bool) -> RunFolder:
    """The newest that has finished, or that was cut off; one that failed at once is neither."""
    for folder in _runs(runs):
        if folder.state()["status"] == ("finished" if finished else "running"):
            return folder
    kind = "finished" if finished else "been cut off"
    raise SerError(f"`last`: no run under {runs} has {kind}. Give a run folder or a run id.")


def write_text(path: Path, text: str) -> None:
    """Replace a small file as a whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
