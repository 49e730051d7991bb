"""How the parent of `train.py -m` stands in MLflow, whatever ends the program."""

import subprocess
import sys
from pathlib import Path

from ser.errors import INTERRUPTED, MISTAKE
from ser.tracking import Tracker

SCRIPT = """
import os, signal
from ser.config import command

@command("train")
def main(cfg):
    if cfg.seed == 2:
        raise RuntimeError("a bug")
    if cfg.seed in (9, 15):
        os.kill(os.getpid(), cfg.seed)
    return 0.5

main()
"""


def statuses(folder: Path, *words: str) -> tuple[int, list[str], bool]:
    """How a multirun ended, how another command sees all of this folder, the newest first.

    Then whether it said that the same command begins anew.
    """
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, folder / "script.py", "-m", *words, f"runs_root={folder}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    tracker = Tracker(folder, "ser", None)
    runs = tracker.client.search_runs([tracker._experiment_id()])
    told = "the same command begins all anew. `python sweep.py` with" in done.stdout
    return done.returncode, [run.info.status for run in runs], told


def test_the_parent_ends_as_the_program_did_or_as_killed_once_another_begins(tmp_path):
    assert statuses(tmp_path, "seed=0,9") == (-9, ["KILLED"], False)
    assert statuses(tmp_path, "seed=15,0") == (INTERRUPTED, ["KILLED", "KILLED"], True)
    assert statuses(tmp_path, "seed=2") == (1, ["FAILED", "KILLED", "KILLED"], True)
    assert not list(tmp_path.glob("run-*.lock"))


def test_a_parent_that_cannot_be_kept_ends_the_program_by_a_sentence(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "file").touch()
    command = [sys.executable, tmp_path / "script.py", "-m", "seed=0,1", "runs_root=file/runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == MISTAKE and done.stdout == ""
    assert done.stderr.startswith("\nerror: runs_root=file/runs: file/runs cannot be written (Not")
    assert done.stderr.count("\n") == 2
