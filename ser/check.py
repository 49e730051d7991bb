"""What lies in a corpus's folder against what was published: the report of `ser data check`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ser.corpora import CORPORA, find_corpora
from ser.corpora.base import Corpus, Published, Utterance
from ser.corpora.files import audio_files, on_one_line
from ser.corpora.folder import Folder
from ser.errors import SerError
from ser.labels import NATIVE, classes_of
from ser.manifest import KNOWN, long_note, survey, usable


@dataclass(frozen=True, slots=True)
class Count:
    """Clips of one emotion or speaker."""

    name: str
    found: int
    usable: int
    published: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One corpus, counted. `found` counts clips by name, whatever is wrong with their files."""

    corpus: str
    title: str
    licence: str
    root: Path
    clips: Count
    speakers: Count
    by_emotion: tuple[Count, ...]
    by_speaker: tuple[Count, ...]
    hours: float
    rates_hz: tuple[int, ...]
    n_mixed: int
    problems: tuple[tuple[Path, str], ...]
    n_unnamed: int
    """Problem files whose name or manifest row gives no clip, so that `clips` counts none."""
    n_copies: int
    """Problem files that are further files of clips, each counted once."""
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What may be said of the corpus, and no more: nothing is published of some."""
        n = self._n_surprising
        faults = [f"{n} problem file{'s' * (n > 1)}"] if n else []
        if not self._has_published_clips:
            faults.insert(0, "not as published")
        if faults:
            return ", ".join(faults)
        if self.clips.published:
            return "complete"
        return "only known faults" if self.problems else "no problem files"

    @property
    def _has_published_clips(self) -> bool:
        return self.clips.found == (self.clips.published or self.clips.found)

    @property
    def _n_surprising(self) -> int:
        return sum(not reason.startswith(KNOWN) for _, reason in self.problems)


def corpora_at(root: Path) -> list[Corpus]:
    """Open what lies at `root`: a data folder with one folder a corpus, or one corpus's folder.

    A single corpus is recognised by the names of its files. A file is a manifest of `folder`, and
    so is a folder most of whose files are no corpus's but lie as `folder` wants them. Raises
    SerError where nothing is recognised.
    """
    root = Path(root)
    if root.is_file():
        return [Folder(root)]
    if not root.is_dir():
        raise SerError(f"There is no folder {root.absolute()}: name one, or a manifest.")
    found = find_corpora(root)
    if found:
        return [CORPORA[name](folder) for name, folder in found.items()]
    paths = list(audio_files(root))
    corpora = [corpus(root) for corpus in CORPORA.values() if corpus.folders]
    read = [{path for path in paths if _reads(corpus, path)} for corpus in corpora]
    n_read = len(set().union(*read))
    if 2 * n_read <= len(paths) and _lies_as_folder(root, paths):
        return [Folder(root)]
    if not n_read:
        names = ", ".join(corpus.name for corpus in corpora)
        raise SerError(
            f"No corpus was recognised in {root.absolute()}: neither folders called like one "
            f"({names}) nor files named like one's ({len(paths)} audio files there). For speech of "
            "your own give a folder with one folder an emotion, or its manifest (docs/data.md)."
        )
    return [max(zip(corpora, read, strict=True), key=lambda pair: len(pair[1]))[0]]


def _reads(corpus: Corpus, path: Path) -> bool:
    return isinstance(corpus.read(path), Utterance)


def _lies_as_folder(root: Path, paths: Sequence[Path]) -> bool:
    """Whether there is a manifest, or most of the files lie in folders called by an emotion."""
    folder = Folder(root)
    if folder.manifest() is not None:
        return True
    return 2 * sum(_reads(folder, path) for path in paths) > len(paths)


def check_corpora(
    corpora: Sequence[Corpus], cache_folder: Path, *, progress: bool = True
) -> tuple[Report, ...]:
    """Decode every file of every corpus and count. Raises CorpusNotFoundError for an absent one."""
    table = survey(corpora, cache_folder, progress=progress)
    notes: tuple[str, ...] = table.attrs["notes"]
    return tuple(
        _report(
            corpus,
            table[table["corpus"] == corpus.name],
            tuple(note for note in notes if note.startswith(f"{corpus.name}: ")),
        )
        for corpus in corpora
    )


def render(report: Report) -> RenderableType:
    """Tables of one report, for a terminal."""
    problems = Text()
    for path, reason in report.problems:
        problems.append(f"  {on_one_line(str(path))}\n", style="bold")
        problems.append(f"    {reason}\n")
    head = (
        f"{report.title} in {report.root} ({report.licence})\n"
        f"{report.hours:.2f} h usable; {''.join(f'{rate} Hz, ' for rate in report.rates_hz)}"
        f"clips of several channels (mixed down): {report.n_mixed}"
    )
    return Group(
        Text(head),
        _table("emotion", (*report.by_emotion, report.clips, report.speakers)),
        _table("speaker", report.by_speaker),
        *(Text(note) for note in report.notes),
        Text(_problem_line(report)),
        problems,
        Text(f"{report.corpus}: {report.verdict}"),
    )


def _problem_line(report: Report) -> str:
    """How many files are left out, and which of them are in none of the counts above."""
    n = len(report.problems)
    said = f"{n} problem file{'s' * (n != 1)}, left out"
    apart = []
    if report.n_unnamed:
        apart.append(f"{report.n_unnamed} whose name or row gives no clip")
    if report.n_copies:
        apart.append(f"{report.n_copies} further files of clips")
    if apart:
        said += f" (not counted above: {', '.join(apart)})"
    return f"{said}:" if report.problems else said


def _report(corpus: Corpus, table: pd.DataFrame, notes: tuple[str, ...]) -> Report:
    understood = table["emotion"] != ""
    named = table[understood].drop_duplicates("id")
    good = usable(table)
    problems = table[table["problem"] != ""]
    published = corpus.published
    return Report(
        corpus=corpus.name,
        title=corpus.title,
        licence=corpus.licence,
        root=corpus.root,
        clips=Count("clips", len(named), len(good), published.clips if published else None),
        speakers=Count(
            "speakers",
            named["speaker"].nunique(),
            good["speaker"].nunique(),
            published.speakers if published else None,
        ),
        by_emotion=_by_emotion(named, good, published),
        by_speaker=tuple(
            Count(speaker, int((named["speaker"] == speaker).sum()), int(n))
            for speaker, n in _counts(good["speaker"], sorted(set(named["speaker"])))
        ),
        hours=float(good["duration_s"].sum()) / 3600,
        rates_hz=tuple(sorted({int(rate) for rate in good["sample_rate_hz"]})),
        n_mixed=int((good["channels"] > 1).sum()),
        problems=tuple(
            (Path(path), reason)
            for path, reason in zip(problems["path"], problems["problem"], strict=True)
        ),
        n_unnamed=int((~understood).sum()),
        n_copies=int(understood.sum()) - len(named),
        notes=(*notes, *long_note(good)),
    )


def _by_emotion(
    named: pd.DataFrame, good: pd.DataFrame, published: Published | None
) -> tuple[Count, ...]:
    expected = dict(published.by_emotion) if published else {}
    emotions = classes_of(NATIVE, {*named["emotion"], *expected})
    found = dict(_counts(named["emotion"], emotions))
    return tuple(
        Count(emotion, found[emotion], n, expected.get(emotion))
        for emotion, n in _counts(good["emotion"], emotions)
    )


def _counts(values: pd.Series, names: Sequence[str]) -> list[tuple[str, int]]:
    counts = values.value_counts()
    return [(name, int(counts.get(name, 0))) for name in names]


def _table(title: str, counts: Sequence[Count]) -> Table:
    table = Table(title, box=None)
    with_published = any(count.published is not None for count in counts)
    for heading in ("found", "usable", *(["published"] if with_published else [])):
        table.add_column(heading, justify="right")
    for count in counts:
        cells = [count.name, f"{count.found:,}", f"{count.usable:,}"]
        if with_published:
            cells.append("?" if count.published is None else f"{count.published:,}")
        off = count.published is not None and count.found != count.published
        table.add_row(*cells, style="yellow" if off else None)
    return table
