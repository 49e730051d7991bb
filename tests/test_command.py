"""How a script ends on a user's mistake: one paragraph, status 2; all else keeps its traceback."""

import errno
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ser.config import CONF
from ser.errors import INTERRUPTED

SCRIPT = """
import logging, os, signal, time
from pathlib import Path
from ser.config import command, given_overrides
from ser.errors import SerError

@command("train")
def main(cfg):
    if cfg.seed == 17:
        logging.getLogger("ser").info("without a print")
    print("seed", cfg.seed, given_overrides()[-1], flush=True)
    if cfg.seed == 1:
        raise SerError("seed 1 is\\n   cursed")
    if cfg.seed == 2:
        return cfg.dataset.root
    if cfg.seed == 7:
        return cfg.dataset.labels
    if cfg.seed == 3:
        raise RuntimeError("(sqlite3.OperationalError) database or disk is full")
    if cfg.seed in (28, 13):
        raise OSError(cfg.seed, "of the system", "/best.ckpt")
    if cfg.seed in (4, 6):
        root = cfg.cache_root if cfg.seed == 4 else f"{cfg.cache_root}_of_others"
        raise PermissionError(13, "of the system", f"{root}/features")
    if cfg.seed == 18:
        Path(cfg.cache_root).mkdir(parents=True)
    if cfg.seed == 5:
        from mlflow import MlflowClient
        MlflowClient(cfg.logger.uri or "folder").search_experiments()
    if cfg.seed == 15:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            print("told MLflow")
    if cfg.seed == 16:
        class Late:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
        Late()
        try:
            time.sleep(30)
        finally:
            print("told MLflow")
    if cfg.seed in (8, 9):
        from ser.run import tracker_of
        tracker_of(cfg).client.get_run("0" * 32)
    return 0.5

main()
"""


def run_script(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), *words, f"runs_root={folder}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_mistake_ends_a_script_with_one_paragraph_and_status_2(tmp_path):
    done = run_script(tmp_path, "seed=1")
    assert done.returncode == 2 and done.stderr.strip() == "error: seed 1 is cursed"
    assert done.stdout == f"seed 1 runs_root={tmp_path}\n"
    done = run_script(tmp_path, "seed=2", "dataset=folder")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("\nerror: dataset.root has no default and was not given: add")
    done = run_script(tmp_path, "seed=7", "~dataset.labels")
    assert done.returncode == 2 and done.stderr == (
        "\nerror: dataset.labels is missing: the file of conf/dataset/ that was chosen must set "
        "it, as its neighbours do. Add the line, or give it: +dataset.labels=…\n"
    )
    assert run_script(tmp_path, "seed=0").returncode == 0


def test_a_full_disk_is_named_and_other_errors_of_the_system_are_not_hidden(tmp_path):
    for seed, at in ((errno.ENOSPC, "/best.ckpt"), (3, tmp_path)):
        done = run_script(tmp_path, f"seed={seed}")
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert done.stderr.startswith(f"\nerror: {at}")
        assert ": no space is left on its disk" in done.stderr
        assert (f"{tempfile.gettempdir()} or what is printed" in done.stderr) is (seed == 3)
    done = run_script(tmp_path, f"seed={errno.EACCES}")
    assert done.returncode == 1 and "of the system: '/best.ckpt'" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to stand for a full disk")
@pytest.mark.parametrize("word", ["--help", "seed=0", "seed=17"])
def test_a_full_disk_under_what_is_printed_is_told(tmp_path, word):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(script), word, f"runs_root={tmp_path}"]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("\nerror: ") and "Traceback" not in done.stderr
    assert "no space is left" in done.stderr and done.stderr.count("\n") == 2


def test_a_folder_that_cannot_be_written_and_a_store_that_mlflow_refuses_are_named(tmp_path):
    cache = tmp_path.parent / "cache"
    done = run_script(tmp_path, "seed=4", f"cache_root={cache}")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(
        f"\nerror: cache_root={cache}: {cache}/features cannot be written"
    )
    assert run_script(tmp_path, "seed=6", f"cache_root={cache}").returncode == 1
    (link := tmp_path / "link").symlink_to(tmp_path / "nowhere")
    done = run_script(tmp_path, "seed=18", f"cache_root={link}/cache")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{link} cannot be written (a file, or a link to what is not there," in done.stderr
    done = run_script(tmp_path, "seed=5", "logger.uri=folder")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("\nerror: logger.uri=folder: MLflow cannot work with it (")
    assert run_script(tmp_path, "seed=5").returncode == 1  # not the user's choice: not hidden


@pytest.mark.parametrize("where", ["seed=15", "seed=16"], ids=["code", "destructor"])
def test_a_request_to_end_is_heard_as_ctrl_c_is(tmp_path, where):
    done = run_script(tmp_path, where)
    assert done.returncode == INTERRUPTED and "Traceback" not in done.stderr
    assert done.stdout.endswith("told MLflow\n")


def test_a_database_that_is_damaged_or_another_is_named(tmp_path):
    database = tmp_path / "mlflow.db"
    done = run_script(tmp_path, "seed=8")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(
        f"\nerror: {database}: MLflow cannot work with it (Run with id=00"
    )
    database.write_bytes(b"garbage" * 1000)
    done = run_script(tmp_path, "seed=9")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "file is not a database). If another program holds it, wait" in done.stderr


@pytest.mark.parametrize(
    ("word", "named"),
    [("dataset=3", "3"), ("dataset=null", "null"), ("dataset=[3]", "3"), ("dataset=[[a]]", "a")],
)
def test_what_cannot_name_an_option_of_a_group_is_refused(tmp_path, word, named):
    done = run_script(tmp_path, word)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"\nerror: {word}: ") and named in done.stderr
    assert "names no option of dataset. Give a name, as dataset=NAME" in done.stderr
    assert run_script(tmp_path, "experiment=[demo,tim_others]", "dataset=demo").returncode == 0


def test_a_file_of_conf_that_is_no_yaml_is_named_with_its_line(tmp_path):
    conf = shutil.copytree(CONF, tmp_path / "conf")
    (conf / "model" / "mine.yaml").write_text("name: mine\nlayers: [\n")
    script = tmp_path / "script.py"
    script.write_text(
        f"import ser.config\nser.config.CONF = ser.config.Path({str(conf)!r})\n{SCRIPT}"
    )
    command = [sys.executable, str(script), "model=mine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"\nerror: {conf}/model/mine.yaml, line 3: this is no YAML (")


def test_a_multirun_does_the_other_jobs_first(tmp_path):
    done = run_script(tmp_path, "-m", "seed=1,0", "~hydra.callbacks.multirun")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "seed 1" in done.stdout and "seed 0" in done.stdout
    assert done.stderr.count("error: seed 1 is cursed") == 1
