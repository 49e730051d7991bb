"""Run folders: their state, who may write them, and how they are found again."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from composing import composed
from omegaconf import OmegaConf

from ser import run_folder
from ser.errors import SerError
from ser.run_folder import RunFolder, begun, create_run_folder, find_run
from ser.whole_files import write_text

log = logging.getLogger("ser.somewhere")


def made(runs: Path, name: str, run_id: str, status: str) -> RunFolder:
    folder = RunFolder(runs / name)
    folder.checkpoints.mkdir(parents=True)
    folder.config.write_text("seed: 0\n")
    folder.set_state(run_id=run_id, status=status)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs: a finished one, a later one cut off, a still later one finished."""
    made(tmp_path, "2026-01-01_00-00-00_tim", "aaaaaa1111", "finished")
    made(tmp_path, "2026-01-02_00-00-00_tim", "aaaaaa2222", "running")
    made(tmp_path, "2026-01-03_00-00-00_tim", "bbbbbb3333", "finished")
    return tmp_path


def test_state_changes_entry_by_entry(tmp_path):
    folder = RunFolder(tmp_path)
    folder.set_state(run_id="abc", status="running")
    folder.set_state(status="finished")
    assert folder.state() == {"run_id": "abc", "status": "finished"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_metrics_come_back_as_they_were(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_metrics({"test/war": 0.5, "test/uar": 1 / 3})
    assert folder.metrics() == {"test/war": 0.5, "test/uar": 1 / 3}
    assert list(json.loads((tmp_path / "metrics.json").read_text())) == ["test/uar", "test/war"]


def test_paths_inside_a_run(tmp_path):
    folder = RunFolder(tmp_path)
    names = [folder.config, folder.best, folder.last, folder.predictions]
    assert [str(path.relative_to(tmp_path)) for path in names] == [
        "config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "predictions.parquet",
    ]  # fmt: skip


def test_a_small_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_text(path, "old")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("cut")))
    with pytest.raises(OSError, match="cut"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_a_claimed_folder_keeps_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ser")
    folder = RunFolder(tmp_path)
    log.info("before")
    with folder.claimed():
        log.info("within")
    log.info("after")
    with folder.claimed():
        log.info("again")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == ["within", "again"]


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path):
    program = (
        "import sys; from pathlib import Path; from ser.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).claimed():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        handlers = list(logging.getLogger("ser").handlers)
        refused = pytest.raises(SerError, match="another process is writing this run")
        with refused, RunFolder(tmp_path).claimed():
            pytest.fail("the folder was claimed twice")
        assert logging.getLogger("ser").handlers == handlers
        holder.kill()  # the system frees the lock of a process that dies
    with RunFolder(tmp_path).claimed():
        pass


def test_what_a_killed_run_half_wrote_is_removed_by_the_next(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    for path in (folder.last, folder.path / "metrics.json"):
        path.touch()
        path.with_name(f"{path.name}.123.part").touch()
    with folder.claimed():
        pass
    assert folder.last.exists() and (folder.path / "metrics.json").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_a_claim_ends_with_an_error_too(tmp_path):
    with pytest.raises(ValueError, match="lost"), RunFolder(tmp_path).claimed():
        raise ValueError("lost")
    with RunFolder(tmp_path).claimed():
        pass


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    class Clock(run_folder.datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Clock":
            return cls(2026, 7, 1, 12, 30, 45)

    monkeypatch.setattr(run_folder, "datetime", Clock)
    names = [create_run_folder(tmp_path / "runs", "tim-s0").path.name for _ in range(3)]
    stamp = "2026-07-01_12-30-45_tim-s0"
    assert names == [stamp, f"{stamp}_1", f"{stamp}_2"]
    assert all((tmp_path / "runs" / name).is_dir() for name in names)


def test_a_run_is_found_by_folder_checkpoint_or_id(runs):
    second = runs / "2026-01-02_00-00-00_tim"
    for named in (str(second), str(second / "checkpoints" / "last.ckpt"), "aaaaaa2222", "aaaaaa22"):
        assert find_run(named, runs, finished=True).path == second


def test_last_is_the_newest_that_has_finished_or_been_cut_off(runs):
    assert find_run("last", runs, finished=True).path.name.startswith("2026-01-03")
    assert find_run("last", runs, finished=False).path.name.startswith("2026-01-02")


@pytest.mark.parametrize(
    "content",
    ["", '{"run_id": "cc', "[]", '{"status": "finished"}', '{"run_id": "cccccc"}', "\xff"],
)
def test_a_damaged_state_is_named_and_left_out_where_others_are_sought(runs, content, caplog):
    newest = made(runs, "2026-01-04_00-00-00_tim", "cccccc4444", "finished")
    damaged = newest.path / "run.json"
    damaged.write_text(content, encoding="latin-1")
    assert find_run("last", runs, finished=True).path.name.startswith("2026-01-03")
    assert find_run("aaaaaa2222", runs, finished=True).path.name.startswith("2026-01-02")
    assert caplog.text.count(f"Left out: {damaged} is damaged: it must hold run_id and") == 2
    for use in (newest.state, lambda: newest.set_state(status="failed")):
        with pytest.raises(SerError) as caught:
            use()
        assert str(damaged) in str(caught.value) and "write it anew" in str(caught.value)


def test_damaged_predictions_are_named(tmp_path):
    folder = RunFolder(tmp_path)
    table = pd.DataFrame({"id": ["a", "b"], "truth": ["sad", "sad"]})
    table.to_parquet(folder.predictions)
    pd.testing.assert_frame_equal(folder.read_predictions(), table)
    whole = folder.predictions.read_bytes()
    for content in (b"", whole[:-20], whole[20:]):
        folder.predictions.write_bytes(content)
        with pytest.raises(
            SerError, match=r"(?s)predictions\.parquet cannot be read .*Restore it from"
        ):
            folder.read_predictions()


@pytest.mark.parametrize("content", [None, "", '{"test/uar": 0.', "[1]"])
def test_damaged_metrics_are_named(content, tmp_path):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(SerError, match=r"metrics\.json cannot be read .*artifacts that MLflow"):
        RunFolder(tmp_path).metrics()


def test_a_config_that_is_no_yaml_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_text(OmegaConf.to_yaml(composed()).replace("seed: 0", "seed: [0"))
    with pytest.raises(SerError, match=r"(?s)config\.yaml is damaged: it is no YAML .*train again"):
        folder.check_config()


def test_a_config_that_was_cut_off_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    whole = OmegaConf.to_yaml(composed())
    folder.config.write_text(whole)
    folder.check_config()
    for content, lacks in (("", "dataset, split, "), (whole[: len(whole) // 2], "loader")):
        folder.config.write_text(content)
        with pytest.raises(
            SerError, match=rf"config\.yaml is damaged or cut off: .*{lacks}.*artifacts"
        ):
            folder.check_config()


@pytest.mark.parametrize(
    "named",
    ["aaaaaa", "aaa", "cccccc", "no/such/folder", "no/such/checkpoints/best.ckpt"],
)
def test_what_names_no_run_or_several_is_refused(runs, named):
    with pytest.raises(SerError, match=f"{named}: no run of that name. Give a run folder"):
        find_run(named, runs, finished=True)


def test_a_folder_that_is_no_run_is_refused(runs):
    with pytest.raises(SerError, match=r"not a run folder: it has no run\.json and config\.yaml"):
        find_run(str(runs), runs, finished=True)


def test_last_without_any_run(tmp_path):
    with pytest.raises(SerError, match=r"no run under .* has finished"):
        find_run("last", tmp_path / "runs", finished=True)
    with pytest.raises(SerError, match=r"no run under .* has been cut off"):
        find_run("last", tmp_path / "runs", finished=False)


def test_what_a_killed_evaluation_half_wrote_is_removed(tmp_path):
    from ser.evaluate import _results_folder, _robustness_folder

    left = [tmp_path / "evaluations" / name / "a.123.part" for name in ("test", "robustness")]
    for path in left:
        path.parent.mkdir(parents=True)
        path.touch()
    cfg = OmegaConf.create({"part": "test", "seen": "drop"})
    target = _results_folder(cfg, RunFolder(tmp_path), tmp_path / "best.ckpt")
    _robustness_folder(target)
    assert not any(path.exists() for path in left)


def test_a_clock_that_went_back_is_told(runs, caplog):
    create_run_folder(runs, "tim")
    assert not caplog.messages
    late = made(runs, "2999-01-01_00-00-00_tim", "cccccc4444", "finished")
    create_run_folder(runs, "tim")
    (told,) = caplog.messages
    assert f"{late.path} began later: `last` stays that one" in told


def test_a_run_that_was_killed_before_it_began_leaves_its_folder_to_the_next(runs):
    empty, half = (runs / f"2026-01-04_00-00-0{k}_tim" for k in range(2))
    kept = {path.name for path in runs.iterdir()} | {"notes", "2026-01-05_00-00-00_tim"}
    for path in (empty, half, runs / "notes", runs / "2026-01-05_00-00-00_tim"):
        path.mkdir()
    for name in ("config.yaml", "run.json.123.part"):
        (half / name).touch()
    (runs / "2026-01-05_00-00-00_tim" / "last.ckpt").touch()  # no run.json, and yet of use
    with pytest.raises(KeyboardInterrupt), begun(runs, "tim") as folder:
        assert {path.name for path in runs.iterdir()} == kept | {folder.path.name}
        raise KeyboardInterrupt
    assert {path.name for path in runs.iterdir()} == kept
    with begun(runs, "tim") as folder:
        folder.set_state(run_id="dddddd5555", status="running")
    assert folder.path.is_dir()
