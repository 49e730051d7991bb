"""The runs that a sweep keeps, and the page of results that it ends with."""

from pathlib import Path

import pandas as pd
import pytest
from composing import composed
from protocol_runs import clips_of, finished_children

from ser import sweep as sweep_module
from ser.comparison import finished_runs
from ser.errors import SerError
from ser.sweep import tell_results

ARMS = {"tim": 0.4, "ensemble": 0.8}


class Store:
    """A tracker with given children; remembers the folders that it is told to log."""

    def __init__(self, root: Path, children: pd.DataFrame) -> None:
        self.root, self._children = root, children
        self.logged: list[tuple[str, Path]] = []

    def children(self, parent: str) -> pd.DataFrame:
        return self._children

    def log_folder(self, run_id: str, folder: Path) -> None:
        self.logged.append((run_id, folder))


@pytest.fixture(autouse=True)
def given(monkeypatch):
    """The words of the command line, as Hydra holds them."""
    words = ["sweep=protocol", "dataset.root=/data/x"]
    monkeypatch.setattr(sweep_module, "given_overrides", lambda: words)


@pytest.fixture
def trained(monkeypatch):
    """What each run would go on with; none is run."""
    resumed: list[str | None] = []

    def train(job, overrides):
        resumed.append(job.resume)
        return 0.5

    monkeypatch.setattr(sweep_module, "train", train)
    return resumed


def test_what_was_done_is_kept_and_its_commit_told(tracker, trained, tmp_path, caplog):
    words = ["model=chance", f"runs_root={tmp_path}"]
    with tracker.parent("sweep mine", {"sweep": "mine"}, None) as parent:
        (tmp_path / "run.json").touch()
        clips_of({"ravdess": 1}).to_parquet(tmp_path / "predictions.parquet")
        tags = {"run_folder": str(tmp_path), "git_commit": "0123+"}
        tags["config"] = sweep_module.config_digest(composed(*words))
        done = tracker.start("chance", tags)
        tracker.log_metrics(done, {sweep_module.best_key(composed(*words)): 0.25})
        tracker.finish(done, "FINISHED")
    run = sweep_module._run_missing(composed(*words), words, tracker, parent)
    assert run == (0.25, {"0123+"}) and trained == []
    with caplog.at_level("WARNING", logger="ser"):
        sweep_module._tell_kept({"0123+"})
        assert "are kept, of commit 0123+ (now" in caplog.text
        caplog.clear()
        sweep_module._tell_kept(set())
        assert not caplog.text


def test_a_done_run_whose_predictions_are_damaged_is_done_anew(tracker, trained, tmp_path, caplog):
    words = ["model=chance", f"runs_root={tmp_path}"]
    with tracker.parent("sweep mine", {"sweep": "mine"}, None) as parent:
        (tmp_path / "run.json").touch()
        (tmp_path / "predictions.parquet").write_bytes(b"PAR1 and no more")
        tags = {"run_folder": str(tmp_path), "git_commit": "0123"}
        tags["config"] = sweep_module.config_digest(composed(*words))
        done = tracker.start("chance", tags)
        tracker.finish(done, "FINISHED")
    run = sweep_module._run_missing(composed(*words), words, tracker, parent)
    assert run == (0.5, set()) and trained == [None]
    assert tracker.children(parent).empty and tracker.status(done) == "FAILED"
    assert "predictions.parquet is lost or damaged: this run is done anew" in caplog.text


def test_a_sweep_is_done_by_one_process_at_a_time(tmp_path):
    with (
        sweep_module._alone(tmp_path, "a, b"),
        sweep_module._alone(tmp_path, "c"),
        pytest.raises(SerError, match=r"sweep\.name=a, b: another process is doing this sweep"),
        sweep_module._alone(tmp_path, "a, b"),
    ):
        pass
    with sweep_module._alone(tmp_path, "a, b"):  # it was let go
        pass


def test_a_sweep_that_is_interrupted_says_how_it_goes_on(tracker, monkeypatch, caplog):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_module, "check_kinds", lambda *_: None)
    monkeypatch.setattr(sweep_module, "tracker_of", lambda cfg: tracker)
    monkeypatch.setattr(sweep_module, "run_grid", interrupted)
    words = ("sweep=protocol", "dataset.root=/data/x", "sweep.name=cut")
    with pytest.raises(KeyboardInterrupt):
        sweep_module.sweep(composed(*words, config="sweep"))
    assert "sweep cut is cut off: the same command does what is missing" in caplog.text
    assert tracker.status(tracker.find_parent("cut")) == "KILLED"


def test_a_run_killed_before_its_folder_was_whole_is_done_anew(tracker, trained, tmp_path):
    words = ["model=chance", f"runs_root={tmp_path}"]
    with tracker.parent("sweep mine", {"sweep": "mine"}, None) as parent:
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "config.yaml").touch()
        tags = {"run_folder": str(tmp_path / "cut"), "git_commit": "0123"}
        tags["config"] = sweep_module.config_digest(composed(*words))
        cut_off = tracker.start("chance", tags)
    assert tracker.status(cut_off) == "RUNNING"
    run = sweep_module._run_missing(composed(*words), words, tracker, parent)
    assert run == (0.5, set()) and trained == [None]
    assert tracker.status(cut_off) == "KILLED" and not (tmp_path / "cut").exists()


def tell(store: Store, **options: object) -> None:
    digests = list(store.children("")["config"])
    settings = {"name": "mine", "reference": None, "results": None, **options}
    tell_results(store, "parent", digests, settings)


def test_the_page_lies_in_its_folder_in_mlflow_and_in_the_document(tmp_path, capsys):
    store = Store(tmp_path / "mlruns", finished_children(tmp_path, ARMS))
    document = tmp_path / "results.md"
    document.write_text("# Results\n", encoding="utf-8")
    tell(store, results=str(document))
    folder = store.root / "protocols" / "mine"
    assert store.logged == [("parent", folder)]
    section = (folder / "results.md").read_text(encoding="utf-8")
    assert "python sweep.py sweep=protocol dataset.root=…/x" in section
    text = document.read_text(encoding="utf-8")
    said, pictures = section.split("\n\n![", 1)
    assert pictures.count("](figures/") == 2
    assert text == f"# Results\n\n<!-- begin mine -->\n{said.strip()}\n<!-- end mine -->\n"
    assert "| ensemble against tim | " in capsys.readouterr().out
    tell(store, results=str(document))
    assert document.read_text(encoding="utf-8") == text


def test_an_arm_whose_runs_all_failed_is_on_the_page_with_the_reason(tmp_path):
    store = Store(tmp_path / "mlruns", finished_children(tmp_path, {"tim": 0.4}))
    digests = list(store.children("")["config"])
    why = {"model": "linear", "reason": "model.c=-1: it must be positive."}
    failures = pd.DataFrame([{"overrides": f"model=linear seed={seed}", **why} for seed in (0, 1)])
    options = {"name": "mine", "reference": None, "results": None}
    tell_results(store, "parent", digests, options, failures)
    text = (store.root / "protocols" / "mine" / "results.md").read_text(encoding="utf-8")
    assert "\n\n`linear` failed: model.c=-1: it must be positive. (2 runs)\n\n" in text


def test_runs_of_other_recipes_are_not_in_the_page(tmp_path):
    children = finished_children(tmp_path, {**ARMS, "linear": 0.5})
    store = Store(tmp_path, children)
    digests = list(children[children["model"] != "linear"]["config"])
    options = {"name": "mine", "reference": None, "results": None}
    tell_results(store, "parent", digests, options)
    table = pd.read_csv(tmp_path / "protocols" / "mine" / "results.csv")
    assert set(table["arm"]) == set(ARMS)


def test_runs_stand_in_the_order_of_the_grid_whenever_they_were_done(tmp_path):
    children = finished_children(tmp_path, {**ARMS, "linear": 0.5})
    digests = list(children["config"])
    found = []
    for order in (children[::-1], pd.concat([children[2:3], children[::-1].drop(index=2)])):
        found.append(finished_runs(Store(tmp_path, order), "parent", digests))
    pd.testing.assert_frame_equal(*found)
    assert list(found[0]["config"]) == digests[::-1]


def test_runs_on_different_clips_have_no_page_and_that_is_an_error_where_it_was_asked_for(
    tmp_path, caplog
):
    children = finished_children(tmp_path, ARMS)
    children.loc[0, "manifest"] = "b" * 64
    store = Store(tmp_path, children)
    tell(store)
    assert "no page of results: The runs differ in manifest" in caplog.text
    with pytest.raises(SerError, match="differ in manifest"):
        tell(store, results=str(tmp_path / "results.md"))
    assert store.logged == [] and not (tmp_path / "results.md").exists()


def test_runs_that_were_not_tested_have_no_page(tmp_path):
    store = Store(tmp_path, finished_children(tmp_path, ARMS).drop(columns="test/uar"))
    tell(store)
    assert store.logged == [] and not (tmp_path / "protocols").exists()
