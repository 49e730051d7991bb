"""A search over options by Optuna, on the validation metric: the trials are runs of a sweep."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra import compose
from omegaconf import DictConfig
from rich.console import Console

from ser.config import tell
from ser.errors import DivergedError, SerError
from ser.report import markdown
from ser.run import config_digest
from ser.tracking import Tracker

log = logging.getLogger(__name__)

Run = Callable[[DictConfig, list[str], Tracker, str], tuple[float, Any]]
"""Does the run of a configuration and its overrides if it is missing; first of what it gives is the
metric."""


def search(
    cfg: DictConfig,
    options: Mapping[str, Any],
    given: list[str],
    tracker: Tracker,
    parent: str,
    run: Run,
) -> None:
    """An Optuna study on the monitored validation metric; the test part stays closed.

    A trial that diverges tells that its options are bad, and the next one follows.
    """
    import optuna

    settings = options["search"]
    for word in given:
        if word.partition("=")[0] in settings["space"]:
            raise SerError(
                f"{word}: the search draws this option in each trial. Drop one of the two: search "
                "over others by ~sweep.search.space '+sweep.search.space={…}' (conf/sweep/"
                "search.yaml has an example)."
            )
    study = _open_study(cfg, options["name"])
    _check_same(study, compose("train", [*given, "test=false"]), options["name"])
    _give_up_cut(study)
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
            study.tell(trial, run(job, overrides, tracker, parent)[0])
        except DivergedError as error:
            tell(error)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    _tell_search(study, cfg.monitor.metric, tracker, parent)


def _open_study(cfg: DictConfig, name: str) -> Any:
    """The study of this name, new or gone on with; one process alone makes the database."""
    import optuna
    from sqlalchemy.exc import DatabaseError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database = Path(cfg.runs_root).resolve() / "optuna.db"
    try:
        with FileLock(database.with_suffix(".lock")):
            return optuna.create_study(
                study_name=name,
                storage=f"sqlite:///{database}",
                direction="maximize" if cfg.monitor.mode == "max" else "minimize",
                load_if_exists=True,
            )
    except DatabaseError as error:
        raise SerError(
            f"{database}: Optuna cannot work with it ({str(error).splitlines()[0]}). If another "
            "program holds it, wait or end that. If it is damaged, move it away and give the same "
            "command again: trials whose runs have finished are not done anew."
        ) from error


def _check_same(study: Any, job: DictConfig, name: str) -> None:
    """SerError where the study's trials were made with other options beside those it searches."""
    digest = config_digest(job)
    if study.trials and study.user_attrs.get("config", digest) != digest:
        raise SerError(
            f"sweep.name={name}: the trials of this search were made with other options, so theirs "
            "and new ones do not compare. Give the same options, or another sweep.name=NAME."
        )
    study.set_user_attr("config", digest)


def _give_up_cut(study: Any) -> None:
    """Trials that a killed search left in the midst: the seed gives the same options once more."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
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
    table["number"] = range(len(table))  # trials that were cut off have numbers, too
    table = table.sort_values("value", ascending=study.direction.name == "MINIMIZE")
    table.columns = [str(name).removeprefix("params_") for name in table.columns]
    table = table.rename(columns={"value": metric})
    shown = table.head(10).map(lambda v: f"{v:.4g}" if isinstance(v, float) else str(v))
    text = markdown(shown)
    best = " ".join(f"{key}={value}" for key, value in study.best_params.items())
    Console().print(f"\n{text}\n\nbest: {best}", soft_wrap=True, markup=False, highlight=False)
    tracker.describe(parent, f"best: `{best}`\n\n{text}")
    tracker.log_table(parent, "search.md", text)
