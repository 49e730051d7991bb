"""Downloads from a server on this machine that breaks off, forgets Range and lies."""

import hashlib
import json
from pathlib import Path

import pytest
import synthetic
from serving import FAST, clips, get, zipped

from ser.corpora.download import download
from ser.corpora.sources import Archive, Dataverse
from ser.corpora.transfer import DownloadError, RemoteFile, fetch
from ser.errors import SerError


def test_archive(tmp_path, emodb, server):
    folder = get("emodb", tmp_path, emodb)
    assert folder == tmp_path / "data" / "emodb"
    assert clips(folder) == clips(tmp_path / "made")
    assert not list((tmp_path / "data" / ".downloads").glob("*/*"))
    get("emodb", tmp_path, emodb)
    assert len(server.requests) == 1  # what is there is not fetched again


def test_a_broken_connection_is_resumed(tmp_path, emodb, server):
    server.break_after["/emodb.zip"] = [70_000, 40_000]
    assert clips(get("emodb", tmp_path, emodb)) == clips(tmp_path / "made")
    assert [asked for _, asked in server.requests] == [None, "bytes=65536-", "bytes=98304-"]


def test_a_later_run_resumes_what_an_earlier_one_left(tmp_path, emodb, server):
    server.break_after["/emodb.zip"] = [40_000, 0, 0]
    with pytest.raises(DownloadError, match=r"broke off 3 times.*32,768 bytes are kept"):
        get("emodb", tmp_path, emodb)
    assert not (tmp_path / "data" / "emodb").exists()
    get("emodb", tmp_path, emodb)
    assert server.requests[-1][1] == "bytes=32768-"


def test_a_server_without_range_starts_over(tmp_path, emodb, server):
    server.ranges = False
    server.break_after["/emodb.zip"] = [5000]
    assert clips(get("emodb", tmp_path, emodb)) == clips(tmp_path / "made")


def test_a_busy_server_is_asked_again(tmp_path, emodb, server):
    server.busy = 2
    assert clips(get("emodb", tmp_path, emodb)) == clips(tmp_path / "made")


@pytest.mark.parametrize("size_known", [True, False])
def test_a_part_that_is_whole_or_too_long(size_known, tmp_path, emodb, server):
    source = emodb if size_known else Archive(emodb.url)
    content = server.files["/emodb.zip"]
    for extra in (b"", b"left by another file"):
        part = tmp_path / f"{len(extra)}" / "data/.downloads/emodb/archive.zip.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(content + extra)
        assert clips(get("emodb", tmp_path / f"{len(extra)}", source)) == clips(tmp_path / "made")


def test_a_wrong_checksum_or_size_is_refused(tmp_path, emodb):
    for wrong in (
        Archive(emodb.url, emodb.size_bytes, md5="0" * 32),
        Archive(emodb.url, sha256="0" * 64),
        Archive(emodb.url, emodb.size_bytes - 1),
    ):
        with pytest.raises(DownloadError, match=r"not the published one and was deleted"):
            get("emodb", tmp_path, wrong)
        assert not list((tmp_path / "data").rglob("*.part"))
        assert not (tmp_path / "data" / "emodb").exists()


def test_unknown_checksum_is_said(tmp_path, emodb, caplog):
    get("emodb", tmp_path, Archive(emodb.url))
    assert "gives no checksum" in caplog.text


@pytest.mark.parametrize("name", ["../escaped.wav", "/escaped.wav", "a/../../b.wav", "C:\\b.wav"])
def test_a_zip_that_reaches_outside_is_refused(name, tmp_path, server):
    server.files["/bad.zip"] = zipped(tmp_path / "none", {"wav/03a01Fa.wav": b"x", name: b"x"})
    with pytest.raises(DownloadError, match="outside its folder"):
        get("emodb", tmp_path, Archive(f"{server.url}/bad.zip"))
    assert not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"<html>moved</html>", "cannot be unpacked"), (None, "without audio")],
)
def test_a_zip_that_is_none_or_holds_no_audio(content, message, tmp_path, server):
    server.files["/bad.zip"] = content or zipped(tmp_path / "none", {"readme.txt": "hello"})
    with pytest.raises(DownloadError, match=message):
        get("emodb", tmp_path, Archive(f"{server.url}/bad.zip"))
    assert not (tmp_path / "data" / "emodb").exists()


def test_a_missing_address_and_a_closed_server(tmp_path, server):
    with pytest.raises(DownloadError, match="404"):
        get("emodb", tmp_path, Archive(f"{server.url}/gone.zip"))
    with pytest.raises(DownloadError, match="broke off 3 times"):
        get("emodb", tmp_path, Archive("http://127.0.0.1:9/closed.zip"))


@pytest.mark.parametrize("location", ["/emodb.zip", "gopher://elsewhere/emodb.zip"])
def test_redirects_that_lead_nowhere(location, tmp_path, emodb, server):
    server.redirects["/emodb.zip"] = location
    with pytest.raises(DownloadError, match=r"/emodb\.zip cannot be fetched: .*docs/data\.md"):
        get("emodb", tmp_path, emodb)


def test_a_body_that_is_not_what_its_header_says(tmp_path, emodb, server):
    server.encoding = "gzip"
    with pytest.raises(DownloadError, match=r"/emodb\.zip cannot be fetched: .*gzip"):
        get("emodb", tmp_path, emodb)
    server.encoding = ""
    assert clips(get("emodb", tmp_path, emodb)) == clips(tmp_path / "made")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to stand for a full disk")
def test_a_full_disk(tmp_path, emodb):
    part = tmp_path / "data/.downloads/emodb/archive.zip.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    full = r"archive\.zip\.part cannot be written \(No space left on device\)\. Free space"
    with pytest.raises(DownloadError, match=full):
        get("emodb", tmp_path, emodb)
    part.unlink()
    assert clips(get("emodb", tmp_path, emodb)) == clips(tmp_path / "made")


def test_a_file_that_may_not_be_written(tmp_path, emodb):
    (tmp_path / "data/.downloads/emodb/archive.zip.part").mkdir(parents=True)
    refused = r"archive\.zip\.part cannot be written \(Is a directory\)"
    with pytest.raises(DownloadError, match=refused):
        get("emodb", tmp_path, emodb)


def test_what_has_arrived_before_ctrl_c_is_gone_on_from(tmp_path, emodb, server):
    remote = RemoteFile(emodb.url, tmp_path / "archive.zip", emodb.size_bytes, emodb.md5)

    def interrupt(n_bytes):
        if n_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote, retry=FAST, advance=interrupt)
    fetch(remote, retry=FAST, advance=lambda _: None)
    assert server.requests[-1][1] == "bytes=32768-"


def test_a_folder_without_audio_is_not_overwritten(tmp_path, emodb):
    (tmp_path / "data" / "emodb").mkdir(parents=True)
    (tmp_path / "data" / "emodb" / "notes.txt").write_text("mine")
    with pytest.raises(SerError, match="Move it away"):
        get("emodb", tmp_path, emodb)


def test_savee_says_where_to_register(tmp_path):
    with pytest.raises(SerError, match=r"register at .*data/savee/"):
        download("savee", tmp_path)


@pytest.fixture
def tess(tmp_path, server):
    made = tmp_path / "made"
    synthetic.write_corpus("tess", made)
    listed = []
    for number, path in enumerate(sorted(made.rglob("*.wav"))):
        server.files[f"/api/access/datafile/{number}"] = path.read_bytes()
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        data_file = {"id": number, "filename": path.name, "md5": md5}
        listed.append({"directoryLabel": path.parent.name, "dataFile": data_file})
    listed.append({"dataFile": {"id": 99, "filename": "readme.txt", "md5": "0"}})
    body = {"data": {"latestVersion": {"files": listed}}}
    server.files["/api/datasets/:persistentId/?persistentId=doi:X"] = json.dumps(body).encode()
    server.files["/api/access/dataset/:persistentId/?persistentId=doi:X"] = zipped(made)
    return Dataverse(server.url, "doi:X")


def test_dataverse(tmp_path, tess, server):
    assert clips(get("tess", tmp_path, tess)) == clips(tmp_path / "made")
    assert len(server.requests) == 2


def test_dataverse_files_that_its_zip_lacks_or_spoils_are_fetched_alone(tmp_path, tess, server):
    paths = sorted((tmp_path / "made").rglob("*.wav"))
    originals = {path.name: path.read_bytes() for path in paths}
    paths[0].unlink()
    synthetic.truncate(paths[1])
    whole = "/api/access/dataset/:persistentId/?persistentId=doi:X"
    server.files[whole] = zipped(tmp_path / "made")
    folder = get("tess", tmp_path, tess)
    assert {path.name: path.read_bytes() for path in folder.rglob("*.wav")} == originals
    assert len(server.requests) == 4


def test_dataverse_without_a_list(tmp_path, server):
    address = "/api/datasets/:persistentId/?persistentId=doi:X"
    with pytest.raises(DownloadError, match="gave no list"):
        get("tess", tmp_path, Dataverse(server.url, "doi:X"))
    server.files[address] = b'{"status": "ERROR"}'
    with pytest.raises(DownloadError, match="something else than a list"):
        get("tess", tmp_path, Dataverse(server.url, "doi:X"))
