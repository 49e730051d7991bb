"""Where a corpus can be fetched from, as data: `ser.corpora.download` does the fetching."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Archive:
    """One zip file. An empty checksum is unknown, and the download says so."""

    url: str
    size_bytes: int | None = None
    md5: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Dataverse:
    """A Dataverse data set: a zip of everything, and a list of files with their MD5 sums."""

    base_url: str
    doi: str


@dataclass(frozen=True, slots=True)
class GitLfs:
    """A repository whose audio is kept in git-lfs.

    The repository's own zip holds, in place of each clip, a pointer with its SHA-256 and size: the
    list of files and their checksums. Each clip then comes from the media address.
    """

    zip_url: str
    media_url: str
    """The address of the repository's root, with a slash at the end."""
    folder: str
    """The folder of clips inside the repository."""
    extra_files: tuple[str, ...] = ()
    """Ordinary files of the repository that are kept beside the clips."""


Source = Archive | Dataverse | GitLfs
