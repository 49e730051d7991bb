"""Files of checkpoints: from the Hugging Face hub's cache, and known by their hash."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ser.errors import SerError


def fetch(repo: str, revision: str, names: Sequence[str]) -> Path | None:
    """The first of these files that a hub repo has, in its commit's snapshot folder.

    The local cache is asked before the network, for all names.

    Returns:
        Its path, or None when the repo has none of them.

    Raises:
        OSError: none is in the cache and the hub cannot be asked, or knows no such repo.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for local_only in (True, False):
        for name in names:
            try:
                return Path(
                    hf_hub_download(repo, name, revision=revision, local_files_only=local_only)
                )
            except LocalEntryNotFoundError:  # not cached; the second time round: no network
                if not local_only:
                    raise
            except EntryNotFoundError:
                continue
            except ValueError as error:
                raise OSError(str(error)) from error
    return None


def read_json(path: Path) -> dict[str, Any]:
    """A checkpoint's settings; SerError where they are cut off or no JSON."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise SerError(f"{path} is damaged ({error}). Fetch the checkpoint again.") from error


def hash_files(paths: Sequence[Path]) -> str:
    """sha256 over the files' own sha256; a file is read again only when its size or time change."""
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        digest.update(_hash_file(path, stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _hash_file(path: Path, size: int, modified_ns: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
