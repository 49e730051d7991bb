"""The `ser` command, as a person or a pipe meets it."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import synthetic
from cli_runs import chance_run, mistake

from ser.cli import main
from ser.config import CONF
from ser.corpora import CORPORA
from ser.run_folder import RunFolder


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with one corpus under data/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SER_DATA", raising=False)
    monkeypatch.delenv("SER_CACHE", raising=False)
    synthetic.write_corpus("tess", tmp_path / "data" / "tess", speakers=1)
    return tmp_path


@pytest.fixture
def run(project) -> RunFolder:
    return chance_run(project)


def ser(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ser.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_every_command():
    done = ser("--help")
    assert done.returncode == 0 and done.stderr == ""
    for command in ("data list", "data download", "data check", "data plot", "predict", "wrong"):
        assert f"ser {command}" in done.stdout
    assert "train.py --help" in done.stdout


def test_the_command_starts_without_heavy_libraries():
    program = (
        "import sys, ser.cli; ser.cli.build_parser(); "
        "heavy = {'torch', 'pandas', 'matplotlib', 'mlflow', 'numpy', 'hydra'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_list_says_what_there_is_and_how_to_get_the_rest(capsys):
    main(["data", "list"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(CORPORA)
    where = {line.split()[0]: below for line, below in zip(lines[::2], lines[1::2], strict=True)}
    assert list(where) == sorted(CORPORA)
    assert where["tess"].strip() == "found in data/tess"
    assert "`ser data download ravdess`" in where["ravdess"]
    assert any("1,440 clips, 24 speakers" in line for line in lines)


def test_list_looks_where_the_variable_points(capsys, monkeypatch, project):
    monkeypatch.setenv("SER_DATA", str(project / "nowhere"))
    main(["data", "list"])
    assert "found in" not in capsys.readouterr().out


def test_check_counts(capsys, project):
    main(["data", "check", "data", "--cache", "kept"])
    out = capsys.readouterr().out
    assert "0 problem files" in out and "2,800" in out
    assert (project / "kept" / "manifests").is_dir() and not (project / "cache").exists()


def test_plot_prints_the_files_that_it_wrote(capsys, monkeypatch):
    asked = []

    def draw(root: Path, out: Path, cache: Path) -> list[Path]:
        asked.append((root, out, cache))
        return [out / "a.png", out / "b.png"]

    monkeypatch.setattr("ser.gallery.draw_gallery", draw)
    main(["data", "plot", "data"])
    assert capsys.readouterr().out == "figures/a.png\nfigures/b.png\n"
    assert asked == [(Path("data"), Path("figures"), Path("cache"))]


def test_download_prints_the_folder(capsys, monkeypatch):
    monkeypatch.setattr("ser.corpora.download.download", lambda name, root: root / name)
    main(["data", "download", "ravdess", "--root", "elsewhere"])
    assert capsys.readouterr().out == "elsewhere/ravdess\n"


def test_wrong_lists_mistakes_surest_first(capsys, run):
    main(["wrong", "last"])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["id", "truth", "prediction", "confidence", "path"]
    assert lines[1] == ["tess/c", "angry", "happy", "0.95", "/data/tess/c.wav"]
    assert [line[0] for line in lines[1:]] == ["tess/c", "tess/e", "tess/b"]


def test_a_reader_that_stops_early_is_no_error(run):
    rows = pd.read_parquet(run.predictions)
    pd.concat([rows] * 2000).to_parquet(run.predictions)
    program = "from ser.cli import main; main(['wrong', 'last'])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None and reader.stderr is not None
        assert reader.stdout.readline().startswith("id\t")
        reader.stdout.close()
        assert reader.stderr.read() == "" and reader.wait() == 0


@pytest.mark.parametrize("words", [["--help"], ["data", "list"], ["data", "plot", "--help"]])
def test_nobody_reading_at_all_is_no_error(words, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what is held back fails at the end only
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from ser.cli import main; main()", *words]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == "" and done.returncode == 0


def test_the_figures_folder_is_said_and_not_committed(capsys):
    with pytest.raises(SystemExit):
        main(["data", "plot", "--help"])
    assert "(./figures)" in capsys.readouterr().out
    assert "/figures/" in (CONF.parent / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("data check nowhere", "There is no folder "),
        ("data plot nowhere", "There is no folder "),
        ("data download iemocap", "There is no corpus 'iemocap'. Choose one of: "),
        ("predict none.ckpt a.wav", "none.ckpt: no such checkpoint"),
        ("predict data a.wav", "data is not a run folder"),
        ("predict last a.wav", "a.wav: there is no such file"),
        ("predict last --encoder-path x a.wav", "(chance) takes no encoder from a folder"),
        ("wrong nowhere", "nowhere: no run of that name"),
        ("explain last last --clip a.wav", "--clip asks one run about a recording: give one RUN"),
    ],
)
def test_a_mistake_is_one_paragraph_and_status_2(capsys, run, words, text):
    told = mistake(capsys, *words.split())
    assert told.startswith("error: ") and text in told
    assert told.count("\n") == 1 and told.endswith("\n")


def raising(error: BaseException) -> Callable[..., None]:
    def download(name: str, root: Path) -> None:
        raise error

    return download


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space", "kept/x.part"), "kept/x.part: no space is left on its"),
        (
            OSError(errno.ENOSPC, "No space"),
            " or what is printed: no space is left on its disk. Free some",
        ),
        (
            OSError(errno.ENOSPC, "No space", "here", None, "there"),
            "error: there: no space is left",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            " or what is printed:",
        ),
        (
            OSError(errno.EEXIST, "File exists", "kept"),
            "kept cannot be opened or written (a file, ",
        ),
        (OSError(errno.EROFS, "Read-only", "kept"), "kept cannot be opened or written (Read-only)"),
    ],
)
def test_a_disk_that_refuses_is_one_paragraph(capsys, monkeypatch, error, text):
    monkeypatch.setattr("ser.corpora.download.download", raising(error))
    told = mistake(capsys, "data", "download", "emodb")
    assert told.startswith("error: ") and text in told and told.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to stand for a full disk")
def test_a_full_disk_under_what_is_printed_is_one_paragraph():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "ser.cli", "data", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "or what is printed: no space is left on its disk" in done.stderr


def test_a_data_root_that_is_a_file(capsys, project):
    (project / "file").touch()
    told = mistake(capsys, "data", "download", "emodb", "--root", "file")
    assert told.startswith("error: file/") and "(Not a directory)" in told


def test_an_error_of_the_system_that_is_no_mistake_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("ser.corpora.download.download", raising(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        main(["data", "download", "emodb"])


def test_ctrl_c_is_one_line_and_status_130(capsys, monkeypatch):
    monkeypatch.setattr("ser.corpora.download.download", raising(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as caught:
        main(["data", "download", "emodb"])
    assert caught.value.code == 130 and capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("command", ["predict", "card"])
def test_a_run_that_was_cut_off_is_to_be_gone_on_with(capsys, run, command):
    run.best.unlink()
    files = ["a.wav"] if command == "predict" else []
    told = mistake(capsys, command, str(run.path), *files)
    assert "was cut off before its end" in told and f"python train.py resume={run.path}\n" in told


def test_a_run_that_has_not_scored_its_test_part(capsys, run):
    run.predictions.unlink()
    told = mistake(capsys, "wrong", str(run.path))
    assert "has no predictions.parquet" in told and f"train.py resume={run.path}" in told


def test_a_damaged_file_of_a_run_is_named(capsys, run):
    run.predictions.write_bytes(run.predictions.read_bytes()[:-9])
    told = mistake(capsys, "wrong", "last")
    assert "predictions.parquet cannot be read" in told and run.path.name in told
    run.config.write_text("")
    for command in ("card", "explain"):
        told = mistake(capsys, command, str(run.path))
        assert f"{run.config} is damaged or cut off: it lacks dataset, split" in told
    (run.path / "run.json").write_text("")
    told = mistake(capsys, "wrong", "last")
    assert told.endswith("no run under mlruns/runs has finished. Give a run folder or a run id.\n")


def test_last_where_nothing_has_finished(capsys, run):
    run.set_state(status="running")
    assert "no run under mlruns/runs has finished" in mistake(capsys, "wrong", "last")


@pytest.mark.parametrize("words", ["", "data", "fly", "data fly", "predict last", "wrong"])
def test_words_that_make_no_command(capsys, words):
    told = mistake(capsys, *words.split())
    assert told.startswith("usage: ser") and "Traceback" not in told


def test_no_traceback_reaches_the_terminal():
    done = ser("data", "check", "nowhere")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["wrong", "explain"])
@pytest.mark.parametrize("limit", ["-5", "0", "2.5", ""])
def test_a_number_of_clips_that_cannot_be_is_refused(capsys, command, limit):
    told = mistake(capsys, command, "last", "--limit", limit)
    assert f"--limit: {limit!r}: it must be a whole number of at least 1" in told


@pytest.mark.parametrize(
    "words",
    [
        ["data", "check", ""], ["data", "plot", "data", "--out", ""], ["predict", "last", ""],
        ["predict", "", "a.wav"], ["wrong", ""], ["explain", ""], ["explain", "last", "--clip", ""],
        ["card", ""], ["data", "download", "emodb", "--root", ""],
    ],
)  # fmt: skip
def test_an_empty_name_is_not_the_folder_that_one_is_in(capsys, words):
    assert "it is empty: is a variable of the shell not set?" in mistake(capsys, *words)
