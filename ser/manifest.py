"""The manifest: one row a clip, with what the corpus says, what the file holds, and any problem.

Every file is decoded once. What was found is kept in one Parquet file a cache folder, keyed by
path, size and modification time, so that a second call reads no audio.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ser.corpora.base import Corpus, Listing, Problem, Utterance
from ser.corpora.files import on_one_line
from ser.errors import SerError
from ser.probe import Probe
from ser.probe_cache import ProbeCache

COLUMNS = (
    "id",
    "path",
    "corpus",
    "speaker",
    "sex",
    "age",
    "language",
    "emotion",
    "intensity",
    "text",
    "duration_s",
    "sample_rate_hz",
    "channels",
    "sha256",
    "rms_db",
    "problem",
)
"""`problem` is empty for a usable clip. `sha256` is of the decoded samples, shape and rate."""

KNOWN = "known fault: "
"""How a problem begins that the corpus was published with; `strict` does not mind those."""

LONG_S = 60
"""Far longer than any clip of the corpora: an utterance lasts seconds."""

_TYPES = {
    **dict.fromkeys(COLUMNS, "str"),
    "age": "Int64",
    "duration_s": "float64",
    "sample_rate_hz": "int64",
    "channels": "int64",
    "rms_db": "float64",
}
_SHOWN = 3
"""Files of a kind of problem named in an error; `ser data check` lists all."""

_log = logging.getLogger(__name__)


def build_manifest(
    corpora: Sequence[Corpus], cache_folder: Path, *, strict: bool = False, progress: bool = True
) -> pd.DataFrame:
    """Survey the corpora, log what is left out, and refuse what cannot be worked with.

    Raises CorpusNotFoundError for an absent corpus, SerError if no clip is usable, or with `strict`
    if any file has a problem that the corpus was not published with.
    """
    table = survey(corpora, cache_folder, progress=progress)
    _report(table, corpora, strict=strict)
    return table


def survey(corpora: Sequence[Corpus], cache_folder: Path, *, progress: bool = True) -> pd.DataFrame:
    """List the corpora, decode what has not been decoded before, and judge every file.

    Returns one row a file, sorted by id, usable or not; notes are in `attrs["notes"]`. Of clips
    with the same samples and label the first by id is usable; with different labels none is,
    unless the corpus's `known_twins` says which one is right. Raises CorpusNotFoundError for an
    absent corpus.
    """
    started = time.monotonic()
    listings = _list(corpora)
    clips = [clip for listing in listings for clip in _to_decode(listing)]
    cache = ProbeCache(cache_folder)
    probes, decoded = cache.probe([clip.path for clip in clips], progress=progress)
    rows: list[dict[str, object]] = []
    for corpus, listing in zip(corpora, listings, strict=True):
        rows += _rows(corpus, listing, probes)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(_TYPES)
    table = table.sort_values(["id", "path"], ignore_index=True)
    _mark_duplicates(table, corpora)
    table.attrs["notes"] = tuple(note for listing in listings for note in listing.notes)
    seconds = time.monotonic() - started
    _log.info(
        "manifest: %d files, %d decoded and %d from the cache, in %.1f s",
        len(clips),
        decoded,
        len(clips) - decoded,
        seconds,
    )
    return table


def usable(manifest: pd.DataFrame) -> pd.DataFrame:
    """The clips without a problem, with a fresh index."""
    return manifest[manifest["problem"] == ""].reset_index(drop=True)


def left_out(manifest: pd.DataFrame) -> tuple[str, ...]:
    """`emodb: 3 problem files left out (truncated 1, unreadable 2)` of each corpus with any."""
    problems = manifest[manifest["problem"] != ""]
    told = []
    for corpus, reasons in problems.groupby("corpus")["problem"]:
        kinds = reasons.str.partition(":")[0].value_counts().sort_index()
        counts = ", ".join(f"{kind} {n}" for kind, n in kinds.items())
        told.append(
            f"{corpus}: {len(reasons)} problem file{'s' * (len(reasons) > 1)} left out ({counts})"
        )
    return tuple(told)


def long_note(clips: pd.DataFrame) -> tuple[str, ...]:
    """What is to be said of the usable clips that last over a minute; nothing where none does."""
    long = clips[clips["duration_s"] > LONG_S].sort_values("duration_s", ascending=False)
    if long.empty:
        return ()
    first = f"{long['path'].iloc[0]}, {long['duration_s'].iloc[0]:.0f} s"
    return (
        f"{len(long)} clip{'s' * (len(long) > 1)} over {LONG_S} s (longest: {first}): each counts "
        "as one clip with one label, and takes memory by its length: cut it into utterances",
    )


def fingerprint(manifest: pd.DataFrame) -> str:
    """Hash of the usable clips: id, speaker, emotion and samples, wherever the files lie.

    Two runs used the same speech and labels if and only if their fingerprints agree.
    """
    columns = ["id", "speaker", "emotion", "sha256"]
    rows = usable(manifest).sort_values("id")[columns].itertuples(index=False, name=None)
    digest = hashlib.sha256()
    for row in rows:
        digest.update(("\t".join(row) + "\n").encode())
    return digest.hexdigest()[:16]


def _list(corpora: Sequence[Corpus]) -> list[Listing]:
    names = [corpus.name for corpus in corpora]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SerError(f"A manifest takes each corpus once, but {', '.join(twice)} came twice.")
    listings = [corpus.list() for corpus in corpora]
    for corpus, listing in zip(corpora, listings, strict=True):
        _log.info("%s: %d clips in %s", corpus.name, len(listing.utterances), corpus.root)
        for note in listing.notes:
            _log.info("%s", note)
    return listings


def _to_decode(listing: Listing) -> Iterator[Utterance]:
    """The clips and their copies, but for copies in another format, whose samples may differ."""
    suffixes = {clip.id: clip.path.suffix.lower() for clip in listing.utterances}
    yield from listing.utterances
    for copy in listing.copies:
        if copy.path.suffix.lower() == suffixes[copy.id]:
            yield copy


def _rows(
    corpus: Corpus, listing: Listing, probes: dict[Path, Probe]
) -> Iterator[dict[str, object]]:
    """One row a clip and one a problem file; copies that hold the same samples give none."""
    copies: dict[str, list[Utterance]] = {}
    for copy in listing.copies:
        copies.setdefault(copy.id, []).append(copy)
    for clip in listing.utterances:
        candidates = [clip, *(copy for copy in copies.get(clip.id, ()) if copy.path in probes)]
        kept = next((one for one in candidates if not probes[one.path].problem), clip)
        reason = corpus.known_faults.get(clip.id)
        yield _row(kept, probes[kept.path], KNOWN + reason if reason else "")
        for copy in candidates:
            why = _copy_problem(kept, copy, probes)
            if why:
                yield _row(copy, probes[copy.path], why)
    for problem in listing.problems:
        yield _problem_row(corpus.name, problem)


def _row(clip: Utterance, probe: Probe, problem: str = "") -> dict[str, object]:
    row = {**asdict(clip), **asdict(probe), "path": str(clip.path)}
    return {**row, "problem": problem or probe.problem}


def _copy_problem(kept: Utterance, copy: Utterance, probes: dict[Path, Probe]) -> str:
    """Why a further file of the same clip is more than a copy; empty if it is only that."""
    if copy is kept:
        return ""
    probe = probes[copy.path]
    if probe.problem or probe.sha256 == probes[kept.path].sha256:
        return probe.problem
    return f"another recording under the same name: {kept.path} was kept, whose samples differ"


def _problem_row(corpus: str, problem: Problem) -> dict[str, object]:
    row: dict[str, object] = {**dict.fromkeys(COLUMNS), **asdict(Probe()), "corpus": corpus}
    row.update(id=f"{corpus}/{problem.path.stem}", path=str(problem.path), problem=problem.reason)
    return {**row, "speaker": "", "emotion": ""}


def _mark_duplicates(table: pd.DataFrame, corpora: Sequence[Corpus]) -> None:
    """Write the problem of clips whose samples another clip has too, in place."""
    twins = {twin: kept for corpus in corpora for twin, kept in corpus.known_twins.items()}
    clips = table[table["problem"] == ""]
    for _, group in clips[clips.duplicated("sha256", keep=False)].groupby("sha256"):
        ids = dict(zip(group["id"], group.index, strict=True))
        for twin in [one for one in ids if twins.get(one) in ids]:
            reason = f"{KNOWN}holds the same samples as {twins[twin]}"
            table.loc[ids.pop(twin), "problem"] = reason
        columns = table.loc[list(ids.values()), ["emotion", "corpus", "speaker"]]
        facts = dict(zip(ids, columns.itertuples(index=False, name=None), strict=True))
        for one, reason in _duplicate_problems(facts):
            table.loc[ids[one], "problem"] = reason


def _duplicate_problems(facts: dict[str, tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
    """(id, reason) of the clips to leave out among clips of the same samples.

    `facts` is id → (emotion, corpus, speaker).
    """
    first = min(facts)
    emotions = {one: emotion for one, (emotion, _, _) in facts.items()}
    for one, (_, corpus, speaker) in facts.items():
        _, first_corpus, first_speaker = facts[first]
        if len(set(emotions.values())) > 1:
            others = [f"{other} ({emotions[other]})" for other in sorted(facts) if other != one]
            yield one, f"duplicate content with contradicting labels: also {', '.join(others)}"
        elif corpus == first_corpus and speaker != first_speaker:
            told = f"the same samples as {first}, by {first_speaker} there and by {speaker} here"
            yield one, f"duplicate content under two speakers: {told}"
        elif one != first:
            yield one, f"duplicate content: the same samples as {first}"


def _report(table: pd.DataFrame, corpora: Sequence[Corpus], *, strict: bool) -> None:
    """Log what is usable and what is left out; raise where nothing is, or `strict` says so."""
    problems = table[table["problem"] != ""]
    surprising = problems[~problems["problem"].str.startswith(KNOWN)]
    n_usable = len(table) - len(problems)
    known = len(problems) - len(surprising)
    _log.info("manifest: usable clips %d, known faults left out %d", n_usable, known)
    names = ", ".join(corpus.name for corpus in corpora)
    if len(surprising) and strict:
        raise SerError(
            f"{len(surprising)} files of {names} have a problem and dataset.strict=true refuses "
            f"them. Mend or remove them, or drop dataset.strict: {_name(surprising)}."
        )
    if len(surprising):
        _log.warning(
            "manifest: %d problem files left out (`ser data check` lists all): %s",
            len(surprising),
            _name(surprising),
        )
    for note in long_note(usable(table)):
        _log.warning("manifest: %s", note)
    if n_usable == 0:
        raise SerError(f"No clip of {names} is usable: {_name(problems)}.")


def _name(problems: pd.DataFrame) -> str:
    """One clause a kind of problem (what stands before its colon), with a few of its files.

    What follows the colon stands once where it is that of all of them, else beside each file.
    """
    clauses = []
    for kind, group in problems.groupby(problems["problem"].str.partition(":")[0]):
        shared = group["problem"].nunique() == 1
        head = group["problem"].iloc[0] if shared else kind
        shown = group.head(_SHOWN)
        files = ", ".join(
            path if shared else f"{path} ({reason.partition(':')[2].strip()})"
            for path, reason in zip(shown["path"].map(on_one_line), shown["problem"], strict=True)
        )
        more = f" and {len(group) - _SHOWN} more" if len(group) > _SHOWN else ""
        clauses.append(f"{head} ({len(group)} file{'s' * (len(group) > 1)}: {files}{more})")
    return "; ".join(clauses)
