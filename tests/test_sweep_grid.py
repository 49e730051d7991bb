"""The grid of a sweep: which runs it asks for."""

import pytest
from composing import composed
from hydra.errors import HydraException
from omegaconf import OmegaConf

from ser import sweep as sweep_module
from ser.config import plain
from ser.errors import SerError
from ser.sweep import combinations


@pytest.mark.parametrize("option", ["protocol", "ablation", "folds"])
def test_every_grid_has_the_options_of_the_page(option):
    options = plain(composed(f"sweep={option}", config="sweep"))["sweep"]
    assert options["results"] is None and options["reference"] is None and options["grid"]


def test_a_protocol_is_named_by_what_it_tests_and_takes_all_folds():
    words = ("sweep=protocol", "dataset=emodb", "split=loso")
    options = plain(composed(*words, config="sweep"))["sweep"]
    assert options["name"] == "emodb_native_loso" and options["all_folds"] is True
    assert len(list(combinations(options["grid"]))) == 18


@pytest.mark.parametrize("option", ["protocol", "ablation", "folds"])
def test_every_grid_sets_the_ensemble_against_all_that_it_is_made_of(option):
    arms = plain(composed(f"sweep={option}", config="sweep"))["sweep"]["grid"]["model"]
    model = plain(composed("model=ensemble"))["model"]
    members = {name for name, options in model.items() if isinstance(options, dict)}
    assert members == {"tim", "wav2vec2", "ridge"} and members < set(arms)


def test_a_value_of_the_grid_may_bring_options_of_its_own():
    grid = {"model": ["tim", "ensemble experiment=finetune"], "model.layers": [[1, 2]]}
    assert list(combinations(grid)) == [
        ["model=tim", "model.layers=[1, 2]"],
        ["model=ensemble", "experiment=finetune", "model.layers=[1, 2]"],
    ]
    assert list(combinations({"trainer.precision": [None, 16]})) == [
        ["trainer.precision=null"],
        ["trainer.precision=16"],
    ]


@pytest.mark.parametrize("key", ["search", "reference", "grid"])
def test_a_sweep_that_lacks_a_key_is_refused_before_any_run(key, monkeypatch):
    monkeypatch.setattr(sweep_module, "given_overrides", list)
    cfg = composed(config="sweep")
    OmegaConf.set_struct(cfg, False)
    del cfg.sweep[key]
    with pytest.raises(SerError, match=rf"^sweep\.{key} is missing: the file of conf/sweep/"):
        sweep_module.sweep(cfg)


@pytest.fixture
def ran(monkeypatch):
    """The options of each run that a grid asks for; none is run."""
    jobs: list[list[str]] = []
    monkeypatch.setattr(sweep_module, "compose", lambda name, words: composed(*words))

    def run(job, words, *_):
        jobs.append(words)
        return 0.0, set()

    monkeypatch.setattr(sweep_module, "_run_missing", run)
    for told in ("tell_comparison", "tell_results"):
        monkeypatch.setattr(sweep_module, told, lambda *_: None)
    return jobs


def test_a_model_without_a_seed_is_run_once(ran):
    options = {"grid": {"model": ["chance", "tim"], "seed": [3, 4]}, "all_folds": False}
    sweep_module.run_grid(composed(), options, [], None, "")
    assert ran == [["model=chance", "seed=3"], ["model=tim", "seed=3"], ["model=tim", "seed=4"]]


def test_a_misspelt_arm_shows_before_any_run(ran):
    options = {"grid": {"model": ["chance", "tlm"]}, "all_folds": False}
    with pytest.raises(HydraException, match="tlm"):
        sweep_module.run_grid(composed(), options, [], None, "")
    assert ran == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SerError("no\nluck."), "no luck."), (ValueError("c is -1"), "ValueError: c is -1")],
)
def test_runs_that_fail_are_told_and_the_others_are_done(ran, monkeypatch, error, reason):
    def run(job, words, *_):
        if job.model.name == "chance":
            raise error
        ran.append(words)
        return 0.0, set()

    told = []
    monkeypatch.setattr(sweep_module, "_run_missing", run)
    monkeypatch.setattr(sweep_module, "tell_results", lambda *given: told.append(given[-1]))
    options = {"grid": {"model": ["chance", "tim"]}, "all_folds": False}
    with pytest.raises(SerError, match="1 of 2 runs failed"):
        sweep_module.run_grid(composed(), options, [], None, "")
    assert ran == [["model=tim"]]
    assert told[0].to_dict("records") == [
        {"overrides": "model=chance", "model": "chance", "reason": reason}
    ]


def test_a_grid_may_name_the_folds(ran):
    words = ("sweep=protocol", "+sweep.grid.split.fold=[1,3]", "sweep.grid.seed=[0]")
    options = plain(composed(*words, "sweep.grid.model=[tim]", config="sweep"))["sweep"]
    sweep_module.run_grid(composed(), options, [], None, "")
    assert ran == [["model=tim", "seed=0", f"split.fold={fold}"] for fold in (1, 3)]
