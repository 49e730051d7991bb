"""Many training runs under one parent: those of a grid, or of a search (`ser.search`)."""

import itertools
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from hydra import compose
from omegaconf import DictConfig
from rich.console import Console

from ser.assemble import speech_of
from ser.command_text import command_text
from ser.comparison import REPEATS, finished_runs, tell_comparison
from ser.config import CONF, build, given_overrides, plain, tell, trains
from ser.errors import SerError
from ser.options import check_kinds, check_name
from ser.protocol import read_protocol
from ser.report import show
from ser.results_files import merge_section, write_page
from ser.results_page import test_cells
from ser.results_table import compute_results
from ser.run import best_key, config_digest, tracker_of, train
from ser.run_folder import RunFolder
from ser.search import search
from ser.tracking import Tracker, flatten, git_commit

log = logging.getLogger(__name__)

# What one run raises by its own options; a disk's or MLflow's errors would be every run's.
_OF_THE_RUN = (SerError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def sweep(cfg: DictConfig) -> None:
    """Do what is missing of the sweep that `cfg.sweep` describes, then print its table."""
    words = given_overrides()
    given = [word for word in words if not word.lstrip("+~").startswith("sweep")]
    check_kinds(cfg, words, CONF, "sweep")
    options = plain(cfg)["sweep"]
    _check_keys(options)
    name = options["name"] = str(options["name"])
    check_name("sweep.name", name)
    tracker = tracker_of(cfg)
    tags = {"sweep": name, "kind": "parent"}
    with (
        _alone(tracker.root, name),
        tracker.parent(f"sweep {name}", tags, tracker.find_parent(name)) as parent,
    ):
        try:
            if options["search"] is not None:
                search(cfg, options, given, tracker, parent, _run_missing)
            else:
                run_grid(cfg, options, given, tracker, parent)
        except KeyboardInterrupt:
            log.warning("sweep %s is cut off: the same command does what is missing", name)
            raise


def _check_keys(options: Mapping[str, Any]) -> None:
    """Refuse a sweep that lacks a key before any run: some are read after the last one only."""
    searches = options.get("search") is not None
    keys = ("name", "grid", "all_folds", "search", *(() if searches else ("reference", "results")))
    if lacking := [key for key in keys if key not in options]:
        raise SerError(
            f"sweep.{lacking[0]} is missing: the file of conf/sweep/ that was chosen must set "
            f"{', '.join(keys)}. Add the line; conf/sweep/folds.yaml tells what each is."
        )


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """One process a sweep: two would start the same run at the same moment."""
    lock = FileLock(root / f"sweep-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SerError(
            f"sweep.name={name}: another process is doing this sweep under {root}. Wait for it or "
            "end it first, or give this one another sweep.name=NAME."
        ) from error
    try:
        yield
    finally:
        lock.release()


def run_grid(
    cfg: DictConfig, options: Mapping[str, Any], given: list[str], tracker: Tracker, parent: str
) -> None:
    """Every combination of the grid; runs that are whole stay, those cut off are resumed."""
    grid = {key: list(values) for key, values in flatten(options["grid"]).items()}
    for key, _, value in (word.partition("=") for word in given):
        if key in grid:
            raise SerError(
                f"{key}={value}: the sweep has values of its own for {key}, "
                f'{", ".join(map(str, grid[key]))}. Write "sweep.grid.{key}=[{value}]".'
            )
    for words in combinations({k: v[:1] if k in REPEATS else v for k, v in grid.items()}):
        compose("train", [*given, *words])  # a misspelt arm shows before any run
    if options["all_folds"] and "split.fold" not in grid:
        grid["split.fold"] = list(range(_count_folds(cfg)))
    jobs = [[*given, *words] for words in combinations(grid)]
    kept: set[str] = set()
    digests, failed = [], []
    for number, overrides in enumerate(jobs, 1):
        job = compose("train", overrides)
        log.info("\n[%d/%d] %s", number, len(jobs), " ".join(overrides))
        if job.seed != grid.get("seed", [job.seed])[0] and not trains(job):
            log.info("model=%s is fitted at once and has no seed: not repeated", job.model.name)
            continue
        digests.append(config_digest(job))
        try:
            kept |= _run_missing(job, overrides, tracker, parent)[1]
        except _OF_THE_RUN as error:
            if not isinstance(error, SerError):
                log.exception("this run ended by an error; the others are done all the same")
                error = SerError(f"{type(error).__name__}: {error}")
            tell(error)
            run = {"overrides": " ".join(overrides), "model": job.model.name}
            failed.append({**run, "reason": " ".join(str(error).split())})
    _tell_kept(kept)
    tell_comparison(tracker, parent, digests)
    tell_results(tracker, parent, digests, options, pd.DataFrame(failed))
    if failed:
        raise SerError(f"{len(failed)} of {len(digests)} runs failed; each is explained above.")


def tell_results(
    tracker: Tracker,
    parent: str,
    digests: Sequence[str],
    options: Mapping[str, Any],
    failures: pd.DataFrame | None = None,
) -> None:
    """The results page of the finished runs, in a folder, in MLflow and in the user's document.

    `failures` are those of `read_protocol`. A grid whose runs are of different clips has no such
    page: that is an error only when the page was asked for (`sweep.results`).
    """
    children = finished_runs(tracker, parent, digests)
    if children.empty or "test/uar" not in children:
        return
    name = options["name"]
    command = command_text("sweep.py", given_overrides())
    try:
        protocol = read_protocol(children, name, command, failures)
    except SerError as error:
        if options["results"] is not None:
            raise
        log.warning("no page of results: %s", error)
        return
    results = compute_results(protocol, reference=options["reference"])
    folder = tracker.root / "protocols" / name
    section = write_page(protocol, results, folder)
    tracker.log_folder(parent, folder)
    if options["results"] is not None:
        with FileLock(tracker.root / "results.lock"):  # two sweeps may write one document
            merge_section(Path(options["results"]), name, section)
    if len(results.tests):
        cells = test_cells(results)[["arm", "UAR difference", "p (Holm)", "log loss p (Holm)"]]
        cells["arm"] = cells["arm"].str.replace("`", "")
        show(cells, "paired tests (all columns: results.md)", Console())
    log.info("results  %s", folder / "results.md")


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[list[str]]:
    """The grid's points as overrides; a value such as `ensemble experiment=finetune` is several."""
    for point in itertools.product(*grid.values()):
        values = ("null" if value is None else value for value in point)
        words = (f"{key}={value}" for key, value in zip(grid, values, strict=True))
        yield re.split(r" (?=[\w.@]+=)", " ".join(words))


def _count_folds(cfg: DictConfig) -> int:
    folds: int = build(cfg.split).folds_of(speech_of(cfg).table)
    return folds


def _run_missing(
    job: DictConfig, overrides: list[str], tracker: Tracker, parent: str
) -> tuple[float, set[str]]:
    """The monitored metric of this recipe's run, and the commit of one that was done before.

    One that was cut off is gone on with; of one that had not come to that no trace is left but in
    MLflow, where it ends as killed.
    """
    before = tracker.find_child(parent, config_digest(job))
    if before is None:
        return train(job, overrides), set()
    folder, finished = before.data.tags["run_folder"], before.info.status == "FINISHED"
    run = RunFolder(Path(folder))
    if lost := finished and job.test and not run.has_predictions():
        log.warning("%s is lost or damaged: this run is done anew", run.predictions)
    if lost or not Path(folder, "run.json").is_file():
        tracker.finish(before.info.run_id, "FAILED" if lost else "KILLED")
        if not finished:
            shutil.rmtree(folder, ignore_errors=True)
        return train(job, overrides), set()
    if finished:
        log.info("done before: %s", folder)
        metric = before.data.metrics.get(best_key(job), float("nan"))
        return metric, {before.data.tags["git_commit"]}
    job.resume = folder
    return train(job, overrides), set()


def _tell_kept(commits: Set[str]) -> None:
    """Say so if runs that were done before may be of other code than this."""
    now = git_commit()
    if others := sorted(commit for commit in commits if commit != now or commit.endswith("+")):
        log.warning(
            "runs that were done before are kept, of commit %s (now %s; +: with changes that were "
            "not committed). Another sweep.name=NAME does all of them anew.",
            ", ".join(others), now,
        )  # fmt: skip
