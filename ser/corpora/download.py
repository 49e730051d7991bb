"""Fetch a corpus from its publisher into the data folder.

Whatever happens, `<data_root>/<name>` is either not there or whole: files are fetched and unpacked
beside it, under `<data_root>/.downloads/`, verified, and renamed into place at the end.
"""

import logging
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

from filelock import FileLock

from ser.corpora import corpus_class
from ser.corpora.base import how_to_get
from ser.corpora.files import AUDIO_SUFFIXES, audio_files
from ser.corpora.sources import Archive, Dataverse, GitLfs, Source
from ser.corpora.transfer import (
    DownloadError,
    RemoteFile,
    Retry,
    fetch,
    fetch_all,
    fetch_json,
    matches,
    progress_bar,
)
from ser.errors import SerError
from ser.probe import POINTER

_POINTER_MAX_BYTES = 1024
_SYMLINK_MODE = 0o120000

_Wanted = Callable[[str], bool]
"""Whether a member of a zip is unpacked, by its name."""

_log = logging.getLogger(__name__)


def download(
    name: str,
    data_root: Path,
    *,
    source: Source | None = None,
    workers: int = 8,
    retry: Retry | None = None,
    progress: bool = True,
) -> Path:
    """Fetch the corpus called `name` into `<data_root>/<name>` and return that folder.

    An interrupted download goes on where it stopped. A folder that is already there is left as it
    is, but for git-lfs pointers in it, which are replaced by their audio. `source` stands in for
    the corpus's own address (a mirror). Raises SerError for a corpus that only a person may fetch,
    DownloadError for a server that fails or a file that is not what was published.
    """
    corpus = corpus_class(name)
    source = source or corpus.source
    if source is None:
        raise SerError(f"{corpus.title} cannot be fetched by a program. {how_to_get(corpus)}")
    target = Path(data_root) / name
    work = Path(data_root) / ".downloads" / name
    work.mkdir(parents=True, exist_ok=True)
    how = _Fetcher(work, workers, retry or Retry(), progress)
    _log.info("%s: %s; licence: %s", corpus.title, corpus.url, corpus.licence)
    with FileLock(f"{work}.lock"):
        if target.is_dir() and any(target.iterdir()):
            how.complete(target, source)
        else:
            how.fetch(source, target)
        shutil.rmtree(work, ignore_errors=True)
    return target


class _Fetcher:
    """One download: where its unfinished files lie, and how hard it tries."""

    def __init__(self, work: Path, workers: int, retry: Retry, progress: bool) -> None:
        self.work, self.workers, self.retry, self.progress = work, workers, retry, progress

    def fetch(self, source: Source, target: Path) -> None:
        """Fetch, verify and unpack beside `target`, then rename."""
        if isinstance(source, GitLfs):
            whole = self._git_lfs(source)
        elif isinstance(source, Dataverse):
            whole = self._dataverse(source)
        else:
            whole = self._archive(source)
        os.replace(whole, target)
        _log.info("%s is complete", target)

    def complete(self, target: Path, source: Source) -> None:
        """Replace the git-lfs pointers of a folder that is there; refuse one without audio."""
        if next(audio_files(target), None) is None:
            raise SerError(
                f"{target} is there, but holds no audio. Move it away, then download again."
            )
        if isinstance(source, GitLfs):
            clips = self._pointed(target, source)
            _log.info("%s is there; %d git-lfs pointers to replace", target, len(clips))
            self._fetch_all("Fetching clips", clips)
        else:
            _log.info("%s is there: nothing to download (remove it to fetch it anew)", target)

    def _archive(self, source: Archive) -> Path:
        if not source.md5 and not source.sha256:
            _log.warning(
                "%s: its publisher gives no checksum, so only the zip's own are verified",
                source.url,
            )
        zip_path = self.work / "archive.zip"
        return self._unpacked(
            RemoteFile(source.url, zip_path, source.size_bytes, source.md5, source.sha256)
        )

    def _dataverse(self, source: Dataverse) -> Path:
        """The whole data set as one zip, then each file by its MD5; what fails is fetched alone.

        A Dataverse leaves files out of a zip that would become too large.
        """
        listed = _dataverse_files(source, self.retry)
        address = f"{source.base_url}/api/access/dataset/:persistentId/?persistentId={source.doi}"
        folder = self._unpacked(RemoteFile(address, self.work / "archive.zip"))
        found = {path.name: path for path in audio_files(folder)}
        placed = [replace(one, path=found.get(one.path.name, folder / one.path)) for one in listed]
        bad = [
            one for one in placed if not one.path.is_file() or not matches(one.path, md5=one.md5)
        ]
        _log.info("%d files listed, %d not as listed: fetching those alone", len(listed), len(bad))
        self._fetch_all("Fetching files", bad)
        return folder

    def _git_lfs(self, source: GitLfs) -> Path:
        """The repository's zip for the pointers, then each clip by its pointer.

        An interrupted download has only the clips that are still pointers left to fetch.
        """
        staged = self._unpacked(
            RemoteFile(source.zip_url, self.work / "archive.zip"), partial(_is_wanted, source)
        )
        self._fetch_all("Fetching clips", self._pointed(staged, source))
        inner = [path for path in staged.iterdir() if path.is_dir()]
        return inner[0] if len(inner) == 1 and inner[0].name != source.folder else staged

    def _pointed(self, folder: Path, source: GitLfs) -> list[RemoteFile]:
        """The clips under `folder` that are still pointers, with the pointers' checksums."""
        remotes = []
        for path in audio_files(folder):
            pointer = _read_pointer(path)
            if pointer is not None and path.suffix.lower() == ".wav":
                sha256, size_bytes = pointer
                url = f"{source.media_url}{source.folder}/{path.name}"
                remotes.append(RemoteFile(url, path, size_bytes, sha256=sha256))
        return remotes

    def _unpacked(self, remote: RemoteFile, wanted: _Wanted = lambda name: True) -> Path:
        """Fetch a zip and unpack it, unless an earlier run did; the folder stays in `work`."""
        folder = self.work / "unpacked"
        if folder.is_dir():
            return folder
        if not remote.path.is_file():
            with progress_bar("Downloading", remote.size_bytes, show=self.progress) as advance:
                fetch(remote, retry=self.retry, advance=advance)
        temporary = _unpack(remote.path, wanted)
        if next(audio_files(temporary), None) is None:
            raise DownloadError(
                f"{remote.url} gave a zip without audio: the address may have changed; "
                f"docs/data.md says where each corpus is published."
            )
        os.replace(temporary, folder)
        return folder

    def _fetch_all(self, title: str, remotes: Sequence[RemoteFile]) -> None:
        total = sum(remote.size_bytes or 0 for remote in remotes)
        with progress_bar(title, total or None, show=self.progress and bool(remotes)) as advance:
            fetch_all(remotes, workers=self.workers, retry=self.retry, advance=advance)


def _unpack(archive: Path, wanted: _Wanted) -> Path:
    """Unpack into a fresh folder beside the zip; a broken zip is deleted and leaves nothing."""
    folder = Path(tempfile.mkdtemp(dir=archive.parent, prefix="unpacking-"))
    folder.chmod(0o755)
    try:
        with zipfile.ZipFile(archive) as zip_file:
            for member in zip_file.infolist():
                _refuse_outside(member, archive)
            zip_file.extractall(folder, [one for one in zip_file.namelist() if wanted(one)])
    except (zipfile.BadZipFile, zlib.error, DownloadError) as error:
        archive.unlink()
        shutil.rmtree(folder)
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"What was downloaded cannot be unpacked ({error}) and was deleted: run the "
            f"command again. If it happens twice, the publisher's file has changed."
        ) from error
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DownloadError(f"{archive} cannot be unpacked: {error}.") from error
    return folder


def _refuse_outside(member: zipfile.ZipInfo, archive: Path) -> None:
    """Raise for a member that would be written outside the folder, or is a link."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    drive = len(path.parts) > 0 and path.parts[0].endswith(":")
    link = (member.external_attr >> 16) & 0o170000 == _SYMLINK_MODE
    if path.is_absolute() or drive or ".." in path.parts or link:
        raise DownloadError(
            f"{archive.name} holds {member.filename!r}, which would be written outside its folder: "
            f"this is not the published corpus. Nothing was unpacked and the file was deleted."
        )


def _is_wanted(source: GitLfs, name: str) -> bool:
    """Whether a file of a repository's zip (`<repository>-<branch>/...`) belongs to the corpus."""
    inside = PurePosixPath(name).parts[1:]
    return inside[:1] == (source.folder,) or "/".join(inside) in source.extra_files


def _read_pointer(path: Path) -> tuple[str, int] | None:
    """(sha256, size) of a git-lfs pointer; None for any other file."""
    if path.stat().st_size > _POINTER_MAX_BYTES:
        return None
    content = path.read_bytes()
    if not content.startswith(POINTER):
        return None
    lines = content.decode("ascii", errors="replace").splitlines()
    fields = dict(line.split(" ", 1) for line in lines if " " in line)
    try:
        return fields["oid"].removeprefix("sha256:"), int(fields["size"])
    except (KeyError, ValueError) as error:
        raise DownloadError(f"{path} is a git-lfs pointer without oid or size.") from error


def _dataverse_files(source: Dataverse, retry: Retry) -> list[RemoteFile]:
    """Every audio file of a data set with its MD5; paths are relative."""
    url = f"{source.base_url}/api/datasets/:persistentId/?persistentId={source.doi}"
    body = cast(dict[str, Any], fetch_json(url, retry=retry))
    try:
        files = [
            RemoteFile(
                url=f"{source.base_url}/api/access/datafile/{file['dataFile']['id']}",
                path=Path(file.get("directoryLabel", ""), file["dataFile"]["filename"]),
                md5=file["dataFile"]["md5"],
            )
            for file in body["data"]["latestVersion"]["files"]
        ]
    except (KeyError, TypeError) as error:
        raise DownloadError(f"{url} answered something else than a list of files.") from error
    return [file for file in files if file.path.suffix.lower() in AUDIO_SUFFIXES]
