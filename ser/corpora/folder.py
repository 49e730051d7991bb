"""Your own speech: a CSV or JSONL manifest, or one folder an emotion."""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

from ser.corpora.base import Corpus, Listing, Problem, Utterance
from ser.corpora.files import AUDIO_SUFFIXES
from ser.errors import SerError
from ser.labels import canonical_emotion

_MANIFESTS = ("manifest.csv", "manifest.jsonl")
_REQUIRED = ("path", "emotion")
_YEARS = re.compile(r"(\d+)(?:\.0*)?")  # 31.0 is how pandas writes 31 beside an empty cell
_COLUMNS = (*_REQUIRED, "speaker", "sex", "age", "language", "intensity", "text")
_OTHER_COMMA = " Columns must be separated by commas, not by semicolons or tabs."
_SEXES = {
    **dict.fromkeys(("female", "f", "woman"), "female"),
    **dict.fromkeys(("male", "m", "man"), "male"),
}
UNKNOWN = "unknown"
"""The speaker of clips that have none, behind the corpus's name."""


class Folder(Corpus):
    """Any speech, described by its user in one of two ways.

    A manifest: `dataset.root` is a `.csv` (with a header) or `.jsonl` file, or a folder that holds
    `manifest.csv` or `manifest.jsonl`. Columns `path` (relative to the manifest, or absolute) and
    `emotion`; optionally `speaker`, `sex` (female or male), `age` (years), `language`,
    `intensity`, `text`. Or folders: `<root>/<emotion>/<clip>` or
    `<root>/<emotion>/<speaker>/<clip>`. Emotions are any words; those we know (fear, anger, ...)
    become canonical. Without a speaker all clips count as one unknown speaker, so that no split by
    speaker can part what may be one voice. Ids are `folder/<path>` with the file's suffix.
    """

    name = "folder"
    title = "Folder of speech"
    licence = "the user's own"
    citation = ""
    url = "docs/data.md"
    name_rule = "`<root>/<emotion>/<clip>` or `<root>/<emotion>/<speaker>/<clip>`"
    registration = (
        "Put clips into one folder an emotion, or write a manifest.csv with the columns path and "
        "emotion (docs/data.md)."
    )

    def list(self) -> Listing:
        """List the manifest if there is one, else the folders.

        Raises SerError for a manifest without its columns or that cannot be read.
        """
        manifest = self.manifest()
        if manifest is None:
            listing = super().list()
        else:
            parsed = list(self._parse_manifest(manifest))
            if not parsed:
                raise SerError(f"{manifest} has no rows: write one a clip.")
            listing = self.collect(parsed, _unread_columns(manifest))
        return _with_note(listing, f"{self.name}_{UNKNOWN}")

    @property
    def heading(self) -> str:
        """With the name of the folder or manifest: each is other speech."""
        root = self.root.resolve()
        return f"{self.title} {(root.parent if root.name in _MANIFESTS else root).name}"

    def parse(self, path: Path) -> Utterance | Problem | None:
        """Read emotion, and speaker if there is one, from the folders above the clip."""
        folders = path.relative_to(self.root).parts[:-1]
        if not 1 <= len(folders) <= 2:
            return self.unknown_name(path)
        row = dict(zip(("emotion", "speaker"), folders, strict=False))
        return self._utterance(path, self.root, row)

    def manifest(self) -> Path | None:
        """The manifest that `root` is or holds; None where folders tell the emotions.

        Raises SerError for another file, or two manifests.
        """
        if self.root.is_file():
            if self.root.suffix.lower() not in (".csv", ".jsonl"):
                raise SerError(
                    f"{self.root} is no manifest: it must be a .csv or .jsonl file. Or name the "
                    "folder that the clips lie in."
                )
            return self.root
        found = [self.root / name for name in _MANIFESTS if (self.root / name).is_file()]
        if len(found) > 1:
            raise SerError(f"{self.root} holds both {' and '.join(_MANIFESTS)}: keep one.")
        return found[0] if found else None

    def _parse_manifest(self, manifest: Path) -> Iterator[Utterance | Problem]:
        """One item a row; a path that is named twice with different emotions is a problem twice."""
        items: dict[Path, list[Utterance | Problem]] = {}
        for line, row in _read_rows(manifest):
            where = f"{manifest.name} line {line}"
            if not row["path"]:
                yield Problem(manifest, f"no path: {where} leaves it empty")
                continue
            path = manifest.parent / os.path.expanduser(row["path"])
            items.setdefault(path, []).append(self._parse_row(path, row, where, manifest.parent))
        for path, same in items.items():
            emotions = {item.emotion for item in same if isinstance(item, Utterance)}
            if len(emotions) > 1:
                listed = " and ".join(sorted(emotions))
                yield Problem(path, f"contradicting rows: {manifest.name} calls it {listed}")
            elif len(same) > 1:
                yield same[0]
                yield Problem(path, f"repeated row: {manifest.name} names it {len(same)} times")
            else:
                yield same[0]

    def _parse_row(
        self, path: Path, row: Mapping[str, str], where: str, base: Path
    ) -> Utterance | Problem:
        if not os.path.isfile(path):
            fix = " (folders are parted by /, not by \\)" if "\\" in row["path"] else ""
            return Problem(path, f"absent: {where} names a file that is not there{fix}")
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            kinds = ", ".join(AUDIO_SUFFIXES)
            return Problem(path, f"unknown format: {where} names a file that is none of {kinds}")
        if not row["emotion"]:
            return Problem(path, f"no emotion: {where} leaves it empty")
        if row.get("sex", "").lower() not in ("", *_SEXES):
            return Problem(path, f"unknown sex: {where} has {row['sex']!r}, not female or male")
        if row.get("age") and not _YEARS.fullmatch(row["age"]):
            return Problem(path, f"unknown age: {where} has {row['age']!r}, not whole years")
        return self._utterance(path, base, row)

    def _utterance(self, path: Path, base: Path, row: Mapping[str, str]) -> Utterance:
        inside = path.relative_to(base) if path.is_relative_to(base) else path
        age = _YEARS.fullmatch(row.get("age", ""))
        return Utterance(
            id=f"{self.name}/{inside.as_posix().lstrip('/')}",
            path=path,
            corpus=self.name,
            speaker=f"{self.name}_{row.get('speaker') or UNKNOWN}",
            emotion=canonical_emotion(row["emotion"]),
            sex=_SEXES.get(row.get("sex", "").lower()),
            age=int(age[1]) if age else None,
            language=row.get("language") or None,
            intensity=row.get("intensity") or None,
            text=row.get("text") or None,
        )


def _read_rows(manifest: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of a manifest; values are stripped text, absent ones empty."""
    read = _read_csv if manifest.suffix.lower() == ".csv" else _read_jsonl
    try:
        for line, row in read(manifest):
            missing = [column for column in _REQUIRED if column not in row]
            if missing:
                fix = _OTHER_COMMA if any(";" in key or "\t" in key for key in row) else ""
                raise SerError(
                    f"{manifest} line {line} has no {' and no '.join(missing)}: a manifest needs "
                    f"the columns {' and '.join(_REQUIRED)} (docs/data.md). It has "
                    f"{', '.join(map(repr, row))}.{fix}"
                )
            values = {key: _text(value) for key, value in row.items()}
            if any(values.values()):
                yield line, values
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise SerError(
            f"{manifest} cannot be read ({error}): it must be UTF-8 "
            f"{'CSV with a header' if read is _read_csv else 'with one JSON object a line'}."
        ) from error


def _unread_columns(manifest: Path) -> list[str]:
    """A note of the columns that mean nothing here, a misspelt one perhaps."""
    named = dict.fromkeys(key for _, row in _read_rows(manifest) for key in row)
    unread = [repr(key) for key in named if key not in _COLUMNS]
    told = f"folder: {manifest.name} has columns that are not read: {', '.join(unread)}"
    return [f"{told} (read are {', '.join(_COLUMNS)})"] if unread else []


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        twice = sorted({name for name in header if name and header.count(name) > 1})
        if twice:
            raise SerError(f"{path} has the column {twice[0]!r} twice: keep one.")
        for row in reader:
            if any(row[len(header) :]):
                raise SerError(
                    f"{path} line {reader.line_num} has {len(row)} cells, but the header names "
                    f"{len(header)}. Put quotes around a cell that holds a comma."
                )
            yield reader.line_num, dict(zip_longest(header, row[: len(header)]))


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            row = json.loads(text)
            if not isinstance(row, dict):
                raise SerError(f"{path} line {line} is no JSON object: write one a line.")
            yield line, row


def _with_note(listing: Listing, unknown: str) -> Listing:
    """Say so where clips have no speaker."""
    n_unknown = sum(clip.speaker == unknown for clip in listing.utterances)
    if not n_unknown:
        return listing
    note = f"folder: {n_unknown} clips have no speaker and count as one unknown speaker"
    return Listing(listing.utterances, listing.problems, (*listing.notes, note), listing.copies)
