import json
from pathlib import Path

import pytest
import synthetic

from ser.corpora.folder import Folder
from ser.errors import SerError


def write_csv(root, text):
    (root / "manifest.csv").write_text(text, encoding="utf-8")
    return root


def test_one_folder_an_emotion_with_and_without_speakers(tmp_path):
    synthetic.write_clip(tmp_path / "Fear" / "one.wav", synthetic.tone("1"))
    synthetic.write_clip(tmp_path / "joy" / "ann" / "two.wav", synthetic.tone("2"))
    synthetic.write_clip(tmp_path / "stray.wav", synthetic.tone("3"))
    listing = Folder(tmp_path).list()
    assert [(c.id, c.emotion, c.speaker) for c in listing.utterances] == [
        ("folder/Fear/one.wav", "fearful", "folder_unknown"),
        ("folder/joy/ann/two.wav", "happy", "folder_ann"),
    ]
    assert [problem.path.name for problem in listing.problems] == ["stray.wav"]
    assert "1 clips have no speaker" in listing.notes[0]


def test_csv_manifest(tmp_path):
    synthetic.write_clip(tmp_path / "x" / "a.wav", synthetic.tone("a"))
    outside = synthetic.write_clip(tmp_path / "b.wav", synthetic.tone("b"))
    root = write_csv(
        tmp_path / "x",
        "\ufeffpath,emotion,speaker,sex,age,language,intensity,text,more\n"
        f"a.wav, Anger ,ann,F,31.0,de,strong,Hallo,ignored\n{outside},awe,,,,,,\n",
    )
    a, b = sorted(Folder(root).list().utterances, key=lambda clip: clip.path.name)
    assert (a.id, a.speaker, a.emotion, a.sex, a.age) == (
        "folder/a.wav",
        "folder_ann",
        "angry",
        "female",
        31,
    )
    assert (a.language, a.intensity, a.text) == ("de", "strong", "Hallo")
    assert (b.emotion, b.speaker, b.sex, b.age) == ("awe", "folder_unknown", None, None)


def test_columns_that_mean_nothing_are_named(tmp_path):
    synthetic.write_clip(tmp_path / "a.wav", synthetic.tone("a"))
    write_csv(tmp_path, "path,emotion,speeker,take\na.wav,sad,ann,1\n")
    notes = Folder(tmp_path).list().notes
    assert notes[0].startswith(
        "folder: manifest.csv has columns that are not read: 'speeker', 'take'"
    )
    assert "speaker" in notes[0] and "1 clips have no speaker" in notes[1]


def test_jsonl_manifest_given_as_the_root(tmp_path):
    synthetic.write_clip(tmp_path / "a.flac", synthetic.tone("a"))
    manifest = tmp_path / "mine.jsonl"
    row = {"path": "a.flac", "emotion": "sad", "speaker": 7, "age": 40, "sex": None}
    manifest.write_text(json.dumps(row) + "\n\n")
    (clip,) = Folder(manifest).list().utterances
    assert (clip.speaker, clip.age, clip.sex, clip.emotion) == ("folder_7", 40, None, "sad")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("gone.wav,sad,,", "absent: manifest.csv line 2"),
        ("notes.txt,sad,,", "unknown format"),
        ("a.wav,,,", "no emotion"),
        ("a.wav", "no emotion"),
        (",sad,,", "no path: manifest.csv line 2"),
        (
            r"x\a.wav,sad,,",
            "absent: manifest.csv line 2 names a file that is not there (folders are",
        ),
        ("a.wav,sad,martian,", "unknown sex"),
        ("a.wav,sad,,old", "unknown age"),
        ("a.wav,sad,,31.5", "unknown age"),
        ("a.wav,sad,,\na.wav,happy,,", "contradicting rows: manifest.csv calls it happy and sad"),
    ],
)
def test_a_bad_row_is_a_problem(row, reason, tmp_path):
    synthetic.write_clip(tmp_path / "a.wav", synthetic.tone("a"))
    (tmp_path / "notes.txt").write_text("no audio")
    root = write_csv(tmp_path, f"path,emotion,sex,age\n{row}\n")
    listing = Folder(root).list()
    assert not listing.utterances
    assert listing.problems[0].reason.startswith(reason)


@pytest.mark.parametrize("name", ["clips.csv", "manifest.jsonl", ""])
def test_the_heading_has_the_name_of_the_folder_or_manifest(name, tmp_path, monkeypatch):
    (tmp_path / "calls").mkdir()
    monkeypatch.chdir(tmp_path / "calls")
    shown = name if name == "clips.csv" else "calls"
    assert Folder(Path(name)).heading == f"Folder of speech {shown}"


def test_spaces_in_the_header_and_empty_cells_beyond_it_mean_nothing(tmp_path):
    synthetic.write_clip(tmp_path / "a.wav", synthetic.tone("a"))
    root = write_csv(tmp_path, "path, emotion , speaker\na.wav, sad, ann,,\n,,,,\n")
    (clip,) = Folder(root).list().utterances
    assert (clip.emotion, clip.speaker) == ("sad", "folder_ann")


def test_speakers_that_are_written_alike_are_named(tmp_path):
    rows = ["path,emotion,speaker"]
    for number, speaker in enumerate(("1", "01", "1.0", "Ann", "ann", "10", "0", "00")):
        synthetic.write_clip(tmp_path / f"{number}.wav", synthetic.tone(speaker))
        rows.append(f"{number}.wav,sad,{speaker}")
    notes = Folder(write_csv(tmp_path, "\n".join(rows))).list().notes
    assert [note.partition(" count as")[0] for note in notes] == [
        "folder: folder_01 and folder_1 and folder_1.0",
        "folder: folder_Ann and folder_ann",
        "folder: folder_0 and folder_00",
    ]


def test_a_path_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    clip = synthetic.write_clip(tmp_path / "home" / "a.wav", synthetic.tone("a"))
    (found,) = Folder(write_csv(tmp_path, "path,emotion\n~/a.wav,sad\n")).list().utterances
    assert found.path == clip


def test_a_path_that_is_too_long_is_absent(tmp_path):
    (problem,) = Folder(write_csv(tmp_path, f"path,emotion\n{'a' * 300}.wav,sad\n")).list().problems
    assert problem.reason.startswith("absent: manifest.csv line 2")


def test_a_repeated_row_counts_once(tmp_path):
    synthetic.write_clip(tmp_path / "a.wav", synthetic.tone("a"))
    listing = Folder(write_csv(tmp_path, "path,emotion\na.wav,sad\na.wav,sad\n")).list()
    assert len(listing.utterances) == 1
    assert listing.problems[0].reason.startswith("repeated row")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("manifest.csv", "file,emotion\na.wav,sad\n", "has no path"),
        ("manifest.csv", "file,emotion\na.wav,sad\n", r"It has 'file', 'emotion'\.$"),
        ("manifest.csv", "path;emotion\na.wav;sad\n", "must be separated by commas"),
        ("manifest.csv", "path\temotion\na.wav\tsad\n", "must be separated by commas"),
        ("manifest.csv", "path,emotion\n", "has no rows"),
        ("manifest.csv", "path,emotion\n,\n\n", "has no rows"),
        ("manifest.csv", "path,emotion,emotion\na.wav,sad,1\n", "the column 'emotion' twice"),
        (
            "manifest.csv",
            "path,emotion\na,b.wav,sad\n",
            "line 2 has 3 cells, but the header names 2",
        ),
        ("manifest.jsonl", '{"path": "a.wav"}\n', "line 1 has no emotion"),
        ("manifest.jsonl", "[1]\n", "no JSON object"),
        ("manifest.jsonl", "{nonsense\n", "one JSON object a line"),
    ],
)
def test_a_bad_manifest_is_an_error(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(SerError, match=message):
        Folder(tmp_path).list()


def test_two_manifests_or_another_file_are_errors(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,emotion\n")
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(SerError, match="keep one"):
        Folder(tmp_path).list()
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(SerError, match=r"\.csv or \.jsonl"):
        Folder(tmp_path / "list.txt").list()
