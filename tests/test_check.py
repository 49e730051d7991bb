from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
from rich.console import Console

from ser.check import check_corpora, corpora_at, render
from ser.corpora import CORPORA
from ser.errors import SerError
from ser.manifest import build_manifest


def check(name, root, cache):
    (report,) = check_corpora([CORPORA[name](root)], cache, progress=False)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(render(report))
        return report, console.export_text()


def test_counts_against_the_published_ones(tmp_path):
    paths = synthetic.write_corpus("ravdess", tmp_path / "r", speakers=2, takes=2)
    synthetic.write_pointer(paths[0])
    report, text = check("ravdess", tmp_path / "r", tmp_path / "cache")
    assert (report.clips.found, report.clips.usable, report.clips.published) == (32, 31, 1440)
    assert (report.speakers.found, report.speakers.published) == (2, 24)
    neutral = report.by_emotion[0]
    assert (neutral.name, neutral.found, neutral.usable, neutral.published) == ("neutral", 4, 3, 96)
    assert [(s.name, s.found, s.usable) for s in report.by_speaker] == [
        ("ravdess_01", 16, 15),
        ("ravdess_02", 16, 16),
    ]
    assert report.verdict == "not as published, 1 problem file"
    assert str(paths[0]) in text and "git lfs pull" in text and "1,440" in text


def test_all_pointers_are_reported_and_not_raised(tmp_path):
    paths = synthetic.write_corpus("crema_d", tmp_path / "r")
    for path in paths:
        synthetic.write_pointer(path)
    report, text = check("crema_d", tmp_path / "r", tmp_path / "cache")
    assert report.clips.usable == 0 and len(report.problems) == len(paths)
    assert text.count("git-lfs pointer") == len(paths)
    assert "\n0.00 h usable; clips of several channels (mixed down): 0\n" in text


def test_a_clip_of_minutes_is_told_of(tmp_path, caplog):
    paths = synthetic.write_corpus("folder", tmp_path / "r")
    long = np.tile(
        synthetic.tone("long"), 61 * synthetic.RATE_HZ // len(synthetic.tone("long")) + 1
    )
    synthetic.write_clip(paths[0], long)
    report, text = check("folder", tmp_path / "r", tmp_path / "cache")
    told = f"1 clip over 60 s (longest: {paths[0]}, {len(long) / synthetic.RATE_HZ:.0f} s)"
    assert told in report.notes[-1] and "1 clip over 60 s" in text
    build_manifest([CORPORA["folder"](tmp_path / "r")], tmp_path / "cache", progress=False)
    assert f"manifest: {told}" in caplog.text


def test_a_corpus_without_published_counts(tmp_path):
    synthetic.write_corpus("folder", tmp_path / "r")
    _, text = check("folder", tmp_path / "r", tmp_path / "cache")
    assert "published" not in text and "0 problem files" in text
    assert text.rstrip().endswith("folder: no problem files")
    synthetic.write_clip(tmp_path / "r" / "stray.wav", synthetic.tone("stray"))
    _, text = check("folder", tmp_path / "r", tmp_path / "cache")
    assert "published" not in text
    assert text.rstrip().endswith("folder: 1 problem file") and "\n1 problem file, left" in text


def test_the_verdict_tells_missing_clips_from_problem_files(tmp_path):
    paths = synthetic.write_corpus("emodb", tmp_path / "r")
    report, _ = check("emodb", tmp_path / "r", tmp_path / "cache")
    assert report.verdict == "not as published"
    synthetic.write_pointer(paths[0])
    report, _ = check("emodb", tmp_path / "r", tmp_path / "cache")
    assert report.verdict == "not as published, 1 problem file"
    whole = replace(report, clips=replace(report.clips, published=report.clips.found))
    assert whole.verdict == "1 problem file"
    known = (Path("a.wav"), "known fault: silent")
    assert replace(whole, problems=(known,)).verdict == "complete"
    mine = replace(whole.clips, published=None)
    assert replace(whole, problems=(known,), clips=mine).verdict == "only known faults"


def test_the_problem_line_says_which_files_are_in_no_count(tmp_path):
    paths = synthetic.write_corpus("emodb", tmp_path / "r", layout="twice")
    synthetic.write_pointer(next(path for path in paths if "again" in str(path)))
    synthetic.write_pointer(next(path for path in reversed(paths) if "again" not in str(path)))
    synthetic.write_clip(tmp_path / "r" / "stray.wav", synthetic.tone("stray"))
    report, text = check("emodb", tmp_path / "r", tmp_path / "cache")
    not_usable = report.clips.found - report.clips.usable
    assert len(report.problems) == not_usable + report.n_unnamed + report.n_copies
    assert "1 whose name or row gives no clip, " in text and "further files of clips):" in text
    assert "problem files, left out (not counted above: " in text


def test_corpora_at_a_data_folder_or_in_any_corpus_folder(tmp_path):
    synthetic.write_corpus("tess", tmp_path / "data" / "tess")
    synthetic.write_corpus("savee", tmp_path / "data" / "savee")
    synthetic.write_corpus("emodb", tmp_path / "whatever")
    assert [one.name for one in corpora_at(tmp_path / "data")] == ["savee", "tess"]
    assert [one.name for one in corpora_at(tmp_path / "data" / "tess")] == ["tess"]
    assert [one.name for one in corpora_at(tmp_path / "whatever")] == ["emodb"]
    with pytest.raises(SerError, match=r"There is no folder /.*nowhere: name one, or a manifest"):
        corpora_at(tmp_path / "nowhere")


def test_a_manifest_and_folders_of_emotions_are_checked_as_folder(tmp_path):
    root = tmp_path / "mine"
    synthetic.write_corpus("folder", root)
    assert [(one.name, one.root) for one in corpora_at(root)] == [("folder", root)]
    for name in ("list.csv", "list.jsonl"):
        (root / name).write_text("")
        assert [(one.name, one.root) for one in corpora_at(root / name)] == [
            ("folder", root / name)
        ]
    elsewhere = tmp_path / "list"
    elsewhere.mkdir()
    (elsewhere / "manifest.csv").write_text("path,emotion\n../mine/a.wav,sad\n")
    assert [one.name for one in corpora_at(elsewhere)] == ["folder"]


def test_a_corpus_that_reads_most_files_is_not_checked_as_folder(tmp_path):
    paths = synthetic.write_corpus("emodb", tmp_path / "x")
    for number in range(len(paths) - 1):
        synthetic.write_clip(tmp_path / "x" / "sad" / f"{number}.wav", synthetic.tone("a"))
    assert [one.name for one in corpora_at(tmp_path / "x")] == ["emodb"]
    synthetic.write_clip(tmp_path / "x" / "sad" / "one.wav", synthetic.tone("a"))
    assert [one.name for one in corpora_at(tmp_path / "x")] == ["folder"]


def test_speech_and_song_in_one_folder_are_no_folder_of_emotions(tmp_path):
    synthetic.write_corpus("ravdess", tmp_path / "x")
    synthetic.write_corpus("ravdess_song", tmp_path / "x", takes=3)
    assert [one.name for one in corpora_at(tmp_path / "x")] == ["ravdess_song"]


def test_the_error_names_the_corpora_that_a_folder_may_be_called_after(tmp_path):
    synthetic.write_clip(tmp_path / "x" / "stray.wav", synthetic.tone("stray"))
    with pytest.raises(SerError, match="1 audio files there") as caught:
        corpora_at(tmp_path / "x")
    called = str(caught.value).partition("(")[2].partition(")")[0].split(", ")
    assert called == [name for name, corpus in CORPORA.items() if corpus.folders]
    assert "folder" not in called and "one folder an emotion" in str(caught.value)
    with pytest.raises(SerError, match=r"must be a \.csv or \.jsonl file\. Or name the fold"):
        check_corpora(corpora_at(tmp_path / "x" / "stray.wav"), tmp_path / "cache")


def test_an_adapter_that_fails_on_a_name_is_a_clear_error(tmp_path, monkeypatch):
    class Hasty(CORPORA["emodb"]):
        name = "hasty"

        def parse(self, path):
            return {"a": None}[path.stem]

    monkeypatch.setitem(CORPORA, "hasty", Hasty)
    synthetic.write_corpus("tess", tmp_path / "x")
    with pytest.raises(SerError, match=r"Hasty \(.*could not read its name: KeyError: 'OAF_back"):
        corpora_at(tmp_path / "x")
