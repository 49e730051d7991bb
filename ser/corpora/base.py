"""What a corpus is: a folder of speech that one small class can read."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ser.corpora.sources import Source
from ser.errors import SerError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""The audio files that an adapter sees, in any case; the earlier is preferred over its copies."""


class CorpusNotFoundError(SerError):
    """A corpus's folder is absent or holds no audio: says where we looked and how to fetch it."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One clip of one speaker, as its corpus describes it. Unknown facts are None."""

    id: str
    """`<corpus>/<stem>`, the same in every copy and layout of the corpus."""
    path: Path
    corpus: str
    speaker: str
    """`<corpus>_<speaker>`, unique over corpora."""
    emotion: str
    """Canonical (`ser.labels`)."""
    sex: str | None = None
    """`female` or `male`."""
    age: int | None = None
    language: str | None = None
    """ISO 639-1, as `en`."""
    intensity: str | None = None
    text: str | None = None
    """The sentence spoken."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a corpus's folder; no audio has been read yet."""

    utterances: tuple[Utterance, ...]
    """One a clip, sorted by id."""
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    """One sentence each, for the user."""
    copies: tuple[Utterance, ...] = ()
    """Further files of ids in `utterances`; the manifest checks that they hold the same samples."""


@dataclass(frozen=True, slots=True)
class Published:
    """The size of a corpus as published."""

    clips: int
    speakers: int
    by_emotion: Mapping[str, int]


class Corpus(ABC):
    """A folder of emotional speech.

    To add a corpus, write `ser/corpora/x.py` with one subclass and `conf/dataset/x.yaml` that names
    it; nothing else. The subclass sets the class attributes below (the docstring carries the
    corpus's facts, and how its files are named) and one method, `parse`, which turns a path into an
    `Utterance`, a `Problem` or None. The package finds the module by itself, `find_corpora` finds a
    folder called like one of `folders`, and recursion, copies, notes, problem files, caching and
    `ser data check` come from here and from `ser.manifest`. Set `published` for counts to check
    against, `source` if a program may fetch the corpus, or `registration` if only a person may.
    """

    name: ClassVar[str]
    """Lower snake case: module, option, CLI word and the first part of every id."""
    title: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    url: ClassVar[str]
    recording: ClassVar[str] = ""
    """How the emotions came about, for a model card; empty where it is not known."""
    emotions: ClassVar[tuple[str, ...]] = ()
    """Canonical classes, in canonical order; empty where the user's folder decides."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Names under which the folder is found; case and punctuation do not matter."""
    name_rule: ClassVar[str] = ""
    """How files are named, for the reader of an error."""
    published: ClassVar[Published | None] = None
    source: ClassVar[Source | None] = None
    registration: ClassVar[str] = ""
    """What a person must do to get the corpus where no program may fetch it."""
    known_faults: ClassVar[Mapping[str, str]] = {}
    """Id → reason, of clips that are left out because they were published faulty."""
    known_twins: ClassVar[Mapping[str, str]] = {}
    """Id → id of the twin with the same samples that is kept in its stead."""

    def __init__(self, root: Path) -> None:
        """Point the adapter at the corpus's folder or any folder above it, as distributed."""
        self.root = Path(root)

    @abstractmethod
    def parse(self, path: Path) -> Utterance | Problem | None:
        """Describe one audio file from its path alone.

        None means that the file belongs to another corpus that is shipped in the same folder.
        """

    def list(self) -> Listing:
        """List the corpus without reading audio: instant even on a slow disk.

        Raises CorpusNotFoundError where there is no folder or no audio file in it.
        """
        if not self.root.is_dir():
            raise self.missing("there is no such folder")
        paths = list(audio_files(self.root))
        if not paths:
            raise self.missing(f"it holds no audio ({', '.join(AUDIO_SUFFIXES)})")
        return self.collect(self.parse(path) for path in paths)

    def collect(
        self, parsed: Iterable[Utterance | Problem | None], notes: Iterable[str] = ()
    ) -> Listing:
        """Sort what `parse` returned into clips, further copies of clips, problems and notes.

        Raises SerError for an emotion that is none of the corpus's `emotions`.
        """
        by_id: dict[str, list[Utterance]] = defaultdict(list)
        problems: list[Problem] = []
        foreign = 0
        for item in parsed:
            if isinstance(item, Utterance):
                self._check_emotion(item)
                by_id[item.id].append(item)
            elif isinstance(item, Problem):
                problems.append(item)
            else:
                foreign += 1
        groups = [sorted(by_id[key], key=_preference) for key in sorted(by_id)]
        copies = tuple(copy for group in groups for copy in group[1:])
        return Listing(
            utterances=tuple(group[0] for group in groups),
            problems=tuple(sorted(problems, key=lambda problem: problem.path)),
            notes=(*notes, *_notes(self.name, copies, foreign)),
            copies=copies,
        )

    def _check_emotion(self, clip: Utterance) -> None:
        """Refuse an emotion that the adapter does not declare: a slip of its author's."""
        if self.emotions and clip.emotion not in self.emotions:
            raise SerError(
                f"{type(self).__name__} ({type(self).__module__}) gives {clip.path} the emotion "
                f"{clip.emotion!r}, which is none of its `emotions` ({', '.join(self.emotions)}). "
                "Let `parse` give one of the words of ser/labels.py: canonical_emotion there knows "
                "words, not a corpus's codes, which take a table in the adapter. Or add the "
                "emotion to `emotions`."
            )

    def unknown_name(self, path: Path) -> Problem:
        """The problem of a file whose name this corpus never gave."""
        return Problem(path, f"unknown name: {self.title} names its files {self.name_rule}")

    def missing(self, why: str) -> CorpusNotFoundError:
        """The error for a corpus that is not where we looked; `why` completes the sentence."""
        return CorpusNotFoundError(
            f"{self.title} was looked for in {self.root.absolute()}, but {why}. "
            f"Point elsewhere with `dataset.root=FOLDER` (or the variable SER_DATA, the folder "
            f"that holds one folder a corpus). {how_to_get(type(self))}"
        )


def how_to_get(corpus: type[Corpus]) -> str:
    """One sentence: the command that fetches a corpus, or where a person registers."""
    if corpus.source is not None:
        return f"To fetch it: `ser data download {corpus.name}`."
    return corpus.registration or f"See {corpus.url}."


def audio_files(folder: Path) -> Iterator[Path]:
    """Every audio file under a folder, sorted; AppleDouble and other hidden names are no audio."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in AUDIO_SUFFIXES and not hidden and path.is_file():
            yield path


def _preference(utterance: Utterance) -> tuple[int, int, str]:
    """The copy to keep: lossless first, then the shallowest, then alphabetical."""
    path = utterance.path
    return AUDIO_SUFFIXES.index(path.suffix.lower()), len(path.parts), str(path)


def _notes(name: str, copies: tuple[Utterance, ...], foreign: int) -> Iterator[str]:
    if copies:
        yield (
            f"{name}: {len(copies)} further copies of clips already listed were ignored, "
            f"such as {copies[0].path}"
        )
    if foreign:
        yield f"{name}: {foreign} files of another part of the same release were left aside"
