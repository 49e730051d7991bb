"""What a corpus is: a folder of speech that one small class can read."""

import difflib
import re
import traceback
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import ClassVar

from ser.corpora.files import AUDIO_SUFFIXES, audio_files
from ser.corpora.sources import Source
from ser.errors import SerError
from ser.labels import EMOTIONS

SEXES = ("female", "male")
_FACTS = ("name", "title", "licence", "citation", "url")
"""What every adapter must state; model cards and `ser data` print it."""


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
    """`female` or `male`; no other word is taken."""
    age: int | None = None
    """Whole years."""
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

    def __init_subclass__(cls) -> None:
        """Refuse an adapter that lacks a fact when it is defined, not when a card prints it."""
        super().__init_subclass__()
        missing = [fact for fact in _FACTS if not hasattr(cls, fact)]
        if missing and not getattr(cls.parse, "__isabstractmethod__", False):
            raise SerError(
                f"{cls.__name__} ({cls.__module__}) lacks {', '.join(missing)}: every corpus sets "
                f'{", ".join(_FACTS)} as class attributes. Add `{missing[0]} = "…"`.'
            )

    def __init__(self, root: Path) -> None:
        """Point the adapter at the corpus's folder or any folder above it, as distributed."""
        self.root = Path(root)

    @property
    def heading(self) -> str:
        """The title as figures and pages bear it."""
        return self.title

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
        problems: list[Problem] = []
        paths = list(audio_files(self.root, lambda e: problems.append(Problem(e.path, e.problem))))
        if not paths and not problems:
            raise self.missing(f"it holds no audio ({', '.join(AUDIO_SUFFIXES)})")
        return self.collect([*problems, *(self.read(path) for path in paths)])

    def read(self, path: Path) -> Utterance | Problem | None:
        """What `parse` gives; an error of its author's names the file."""
        try:
            return self.parse(path)
        except SerError:
            raise
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise SerError(
                f"{path}: {self._author} could not read its name: {type(error).__name__}: {error} "
                f"({Path(at.filename).name}, line {at.lineno}). `parse` must give an Utterance, "
                "self.unknown_name(path) for a name that the corpus never gave, or None."
            ) from error

    @property
    def _author(self) -> str:
        return f"{type(self).__name__} ({type(self).__module__})"

    def collect(
        self, parsed: Iterable[Utterance | Problem | None], notes: Iterable[str] = ()
    ) -> Listing:
        """Sort what `parse` returned into clips, further copies of clips, problems and notes.

        Raises SerError for an emotion that is none of the corpus's `emotions`, and for an
        utterance that is not as the class describes it.
        """
        by_id: dict[str, list[Utterance]] = defaultdict(list)
        problems: list[Problem] = []
        foreign = 0
        for item in parsed:
            if isinstance(item, Utterance):
                self._check(item)
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
            notes=(*notes, *_notes(self.name, groups, copies, foreign)),
            copies=copies,
        )

    def _check(self, clip: Utterance) -> None:
        """Refuse a clip that is not as `Utterance` has it: a slip of the adapter's author."""
        # a part of a release shares the speakers of the adapter that it derives from
        names = [vars(kind)["name"] for kind in type(self).__mro__ if "name" in vars(kind)]
        prefixes = tuple(f"{name}_" for name in names)
        code = clip.language is None or re.fullmatch("[a-z]{2}", clip.language)
        rules = {
            "corpus": (clip.corpus == self.name, f"`{self.name}`"),
            "id": (clip.id.removeprefix(f"{self.name}/") not in ("", clip.id),
                   f"`{self.name}/<stem>`"),
            "speaker": (clip.speaker.startswith(prefixes) and clip.speaker not in prefixes,
                        f"`{names[0]}_<speaker>`"),
            "sex": (clip.sex in (*SEXES, None), f"{', '.join(SEXES)} or None"),
            "age": (clip.age is None or isinstance(clip.age, Integral), "whole years or None"),
            "language": (code or not self.emotions, "a code of ISO 639-1 such as `en`, or None"),
        }  # fmt: skip
        for key, (kept, rule) in rules.items():
            if not kept:
                raise SerError(
                    f"{self._author} gives {clip.path} the {key} {getattr(clip, key)!r}; it must "
                    f"be {rule}. Mend `parse`."
                )
        if self.emotions and clip.emotion not in self.emotions:
            raise SerError(
                f"{self._author} gives {clip.path} the emotion {clip.emotion!r}, which is none of "
                f"its `emotions` ({', '.join(self.emotions)}).{_guess(clip.emotion)} Let `parse` "
                "give one of the words of ser/labels.py: canonical_emotion there knows words, not "
                "a corpus's codes, which take a table in the adapter. Or add the emotion to "
                "`emotions`."
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
    """The command that fetches a corpus, or where a person gets it and puts it."""
    if corpus.source is not None:
        return f"To fetch it: `ser data download {corpus.name}`."
    folder = next(iter(corpus.folders), corpus.name)
    return corpus.registration or (
        f"See {corpus.url}, and put its files into data/{folder}/, or {folder}/ in the folder that "
        "SER_DATA names."
    )


def _preference(utterance: Utterance) -> tuple[int, int, str]:
    """The copy to keep: lossless first, then the shallowest, then alphabetical."""
    path = utterance.path
    return AUDIO_SUFFIXES.index(path.suffix.lower()), len(path.parts), str(path)


def _guess(emotion: str) -> str:
    """The known emotion that one is nearly written like, as a question; else empty."""
    near = difflib.get_close_matches(emotion, EMOTIONS, n=1, cutoff=0.8)
    return f" Did you mean {near[0]}?" if near and emotion not in EMOTIONS else ""


def _plain(speaker: str) -> str:
    """A speaker's name without case and leading zeros, and a whole number without its `.0`."""
    return re.sub(r"^0+(?=.)", "", re.sub(r"(?<=\d)\.0+$", "", speaker)).casefold()


def _notes(
    name: str, groups: Sequence[Sequence[Utterance]], copies: tuple[Utterance, ...], foreign: int
) -> Iterator[str]:
    for emotion in sorted({clip.emotion for group in groups for clip in group}):
        if _guess(emotion):
            yield f"{name}: {emotion!r} is a class of its own here.{_guess(emotion)}"
    alike: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        alike[_plain(group[0].speaker.removeprefix(f"{name}_"))].add(group[0].speaker)
    for written in alike.values():
        if len(written) > 1:
            yield (
                f"{name}: {' and '.join(sorted(written))} count as different speakers. If they are "
                "one, write the name alike, or a split could part one voice in two"
            )
    if copies:
        yield (
            f"{name}: {len(copies)} further copies of clips already listed were ignored, "
            f"such as {copies[0].path}"
        )
    if foreign:
        yield f"{name}: {foreign} files of another part of the same release were left aside"
