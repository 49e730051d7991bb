"""CREMA-D: a zip of git-lfs pointers, and the audio behind each."""

import hashlib

import pytest
import synthetic
from serving import get, zipped

from ser.corpora.sources import GitLfs
from ser.corpora.transfer import DownloadError


@pytest.fixture
def crema_d(tmp_path, server):
    made = tmp_path / "made" / "CREMA-D-master"
    for path in synthetic.write_corpus("crema_d", made, speakers=1):
        content = path.read_bytes()
        server.files[f"/media/AudioWAV/{path.name}"] = content
        synthetic.write_pointer(path, hashlib.sha256(content).hexdigest(), len(content))
        synthetic.write_pointer(made / "AudioMP3" / f"{path.stem}.mp3")
    server.files["/master.zip"] = zipped(tmp_path / "made")
    return GitLfs(
        f"{server.url}/master.zip", f"{server.url}/media/", "AudioWAV",
        extra_files=("VideoDemographics.csv",),
    )  # fmt: skip


def contents(folder):
    return {f"/media/AudioWAV/{path.name}": path.read_bytes() for path in folder.rglob("*.wav")}


def test_git_lfs(tmp_path, crema_d, server):
    folder = get("crema_d", tmp_path, crema_d, workers=2)
    assert sorted(path.name for path in folder.iterdir()) == ["AudioWAV", "VideoDemographics.csv"]
    assert contents(folder).items() <= server.files.items() and len(contents(folder)) == 6


def test_git_lfs_goes_on_with_the_clips_that_are_still_pointers(tmp_path, crema_d, server):
    last = "/media/AudioWAV/1001_TIE_SAD_XX.wav"
    lost = server.files.pop(last)
    with pytest.raises(DownloadError, match="404"):
        get("crema_d", tmp_path, crema_d, workers=1)
    assert not (tmp_path / "data" / "crema_d").exists()
    server.files[last] = lost
    before = len(server.requests)
    get("crema_d", tmp_path, crema_d, workers=1)
    assert [path for path, _ in server.requests[before:]] == [last]


def test_git_lfs_pointers_in_a_plain_clone_are_replaced(tmp_path, crema_d, server):
    clone = tmp_path / "data" / "crema_d"
    clone.parent.mkdir()
    (tmp_path / "made" / "CREMA-D-master").rename(clone)
    get("crema_d", tmp_path, crema_d)
    assert contents(clone).items() <= server.files.items()
    assert all(path != "/master.zip" for path, _ in server.requests)


def test_a_clip_that_is_not_what_its_pointer_says_is_refused(tmp_path, crema_d, server):
    name = "/media/AudioWAV/1001_TIE_SAD_XX.wav"
    server.files[name] = bytes(len(server.files[name]))
    with pytest.raises(DownloadError, match="wrong checksum"):
        get("crema_d", tmp_path, crema_d)


def test_a_pointer_without_oid(tmp_path, crema_d):
    pointer = tmp_path / "data" / "crema_d" / "1001_TIE_SAD_XX.wav"
    pointer.parent.mkdir(parents=True)
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DownloadError, match="without oid or size"):
        get("crema_d", tmp_path, crema_d)
