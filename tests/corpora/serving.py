"""A server on this machine that breaks off, forgets Range and lies; and corpora on it."""

import hashlib
import io
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import synthetic

from ser.corpora.download import download
from ser.corpora.sources import Archive
from ser.corpora.transfer import Retry

FAST = Retry(attempts=3, pause_s=0.0)


@dataclass
class Server:
    """Files by path (with the query), and the ways in which it misbehaves."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    break_after: dict[str, list[int]] = field(default_factory=dict)  # bytes sent, one a request
    busy: int = 0
    redirects: dict[str, str] = field(default_factory=dict)
    encoding: str = ""
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
            elif self.path in state.redirects:
                self.send_response(302)
                self.send_header("Location", state.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
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
            if state.encoding:
                self.send_header("Content-Encoding", state.encoding)
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
