"""`ser predict`: answers on stdout, everything else on stderr."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch
from cli_runs import SHARES, chance_run, mistake, recarded

from ser.audio import Waveform
from ser.cli import main
from ser.probe import read_audio
from ser.run_folder import RunFolder


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with one corpus under data/."""
    monkeypatch.chdir(tmp_path)
    synthetic.write_corpus("tess", tmp_path / "data" / "tess", speakers=1)
    return tmp_path


@pytest.fixture
def run(project) -> RunFolder:
    return chance_run(project)


@pytest.mark.parametrize("by", ["folder", "id", "checkpoint", "last"])
def test_predict_prints_a_line_for_each_file(capsys, project, run, by):
    named = {"folder": str(run.path), "id": "abcdef", "checkpoint": str(run.best), "last": "last"}
    files = sorted(map(str, (project / "data").rglob("*.wav")))[:2]
    main(["predict", named[by], *files])
    assert capsys.readouterr().out.splitlines() == [f"sad         0.70  {file}" for file in files]


def test_predict_takes_a_folder(capsys, project, run):
    folder = project / "data" / "tess"
    files = sorted(map(str, folder.rglob("*.wav")))
    (folder / "notes.txt").touch()
    main(["predict", "last", str(folder), files[0]])
    told = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert told == [*files, files[0]] and len(files) > 5


@pytest.mark.parametrize("how", [[], ["--json"], ["--abstain"]])
def test_predict_answers_for_the_good_files_and_names_the_bad_ones(capsys, project, run, how):
    recarded(run, abstain_below=0.5)
    good = sorted(map(str, (project / "data").rglob("*.wav")))[:2]
    (project / "text.wav").write_text("not audio")
    (project / "empty").mkdir()
    main(["predict", *how, "last", *good])
    expected = capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["predict", *how, "last", "none.wav", good[0], "text.wav", good[1], "empty"])
    told = capsys.readouterr()
    assert caught.value.code == 2 and told.out == expected.out and told.out.count("\n") == 2
    lines = [line.split(":")[:2] for line in sorted(told.err.splitlines())]
    assert lines == [["error", f" {name}"] for name in ("empty", "none.wav", "text.wav")]


def test_predict_as_json_of_bad_files_alone_says_nothing(capsys, run):
    assert "none.wav: there is no such file" in mistake(
        capsys, "predict", "--json", "last", "none.wav"
    )


def test_predict_warns_once_of_a_model_of_synthetic_speech(capsys, project, run):
    file = str(next((project / "data").rglob("*.wav")))
    main(["predict", "--json", "last", file, file])
    plain = capsys.readouterr()
    recarded(run, synthetic=True)
    main(["predict", "--json", "last", file, file])
    told = capsys.readouterr()
    assert plain.err == "" and told.out == plain.out
    assert told.err.startswith("warning: this model was trained on SYNTHETIC SPEECH")
    assert told.err.count("\n") == 1


def test_predict_as_json(capsys, project, run):
    file = str(next((project / "data").rglob("*.wav")))
    main(["predict", "--json", "last", file, file])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second and first["path"] == file and first["prediction"] == "sad"
    assert first["probability_happy"] == pytest.approx(0.2, abs=1e-6)


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


def test_predict_abstains_below_a_confidence_of_ones_own(capsys, project, run):
    file = str(next((project / "data").rglob("*.wav")))
    for below, said in ((0.75, "uncertain"), (0.65, "sad")):  # of a checkpoint without a threshold
        main(["predict", "--below", str(below), "last", file])
        assert capsys.readouterr().out == f"{said:<12}0.70  {file}\n"
    recarded(run, abstain_below=0.65)
    main(["predict", "last", file, "--abstain", "--below", "0.75"])
    assert capsys.readouterr().out == f"uncertain   0.70  {file}\n"


@pytest.mark.parametrize("below", ["0", "-0.1", "70", "nan"])
def test_a_threshold_that_is_no_confidence_is_refused(capsys, project, run, below):
    file = str(next((project / "data").rglob("*.wav")))
    assert "a confidence lies above 0" in mistake(
        capsys, "predict", "last", file, f"--below={below}"
    )


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


def test_a_checkpoint_whose_weights_do_not_fit(capsys, run):
    checkpoint = torch.load(run.best, weights_only=True)
    checkpoint["ser"]["classes"] = ["happy", "sad"]
    torch.save(checkpoint, run.best)
    told = mistake(capsys, "predict", "last", "a.wav")
    assert "its weights do not fit the network that its card describes (chance, 2 classes)" in told


def test_an_answer_is_out_before_the_next_file_is_read(capsys, project, run, monkeypatch):
    files = sorted(map(str, (project / "data").rglob("*.wav")))[:2]
    first = []

    def read(path: Path) -> tuple[Waveform, int]:
        if str(path) == files[1]:
            first.append(capsys.readouterr().out)
            raise KeyboardInterrupt
        return read_audio(path)

    monkeypatch.setattr("ser.predict.read_audio", read)
    with pytest.raises(SystemExit):
        main(["predict", "last", *files])
    assert first == [f"sad         0.70  {files[0]}\n"]


def test_every_name_takes_one_line(capsys, project, run):
    clip = next((project / "data").rglob("*.wav"))
    names = {"a b.wav": "a b.wav", "a\nb.wav": r"a\nb.wav", "\x1b[31m.wav": r"\x1b[31m.wav",
             "\u202eb.wav": r"\u202eb.wav", "\u65e5\u00f1.wav": "\u65e5\u00f1.wav"}  # fmt: skip
    for name in names:
        (project / name).hardlink_to(clip)
    main(["predict", "last", *names])
    shown = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert shown == list(names.values())
    main(["predict", "--json", "last", *names])
    assert [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()] == [*names]


def test_a_stdout_that_cannot_write_a_name_escapes_it(project, run, monkeypatch):
    (project / "\u65e5.wav").hardlink_to(next((project / "data").rglob("*.wav")))
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stdout)
    main(["predict", "last", "\u65e5.wav"])
    assert stdout.buffer.getvalue() == b"sad         0.70  \\u65e5.wav\n"


def test_what_is_passed_over_in_a_folder_is_told(capsys, project, run):
    clip = next((project / "data").rglob("*.wav"))
    folder = project / "calls"
    (folder / "inner").mkdir(parents=True)
    for name in ("a.wav", "inner/b.AIFF", ".hidden.wav", "._a.wav"):
        (folder / name).hardlink_to(clip)
    for name in ("1.txt", "2.doc", "3\n.pdf", ".DS_Store"):
        (folder / name).touch()
    (folder / "inner" / "back").symlink_to(folder)
    main(["predict", "last", "calls"])
    told = capsys.readouterr()
    shown = [line.split("  ")[-1] for line in told.out.splitlines()]
    assert shown == ["calls/a.wav", "calls/inner/b.AIFF"]
    assert told.err == (
        "passed over in calls, 4 that are no audio by their names or are links back to a folder "
        r"above: back, 1.txt, 2.doc, ..." + "\n"
    )


def test_what_cannot_be_read_in_a_folder_is_an_error(capsys, project, run, monkeypatch):
    folder = project / "calls"
    (folder / "locked").mkdir(parents=True)
    (folder / "gone.wav").symlink_to("nowhere")
    (folder / os.fsdecode(b"\xe9.wav")).touch()
    listed = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry]:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    clip = str(next((project / "data").rglob("*.wav")))
    with pytest.raises(SystemExit):
        main(["predict", "last", "calls", "x" * 300, clip])
    told = capsys.readouterr()
    assert told.out == f"sad         0.70  {clip}\n"
    locked, name, gone, long = told.err.splitlines()
    assert locked.startswith("error: calls/locked: cannot be listed (Permission denied); make")
    assert name.endswith(".wav: its name is not UTF-8: rename it.")
    assert gone.startswith("error: calls/gone.wav: a link to nowhere, which does not exist")
    assert "xxx: cannot be opened (File name too long)" in long


def test_recordings_in_a_folder_that_must_be_converted_first_are_an_error(capsys, project, run):
    folder = project / "calls"
    folder.mkdir()
    (folder / "a.wav").hardlink_to(next((project / "data").rglob("*.wav")))
    for name in ("b.m4a", "c.AAC", "d.webm", "e.m4a"):
        (folder / name).touch()
    with pytest.raises(SystemExit):
        main(["predict", "last", "calls"])
    told = capsys.readouterr()
    assert told.out == "sad         0.70  calls/a.wav\n"
    assert told.err == (
        "error: calls: left out 4 of a kind that is not decoded here; convert to WAV or FLAC with "
        "ffmpeg: b.m4a, c.AAC, d.webm, ...\n"
    )


def test_predict_answers_each_utterance(capsys, project, run):
    clip, rate_hz = read_audio(next((project / "data").rglob("*.wav")))
    rest = np.zeros((rate_hz, clip.shape[1]), np.float32)
    file = synthetic.write_clip(project / "call.wav", np.concatenate([clip, rest, clip]), rate_hz)
    main(["predict", "last", str(file), "--utterances"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("sad         0.70     0.00 to ") and first.endswith(f" s  {file}")
    main(["predict", "last", str(file), "--utterances", "--json"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answers[0]["begin_s"] == 0 and answers[1]["begin_s"] > answers[0]["end_s"]
    assert second.startswith(f"sad         0.70  {answers[1]['begin_s']:7.2f} to ")
