"""A search by Optuna that is begun, killed and gone on with."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from composing import composed

from ser import search as search_module
from ser.errors import DivergedError, SerError


@pytest.mark.parametrize("bad", [{1, 2}, {0, 1, 2, 3, 4}])
def test_a_trial_that_diverges_is_a_trial_and_the_search_goes_on(
    tmp_path, monkeypatch, capsys, bad
):
    calls, told = iter(range(99)), []

    def run(job, overrides, *_):
        if next(calls) in bad:
            raise DivergedError("the loss is nan")
        return job.optimizer.lr, set()

    monkeypatch.setattr(search_module, "compose", lambda _, words: composed(*words))
    space = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    options = {"name": "mine", "search": {"trials": 5, "seed": 0, "space": space}}
    cfg = composed("model=tim", f"runs_root={tmp_path}")
    tracker = SimpleNamespace(describe=lambda _, text: told.append(text), log_table=lambda *_: None)
    if len(bad) == 5:
        with pytest.raises(SerError, match=r"^sweep\.search\.space: every trial diverged\."):
            search_module.search(cfg, options, ["model=tim"], tracker, "parent", run)
    else:
        search_module.search(cfg, options, ["model=tim"], tracker, "parent", run)
        assert told[0].startswith("best: `optimizer.lr=")
        assert len(told[0].split("\n\n")[1].splitlines()) == 2 + 3
    assert next(calls) == 5
    assert capsys.readouterr().err.count("error: the loss is nan") == len(bad)


def test_a_search_that_was_killed_tries_what_it_would_have_tried(tmp_path, monkeypatch):
    import optuna

    def tried(name: str, kills: set[int]) -> list[dict[str, float]]:
        calls = iter(range(99))

        def run(job, overrides, *_):
            if next(calls) in kills:
                raise KeyboardInterrupt
            return job.optimizer.lr, set()

        monkeypatch.setattr(search_module, "compose", lambda _, words: composed(*words))
        space = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
        options = {"name": name, "search": {"trials": 14, "seed": 0, "space": space}}
        cfg = composed("model=tim", f"runs_root={tmp_path}")
        for _ in range(len(kills) + 1):
            try:
                search_module.search(cfg, options, ["model=tim"], tracker, "parent", run)
            except KeyboardInterrupt:
                continue
        study = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path}/optuna.db")
        done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
        return [trial.params for trial in done]

    tracker = SimpleNamespace(describe=lambda *_: None, log_table=lambda *_: None)
    whole = tried("whole", set())
    assert len({params["optimizer.lr"] for params in whole}) == 14
    assert tried("killed", {2, 12, 13}) == whole


def test_a_trial_that_was_cut_off_is_given_up_and_its_options_are_drawn_again():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def trial(study, names):
        study.sampler = optuna.samplers.TPESampler(seed=0)
        one = study.ask()
        return [one.suggest_float(name, 0, 1) for name in names]

    whole = trial(optuna.create_study(), ["a", "b"])
    study = optuna.create_study()
    trial(study, ["a"])  # killed before it had the second option
    search_module._give_up_cut(study)
    assert trial(study, ["a", "b"]) == whole
    assert study.trials[0].state == optuna.trial.TrialState.FAIL


def test_several_first_searches_may_begin_at_the_same_moment(tmp_path):
    cfg = composed(f"runs_root={tmp_path}")
    with ThreadPoolExecutor(4) as pool:
        studies = list(pool.map(lambda name: search_module._open_study(cfg, name), "abcd"))
    assert [study.study_name for study in studies] == list("abcd")


def test_a_database_of_optunas_that_is_damaged_is_named(tmp_path):
    (tmp_path / "optuna.db").write_text("no database", encoding="utf-8")
    with pytest.raises(SerError, match=r"optuna\.db: Optuna cannot work with it .*not a database"):
        search_module._open_study(composed(f"runs_root={tmp_path}"), "mine")


def test_a_search_goes_on_only_under_the_options_that_it_began_with():
    import optuna

    study = optuna.create_study()
    search_module._check_same(study, composed("model=tim"), "mine")
    search_module._check_same(study, composed("model=chance"), "mine")  # no trial yet
    study.add_trial(optuna.trial.create_trial(value=0.5))
    search_module._check_same(study, composed("model=chance", "runs_root=elsewhere"), "mine")
    with pytest.raises(SerError, match=r"sweep\.name=mine: the trials .* other options"):
        search_module._check_same(study, composed("model=tim"), "mine")


@pytest.mark.parametrize("space", [{"dropout": [0.1, 0.4]}, {"low": 0, "high": 1}, 0.3])
def test_a_space_that_is_none_is_refused_by_its_option(space):
    with pytest.raises(SerError, match=r"^sweep\.search\.space: model has .* a list of choices"):
        search_module._suggest(None, "model", space)


def test_an_option_that_is_given_and_searched_is_refused_before_any_trial(tmp_path):
    space = {"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "augment": ["none", "mixup"]}
    options = {"name": "mine", "search": {"trials": 5, "seed": 0, "space": space}}
    cfg = composed(f"runs_root={tmp_path}")
    for word in ("augment=robust", "optimizer.lr=1e-3"):
        with pytest.raises(SerError, match=rf"^{word}: the search draws this option"):
            search_module.search(cfg, options, ["model=tim", word], None, "parent", None)
    assert not list(tmp_path.iterdir())
