"""Files over HTTP: resumed where they broke off, verified, and moved into place when whole."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ser.errors import SerError

if TYPE_CHECKING:
    import requests

_CHUNK_BYTES = 1 << 15
"""Bytes written at once; what has arrived of a chunk is lost if the connection breaks in it."""
_TIMEOUT_S = 60
"""Silence of the server after which a connection counts as broken."""

_log = logging.getLogger(__name__)

Advance = Callable[[int], None]
"""Told of bytes as they arrive; of negative ones where a file starts over."""


class DownloadError(SerError):
    """A file could not be fetched, or is not what its publisher says it is."""


class _BrokenOffError(Exception):
    """The connection ended early: what has arrived is kept, another attempt goes on from there."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to fetch. An empty checksum or size None is not known and not verified."""

    url: str
    path: Path
    size_bytes: int | None = None
    md5: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a broken connection is taken up again, and the first pause (it doubles)."""

    attempts: int = 5
    pause_s: float = 1.0


def fetch(remote: RemoteFile, *, retry: Retry, advance: Advance) -> None:
    """Fetch one file to `remote.path`, by way of `<path>.part`.

    A part left by an earlier run is continued if the server can (HTTP Range), else started over.
    Raises DownloadError when attempts run out or the disk is full (the part stays: the next call
    goes on from it), or for a wrong size or checksum (the part is deleted).
    """
    part = remote.path.with_name(remote.path.name + ".part")
    try:
        _fetch(remote, part, retry, advance)
    except OSError as error:  # of the disk: what the network raises has become a DownloadError
        raise DownloadError(
            f"{error.filename or part} cannot be written ({error.strerror}). Free space on its "
            "disk, or make its folder writable, and run the same command again: it goes on from "
            "what has arrived."
        ) from error


def _fetch(remote: RemoteFile, part: Path, retry: Retry, advance: Advance) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    advance(part.stat().st_size if part.exists() else 0)
    pause_s = retry.pause_s
    for attempt in range(1, retry.attempts + 1):
        try:
            _continue(remote, part, advance)
            break
        except _BrokenOffError as error:
            have = part.stat().st_size if part.exists() else 0
            if attempt == retry.attempts:
                raise DownloadError(
                    f"{remote.url} broke off {attempt} times ({error}). {have:,} bytes are kept: "
                    f"run the same command again to go on from there."
                ) from error
            _log.info("%s broke off after %d bytes (%s): again", remote.url, have, error)
            time.sleep(pause_s)
            pause_s *= 2
    _verify(remote, part)
    os.replace(part, remote.path)


def fetch_all(
    remotes: Sequence[RemoteFile], *, workers: int, retry: Retry, advance: Advance
) -> None:
    """Fetch files side by side; the first failure cancels those not yet begun."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(fetch, one, retry=retry, advance=advance) for one in remotes]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def fetch_json(url: str, *, retry: Retry) -> object:
    """Read a JSON answer. Raises DownloadError."""
    import requests

    for attempt in range(1, retry.attempts + 1):
        try:
            answer = requests.get(url, timeout=_TIMEOUT_S)
            answer.raise_for_status()
            body: object = answer.json()
            return body
        except requests.RequestException as error:
            if attempt == retry.attempts:
                raise DownloadError(f"{url} gave no list of files: {error}.") from error
            time.sleep(retry.pause_s)
    raise DownloadError(f"{url} was given no attempt.")


def matches(path: Path, *, md5: str = "", sha256: str = "") -> bool:
    """Whether a file has the checksums given (an empty one always agrees)."""
    pairs = [("md5", md5), ("sha256", sha256)]
    return all(_checksum(path, kind) == wanted for kind, wanted in pairs if wanted)


@contextmanager
def progress_bar(title: str, total: int | None, *, show: bool) -> Iterator[Advance]:
    """A bar over bytes on stderr; yields what to call as they arrive."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = not (show and console.is_terminal)
    with Progress(*columns, console=console, disable=hidden) as progress:
        task = progress.add_task(title, total=total)
        yield lambda n_bytes: progress.advance(task, n_bytes)


def _continue(remote: RemoteFile, part: Path, advance: Advance) -> None:
    """Ask for what the part lacks and append it; raise _BrokenOffError if it ends early."""
    import requests
    from requests.exceptions import ChunkedEncodingError

    have = part.stat().st_size if part.exists() else 0
    if have and have == remote.size_bytes:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(remote.url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                _refused_range(remote, part, have, answer.headers.get("Content-Range", ""), advance)
                return
            _check_status(answer, remote.url)
            continues = answer.status_code == requests.codes.partial_content
            if continues and not _starts_at(answer, have):
                raise _BrokenOffError("the server continued at another place")
            if have and not continues:
                advance(-have)
            with part.open("ab" if continues else "wb") as file:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
                    advance(len(chunk))
    except (requests.ConnectionError, requests.Timeout, ChunkedEncodingError) as error:
        raise _BrokenOffError(str(error)) from error
    except requests.RequestException as error:  # redirects without end, a body that is not its kind
        raise DownloadError(
            f"{remote.url} cannot be fetched: {error}. The address may have changed; "
            "docs/data.md says where each corpus is published."
        ) from error
    if remote.size_bytes is not None and part.stat().st_size < remote.size_bytes:
        raise _BrokenOffError("the answer was shorter than the file")


def _refused_range(
    remote: RemoteFile, part: Path, have: int, content_range: str, advance: Advance
) -> None:
    """The part is all there is (`bytes */N`), or is not of this file: then start over."""
    if content_range.rpartition("/")[2] == str(have):
        return
    part.unlink(missing_ok=True)
    advance(-have)
    raise _BrokenOffError(f"the server refused to continue {remote.path.name}")


def _starts_at(answer: "requests.Response", have: int) -> bool:
    return answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _check_status(answer: "requests.Response", url: str) -> None:
    """Raise _BrokenOffError for a busy server, DownloadError for an answer that will not change."""
    busy = answer.status_code == 429 or answer.status_code >= 500
    if busy:
        raise _BrokenOffError(f"status {answer.status_code} {answer.reason}")
    if not answer.ok:
        raise DownloadError(
            f"{url} answered {answer.status_code} {answer.reason}: the address may have changed; "
            f"docs/data.md says where each corpus is published."
        )


def _verify(remote: RemoteFile, part: Path) -> None:
    size = part.stat().st_size
    wrong_size = remote.size_bytes is not None and size != remote.size_bytes
    if not wrong_size and matches(part, md5=remote.md5, sha256=remote.sha256):
        return
    fault = f"{size:,} bytes instead of {remote.size_bytes:,}" if wrong_size else "a wrong checksum"
    part.unlink()
    raise DownloadError(
        f"{remote.url} gave a file with {fault}, so it is not the published one and was deleted. "
        f"Run the command again; if it happens twice, the publisher has changed the file."
    )


def _checksum(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
