"""MLflow: one run for each training, a parent run for each multirun or sweep."""

import json
import logging
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock

from ser.errors import SerError
from ser.mlflow_store import follow_move, open_store
from ser.run_locks import RunLocks

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from pytorch_lightning.loggers import MLFlowLogger

PARENT_VARIABLE = "SER_PARENT_RUN"  # an environment variable, so that a launcher's workers see it
MOST_RUNS = 50_000  # of a parent: as many as MLflow gives at once
_PARENT_TAG = "mlflow.parentRunId"
_ADDRESS = "MLFLOW_TRACKING_URI"


class Tracker:
    """The MLflow store of a project folder: `MLFLOW_TRACKING_URI`, else sqlite under `root`."""

    def __init__(self, root: Path, experiment: str, uri: str | None) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.uri = uri or f"sqlite:///{(root / 'mlflow.db').resolve()}"
        self._artifacts = None if uri else (root / "artifacts").resolve().as_uri()
        self.experiment = experiment
        self.lock, self._at_work = FileLock(root / "mlflow.lock"), RunLocks(root)

    @cached_property
    def client(self) -> "MlflowClient":
        """MLflow's client on this store, which one process alone makes or puts in order."""
        with self.lock:
            if self._artifacts:
                follow_move(self.root / "mlflow.db", self._artifacts)
            client = open_store(self.uri)
            self._at_work.close_killed(client, own=self._artifacts is not None)
            return client

    def _experiment_id(self) -> str:
        """The experiment's id; created once, though two runs may start at the same moment."""
        with self.lock:
            found = self.client.get_experiment_by_name(self.experiment)
            if found is None:
                return str(
                    self.client.create_experiment(
                        self.experiment,
                        artifact_location=self._artifacts,
                        tags={"mlflow.experimentKind": "custom_model_development"},
                    )
                )
            if found.lifecycle_stage == "deleted":
                raise SerError(
                    f"The MLflow experiment {self.experiment} was deleted at {self.uri}. "
                    "Restore it (`mlflow experiments restore`) or name another: "
                    "logger.experiment=NAME."
                )
            return str(found.experiment_id)

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """Create a run, under the parent of a multirun when there is one; gives its id.

        MLflow's columns for user, source and data set are filled: the last from the tags `corpora`
        and `manifest`, where they are given.
        """
        client = self.client
        from mlflow.tracking.context.git_context import GitRunContext
        from mlflow.tracking.context.registry import resolve_tags

        # GitRunContext imports GitPython, .2 s, to ask for what git says at once
        context = resolve_tags(ignore=[GitRunContext])  # type: ignore[list-item] # wrong in MLflow
        every = {**context, **tags, "mlflow.runName": name}
        if commit := _head():
            every["mlflow.source.git.commit"] = commit
        if parent := os.environ.get(PARENT_VARIABLE):
            every[_PARENT_TAG] = parent
        experiment_id = self._experiment_id()
        with self.lock:  # or a command that begins between the two would show the run as killed
            run = client.create_run(experiment_id, tags=every)
            self._at_work.hold(run.info.run_id)
        if "manifest" in tags and "corpora" in tags:
            self._log_speech(run.info.run_id, tags["corpora"], tags["manifest"])
        return str(run.info.run_id)

    def _log_speech(self, run_id: str, corpora: str, manifest: str) -> None:
        """Name the clips as the run's data set; runs of one digest used the same ones."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": corpora})
        speech = Dataset(corpora.replace(",", " + "), manifest, "local", source)
        context = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(run_id, [DatasetInput(speech, context)])

    def describe(self, run_id: str, text: str) -> None:
        """Markdown that stands at the head of the run's page."""
        self.client.set_tag(run_id, "mlflow.note.content", text)

    def logger(self, run_id: str) -> "MLFlowLogger":
        """Lightning's logger, writing into this run.

        A resume repeats the steps after the last checkpoint; their figures are there already.
        """
        from pytorch_lightning.loggers import MLFlowLogger

        logged = self._logged(run_id)

        class OpenLogger(MLFlowLogger):
            """Leaves the run open: its scoring is still to come, and `finish` ends it."""

            def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
                """Log what the run does not have of this step; epochs count from 1."""
                counted = {key: value + (key == "epoch") for key, value in metrics.items()}
                new = {key: value for key, value in counted.items() if (key, step) not in logged}
                super().log_metrics(new, step)

            def finalize(self, status: str = "success") -> None:
                """Nothing: Lightning's would call the run finished once training is."""

        logger, given = OpenLogger(tracking_uri=self.uri, run_id=run_id), _ADDRESS in os.environ
        logger.experiment  # noqa: B018
        if not given:  # MLflow leaves it there, to the next runs of this process
            os.environ.pop(_ADDRESS, None)
        return logger

    def _logged(self, run_id: str) -> set[tuple[str, int]]:
        """Which figures of which steps a run has: what is logged twice is drawn twice."""
        client = self.client
        return {
            (key, point.step)
            for key in client.get_run(run_id).data.metrics
            for point in client.get_metric_history(run_id, key)
        }

    def status(self, run_id: str) -> str:
        """RUNNING, FINISHED, FAILED or KILLED."""
        return str(self.client.get_run(run_id).info.status)

    def reopen(self, run_id: str) -> None:
        """Mark a run that was cut off as running again."""
        self._at_work.hold(run_id)
        self.client.update_run(run_id, status="RUNNING")

    def log_config(self, run_id: str, config: Mapping[str, Any]) -> None:
        """Log every option as a parameter; MLflow cuts values at 6,000 characters."""
        from mlflow.entities import Param

        have = self.client.get_run(run_id).data.params
        flat = flatten(config).items()
        params = [Param(key, str(value)) for key, value in flat if key not in have]
        for start in range(0, len(params), 100):  # MLflow takes 100 at a time
            self.client.log_batch(run_id, params=params[start : start + 100])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log those figures of the whole run that it does not have yet.

        What MLflow takes in no name, as `!` in the name of a class, becomes `_` there.
        """
        from mlflow.entities import Metric

        now, logged = int(1000 * time.time()), self._logged(run_id)
        named = {re.sub(r"[^\w/.\- :]", "_", key): value for key, value in metrics.items()}
        new = {key: value for key, value in named.items() if (key, 0) not in logged}
        rows = [Metric(key, float(value), now, 0) for key, value in new.items()]
        for start in range(0, len(rows), 1000):
            self.client.log_batch(run_id, metrics=rows[start : start + 1000])

    def log_folder(self, run_id: str, folder: Path) -> None:
        """Copy a run folder into the run's artifacts, but for the lock of who writes it."""
        for path in sorted(folder.iterdir()):
            if path.suffix != ".lock":
                self.client.log_artifact(run_id, str(path))

    def finish(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED.

        A Ctrl-C in the midst of a write leaves MLflow's database locked until the process ends: the
        next command then shows the run as killed.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.client.set_terminated(run_id, status)
            self._at_work.release(run_id)
        except MlflowException:
            if status != "KILLED":
                raise
            log.warning("MLflow shows the run as running until another command begins")

    @contextmanager
    def running(self, run_id: str) -> Iterator[None]:
        """Show a run as running, and in the end as FINISHED, KILLED (Ctrl-C) or FAILED."""
        self.reopen(run_id)
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            self.finish(run_id, status)

    def children(self, parent: str) -> pd.DataFrame:
        """The finished runs of a multirun: a row each, with tags, params and metrics."""
        runs = self.client.search_runs(
            [self._experiment_id()],
            f"tags.`{_PARENT_TAG}` = '{parent}' and attributes.status = 'FINISHED'",
            max_results=MOST_RUNS,
        )
        rows = [
            {"run_id": run.info.run_id, **run.data.tags, **run.data.params, **run.data.metrics}
            for run in runs
        ]
        return pd.DataFrame(rows)

    def find_child(self, parent: str, digest: str) -> "Run | None":
        """A parent's child of this recipe; a finished one first, then the newest."""
        runs = self.client.search_runs(
            [self._experiment_id()],
            f"tags.`{_PARENT_TAG}` = '{parent}' and tags.config = '{digest}'",
            order_by=["attributes.start_time DESC"],
        )
        return min(runs, key=lambda run: run.info.status != "FINISHED", default=None)

    def find_parent(self, name: str) -> str | None:
        """The newest parent run of this name, if there is one."""
        runs = self.client.search_runs(
            [self._experiment_id()], f"tags.sweep = '{name}'", max_results=1
        )
        return str(runs[0].info.run_id) if runs else None

    @contextmanager
    def parent(self, name: str, tags: Mapping[str, str], run_id: str | None) -> Iterator[str]:
        """A parent run, new or gone on with; runs started inside are its children."""
        parent = run_id or self.start(name, tags)
        os.environ[PARENT_VARIABLE] = parent
        try:
            with self.running(parent):
                yield parent
        finally:
            os.environ.pop(PARENT_VARIABLE, None)

    def log_table(self, run_id: str, name: str, text: str) -> None:
        """Keep a printed table as an artifact."""
        self.client.log_text(run_id, text, name)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def git_commit() -> str:
    """The commit of the code that runs, with a + when files were changed since.

    A new file counts where the code or its options would find it: under ser/ and conf/.
    """
    head = _head()
    if not head:
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    new = changed or _git("ls-files", "--others", "--exclude-standard", "ser", "conf")
    return head[:12] + ("+" if new else "")


def _head() -> str:
    """The full commit; empty where there is none."""
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str:
    """What git says in the folder of the project; nothing where it fails or is missing."""
    here = Path(__file__).parent.parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
