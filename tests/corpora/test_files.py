import os

import pytest
import synthetic

from ser.check import corpora_at
from ser.corpora import CORPORA
from ser.corpora.files import audio_files
from ser.corpora.folder import Folder
from ser.errors import SerError
from ser.manifest import build_manifest


@pytest.fixture
def disks(tmp_path):
    """A corpus's folder on one disk and recordings on another."""
    for name in ("here/sad/ann/1.wav", "disk/ann/2.wav", "disk/bob/3.wav"):
        synthetic.write_clip(tmp_path / name, synthetic.tone(name))
    return tmp_path


def listed(folder):
    back = []
    found = [str(path.relative_to(folder)) for path in audio_files(folder, pass_over=back.append)]
    return found, [str(path.relative_to(folder)) for path in back]


def test_linked_folders_are_entered(disks):
    (disks / "here" / "happy").symlink_to(disks / "disk")
    assert listed(disks / "here") == (
        ["happy/ann/2.wav", "happy/bob/3.wav", "sad/ann/1.wav"],
        [],
    )
    clips = Folder(disks / "here").list().utterances
    assert {(clip.emotion, clip.speaker) for clip in clips} == {
        ("happy", "folder_ann"),
        ("happy", "folder_bob"),
        ("sad", "folder_ann"),
    }


def test_a_corpus_whose_clips_all_lie_behind_a_link_is_found(tmp_path):
    synthetic.write_corpus("emodb", tmp_path / "disk")
    (tmp_path / "data" / "emodb").mkdir(parents=True)
    (tmp_path / "data" / "emodb" / "wav").symlink_to(tmp_path / "disk" / "wav")
    (corpus,) = corpora_at(tmp_path / "data")
    assert len(corpus.list().utterances) == len(
        CORPORA["emodb"](tmp_path / "disk").list().utterances
    )


@pytest.mark.parametrize(
    ("link", "target"), [("here/sad/up", "here"), ("here/self", "here"), ("here/out", ".")]
)
def test_a_link_to_a_folder_that_it_lies_in_is_not_entered(link, target, disks):
    (disks / link).symlink_to(disks / target)
    assert listed(disks / "here") == (["sad/ann/1.wav"], [link.removeprefix("here/")])


def test_links_that_lead_back_by_way_of_others_end(disks):
    (disks / "here" / "x").symlink_to(disks / "disk" / "ann")
    (disks / "disk" / "ann" / "y").symlink_to(disks / "here", target_is_directory=True)
    (disks / "disk" / "ann" / "z").symlink_to("../bob")
    (disks / "disk" / "bob" / "w").symlink_to("../ann")
    found, back = listed(disks / "here")
    assert found == ["sad/ann/1.wav", "x/2.wav", "x/z/3.wav"]
    assert sorted(back) == ["x/y", "x/z/w"]


def test_a_link_as_the_folder_itself_is_entered(disks):
    (disks / "link").symlink_to(disks / "here")
    (disks / "here" / "sad" / "back").symlink_to(disks / "link")
    assert listed(disks / "link") == (["sad/ann/1.wav"], ["sad/back"])


def test_names_that_are_not_utf_8_and_locked_folders_are_problems(tmp_path, caplog, monkeypatch):
    """They were a line of their own: in no count, and strict=true did not mind them."""
    synthetic.write_corpus("emodb", tmp_path)
    corpus = CORPORA["emodb"](tmp_path)
    bad, locked = tmp_path / os.fsdecode(b"caf\xe9.wav"), tmp_path / "locked"
    bad.touch()
    locked.mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    table = build_manifest([corpus], tmp_path / "cache")
    problems = table.loc[table["problem"] != "", ["path", "problem"]]
    assert dict(problems.itertuples(index=False)) == {
        f"{tmp_path}/caf\\udce9.wav": "unreadable: its name is not UTF-8: rename it",
        str(locked): "unreadable: cannot be listed (Permission denied); make it readable, or leave "
        "it out",
    }
    assert "manifest: 2 problem files left out" in caplog.text
    with pytest.raises(SerError, match=r"2 files of emodb .*not UTF-8.*cannot be listed"):
        build_manifest([corpus], tmp_path / "cache", strict=True)


def test_a_line_feed_in_a_name_stays_on_its_line(tmp_path, caplog):
    synthetic.write_corpus("emodb", tmp_path)
    corpus = CORPORA["emodb"](tmp_path)
    (tmp_path / "a\nb.wav").touch()
    build_manifest([corpus], tmp_path / "cache")
    assert r"a\nb.wav" in caplog.text and "a\nb.wav" not in caplog.text
