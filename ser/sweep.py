"""Many training runs under one parent: a grid, or a search by Optuna."""

import itertools
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
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
from ser.errors import DivergedError, SerError
from ser.options import check_kinds, check_name
from ser.protocol import read_protocol
from ser.report import markdown, show
from ser.results_files import merge_section, write_page
from ser.results_page import test_cells
from ser.results_table import compute_results
from ser.run import best_key, config_digest, tracker_of, train
from ser.run_folder import RunFolder
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
    name = options["name"] = str(options["name"])
    check_name("sweep.name", name)
    tracker = tracker_of(cfg)
    tags = {"sweep": name, "kind": "parent"}
    with (
        _alone(tracker.root, name),
        tracker.parent(f"sweep {name}", tags, tracker.find_parent(name)) as parent,
    ):
        if options["search"] is not None:
            search(cfg, options, given, tracker, parent)
        else:
            run_grid(cfg, options, given, tracker, parent)


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
    digests: Collection[str],
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


def search(
    cfg: DictConfig, options: Mapping[str, Any], given: list[str], tracker: Tracker, parent: str
) -> None:
    """An Optuna study on the monitored validation metric; the test part stays closed.

    A trial that diverges tells that its options are bad, and the next one follows.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = options["search"]
    database = Path(cfg.runs_root) / "optuna.db"
    study = optuna.create_study(
        study_name=options["name"],
        storage=f"sqlite:///{database.resolve()}",
        direction="maximize" if cfg.monitor.mode == "max" else "minimize",
        load_if_exists=True,
    )
    _check_same(study, compose("train", [*given, "test=false"]), options["name"])
    _enqueue_cut(study)
    done, trials = _completed(study), settings["trials"]
    log.info("search %s: %d of %d trials are done", options["name"], done, trials)
    while (done := _completed(study)) < trials:
        # a seed a trial: a search that was killed tries what it would have tried
        study.sampler = optuna.samplers.TPESampler(seed=settings["seed"] + done)
        trial = study.ask()
        words = [_suggest(trial, key, space) for key, space in settings["space"].items()]
        log.info("\n[trial %d/%d] %s", done + 1, trials, " ".join(words))
        overrides = [*given, *words, "test=false"]
        job = compose("train", overrides)
        try:
            study.tell(trial, _run_missing(job, overrides, tracker, parent)[0])
        except DivergedError as error:
            tell(error)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    _tell_search(study, cfg.monitor.metric, tracker, parent)


def _check_same(study: Any, job: DictConfig, name: str) -> None:
    """SerError where the study's trials were made with other options beside those it searches."""
    digest = config_digest(job)
    if study.trials and study.user_attrs.get("config", digest) != digest:
        raise SerError(
            f"sweep.name={name}: the trials of this search were made with other options, so theirs "
            "and new ones do not compare. Give the same options, or another sweep.name=NAME."
        )
    study.set_user_attr("config", digest)


def _enqueue_cut(study: Any) -> None:
    """Trials that a killed search left in the midst come first, with the same options."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.enqueue_trial(trial.params)
        study.tell(trial.number, state=TrialState.FAIL)


def _completed(study: Any) -> int:
    from optuna.trial import TrialState

    done = (TrialState.COMPLETE, TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=done))


def _suggest(trial: Any, key: str, space: Any) -> str:
    """One option's value in this trial, as an override; SerError where `space` is no space."""
    if isinstance(space, list):
        return f"{key}={trial.suggest_categorical(key, space)}"
    if not isinstance(space, dict) or set(space) != {"low", "high", "log"}:
        raise SerError(
            f"sweep.search.space: {key} has {space}; it must be a list of choices, as [0.1, 0.3], "
            "or {low: 0.0, high: 0.5, log: false}. An option of a group is one key, as "
            "{model.dropout: [0.1, 0.3]}."
        )
    whole = isinstance(space["low"], int) and isinstance(space["high"], int)
    suggest = trial.suggest_int if whole else trial.suggest_float
    return f"{key}={suggest(key, space['low'], space['high'], log=space['log'])}"


def _tell_search(study: Any, metric: str, tracker: Tracker, parent: str) -> None:
    table = study.trials_dataframe(attrs=("number", "value", "params"))
    table = table.dropna(subset="value")
    if table.empty:
        raise SerError(
            "sweep.search.space: every trial diverged. Give lower rates there, and another "
            "sweep.name=NAME."
        )
    table = table.sort_values("value", ascending=study.direction.name == "MINIMIZE")
    table.columns = [str(name).removeprefix("params_") for name in table.columns]
    table = table.rename(columns={"value": metric})
    shown = table.head(10).map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))
    text = markdown(shown)
    best = " ".join(f"{key}={value}" for key, value in study.best_params.items())
    Console().print(f"\n{text}\n\nbest: {best}", soft_wrap=True, markup=False, highlight=False)
    tracker.describe(parent, f"best: `{best}`\n\n{text}")
    tracker.log_table(parent, "search.md", text)
