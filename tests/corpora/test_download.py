"""Downloads from a server on this machine that breaks off, forgets Range and lies."""

import hashlib
import io
import json
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import synthetic

from ser.corpora.download import download
from ser.corpora.sources import Archive, Dataverse, GitLfs
from ser.corpora.transfer import DownloadError, Retry
from ser.errors import SerError

FAST = Retry(attempts=3, pause_s=0.0)


@dataclass
class Server:
    """Files by path (with the query), and the ways in which it misbehaves."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    break_after: dict[str, list[int]] = field(default_factory=dict)  # bytes sent, one a request
    busy: int = 0
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server():
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            state.requests.append((self.path, asked))
            content = state.files.get(self.path)
            if state.busy:
                state.busy -= 1
                self.send_error(503)
            elif content is None:
                self.send_error(404)
            else:
                self.answer(content, asked if state.ranges else None)

        def answer(self, content, asked):
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            if asked and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if asked else 200)
            if asked:
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            breaks = state.break_after.get(self.path)
            self.wfile.write(body[: breaks.pop(0)] if breaks else body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def zipped(root, names=None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(root))
        for name, content in (names or {}).items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def emodb(tmp_path, server):
    synthetic.write_corpus("emodb", tmp_path / "made")
    content = zipped(tmp_path / "made")
    server.files["/emodb.zip"] = content
    return Archive(
        f"{server.url}/emodb.zip",
        len(content),
        hashlib.md5(content).hexdigest(),
        hashlib.sha256(content).hexdigest(),
    )


def get(name, root, source, **options):
    return download(name, root / "data", source=source, retry=FAST, progress=False, **options)


def clips(folder):
    return sorted(path.name for path in folder.rglob("*.wav"))


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
