"""What lies in a corpus's folder against what was published: the report of `ser data check`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ser.corpora import CORPORA, find_corpora
from ser.corpora.base import Corpus, Published, Utterance, audio_files
from ser.errors import SerError
from ser.labels import NATIVE, classes_of
from ser.manifest import KNOWN, survey, usable


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
    n_stereo: int
    problems: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every published clip is there and nothing is wrong but the published faults."""
        surprising = [reason for _, reason in self.problems if not reason.startswith(KNOWN)]
        return self.clips.found == (self.clips.published or self.clips.found) and not surprising


def corpora_at(root: Path) -> list[Corpus]:
    """Open what lies at `root`: a data folder with one folder a corpus, or one corpus's folder.

    A single corpus is recognised by the names of its files. Raises SerError where nothing is.
    """
    root = Path(root)
    found = find_corpora(root)
    if found:
        return [CORPORA[name](folder) for name, folder in found.items()]
    paths = list(audio_files(root)) if root.is_dir() else []
    corpora = [corpus(root) for corpus in CORPORA.values() if corpus.folders]
    scores = [sum(isinstance(one.parse(path), Utterance) for path in paths) for one in corpora]
    if not any(scores):
        raise SerError(
            f"No corpus was recognised in {root.absolute()}: neither folders called like one "
            f"({', '.join(CORPORA)}) nor files named like one's ({len(paths)} audio files there)."
        )
    return [corpora[scores.index(max(scores))]]


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
        problems.append(f"  {path}\n", style="bold")
        problems.append(f"    {reason}\n")
    head = (
        f"{report.title} in {report.root} ({report.licence})\n"
        f"{report.hours:.2f} h usable; {', '.join(f'{rate} Hz' for rate in report.rates_hz)}; "
        f"{report.n_stereo} stereo clips (mixed down)"
    )
    verdict = "complete" if report.is_complete else "not as published, or with problem files"
    return Group(
        Text(head),
        _table("emotion", (*report.by_emotion, report.clips, report.speakers)),
        _table("speaker", report.by_speaker),
        *(Text(note) for note in report.notes),
        Text(f"{len(report.problems)} problem files, left out{':' if report.problems else ''}"),
        problems,
        Text(f"{report.corpus}: {verdict}"),
    )


def _report(corpus: Corpus, table: pd.DataFrame, notes: tuple[str, ...]) -> Report:
    named = table[table["emotion"] != ""].drop_duplicates("id")
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
        n_stereo=int((good["channels"] > 1).sum()),
        problems=tuple(
            (Path(path), reason)
            for path, reason in zip(problems["path"], problems["problem"], strict=True)
        ),
        notes=notes,
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
