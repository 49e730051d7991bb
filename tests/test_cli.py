"""The `ser` command, as a person or a pipe meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import synthetic
import torch
from omegaconf import OmegaConf

from ser.checkpoint import SafeCheckpointIO, load_checkpoint
from ser.cli import main
from ser.config import CONF
from ser.corpora import CORPORA
from ser.run_folder import RunFolder

CLASSES = ["happy", "sad", "angry"]
SHARES = torch.tensor([0.2, 0.7, 0.1])


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
    """A finished run of the chance model, with five test clips, three of them wrong."""
    folder = RunFolder(project / "mlruns" / "runs" / "2026-01-01_00-00-00_chance")
    folder.path.mkdir(parents=True)
    folder.config.write_text("seed: 0\n")
    folder.set_state(run_id="abcdef012345", status="finished")
    feature = OmegaConf.to_container(OmegaConf.load(CONF / "feature" / "mfcc.yaml"))
    model = {"name": "chance", "_target_": "ser.models.chance.Chance"}
    card = {"classes": CLASSES, "feature": feature, "model": model}
    weights = {"model.log_share": SHARES.log()}
    SafeCheckpointIO().save_checkpoint({"ser": card, "state_dict": weights}, folder.best)
    rows = [
        ("tess/a", "sad", "sad", 0.9), ("tess/b", "sad", "happy", 0.5),
        ("tess/c", "angry", "happy", 0.95), ("tess/d", "happy", "happy", 0.6),
        ("tess/e", "happy", "sad", 0.7),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["id", "truth", "prediction", "confidence"])
    table.assign(path="/data/" + table["id"] + ".wav").to_parquet(folder.predictions)
    return folder


def ser(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ser.cli import main; main()", *words]
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


@pytest.mark.parametrize("by", ["folder", "id", "checkpoint", "last"])
def test_predict_prints_a_line_for_each_file(capsys, project, run, by):
    named = {"folder": str(run.path), "id": "abcdef", "checkpoint": str(run.best), "last": "last"}
    files = sorted(map(str, (project / "data").rglob("*.wav")))[:2]
    main(["predict", named[by], *files])
    assert capsys.readouterr().out.splitlines() == [f"sad         0.70  {file}" for file in files]


def test_predict_as_json(capsys, project, run):
    file = str(next((project / "data").rglob("*.wav")))
    main(["predict", "--json", "last", file, file])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second and first["path"] == file and first["prediction"] == "sad"
    assert first["probability_happy"] == pytest.approx(0.2, abs=1e-6)


def recarded(run: RunFolder, **entries: float) -> None:
    checkpoint = load_checkpoint(run.best)
    checkpoint["ser"] |= entries
    SafeCheckpointIO().save_checkpoint(checkpoint, run.best)


def test_predict_abstains_where_the_model_is_too_little_sure(capsys, project, run):
    file = str(next((project / "data").rglob("*.wav")))
    recarded(run, temperature=1.0, abstain_below=0.75)
    main(["predict", "--abstain", "last", file])
    assert capsys.readouterr().out == f"uncertain   0.70  {file}\n"
    main(["predict", "last", file])
    assert capsys.readouterr().out == f"sad         0.70  {file}\n"
    recarded(run, abstain_below=0.65)
    main(["predict", "--abstain", "last", file])
    assert capsys.readouterr().out == f"sad         0.70  {file}\n"
    main(["predict", "--abstain", "--json", "last", file])
    answer = json.loads(capsys.readouterr().out)
    assert answer["uncertain"] is False and answer["prediction"] == "sad"


def test_predict_gives_calibrated_probabilities(capsys, project, run):
    file = str(next((project / "data").rglob("*.wav")))
    recarded(run, temperature=0.5)
    main(["predict", "--json", "last", file])
    squares = SHARES**2 / (SHARES**2).sum()
    answer = json.loads(capsys.readouterr().out)
    assert answer["probability_happy"] == pytest.approx(float(squares[0]), abs=1e-6)


def test_a_checkpoint_without_a_threshold_cannot_abstain(capsys, project, run):
    file = str(next((project / "data").rglob("*.wav")))
    assert "no abstention threshold" in mistake(capsys, "predict", "--abstain", "last", file)


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


def mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(words)
    told = capsys.readouterr()
    assert caught.value.code == 2 and told.out == ""
    return told.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("data check nowhere", "No corpus was recognised in "),
        ("data plot nowhere", "No corpus was recognised in "),
        ("data download iemocap", "There is no corpus 'iemocap'. Choose one of: "),
        ("predict none.ckpt a.wav", "none.ckpt: no such checkpoint"),
        ("predict data a.wav", "data is not a run folder"),
        ("predict last a.wav", "a.wav: there is no such file"),
        ("predict last --encoder-path x a.wav", "a.wav: there is no such file"),
        ("wrong nowhere", "nowhere: no run of that name"),
    ],
)
def test_a_mistake_is_one_paragraph_and_status_2(capsys, run, words, text):
    told = mistake(capsys, *words.split())
    assert told.startswith("error: ") and text in told
    assert told.count("\n") == 1 and told.endswith("\n")


def test_a_checkpoint_whose_weights_do_not_fit(capsys, run):
    checkpoint = torch.load(run.best, weights_only=True)
    checkpoint["ser"]["classes"] = ["happy", "sad"]
    torch.save(checkpoint, run.best)
    told = mistake(capsys, "predict", "last", "a.wav")
    assert "its weights do not fit the network that its card describes (chance, 2 classes)" in told


def test_a_run_that_has_not_scored_its_test_part(capsys, run):
    run.predictions.unlink()
    told = mistake(capsys, "wrong", str(run.path))
    assert "has no predictions.parquet" in told and f"train.py resume={run.path}" in told


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
