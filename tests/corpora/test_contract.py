"""What every corpus must do, found by listing them."""

from dataclasses import replace
from pathlib import Path

import pytest
import synthetic

from ser.corpora import CORPORA, corpus_class, find_corpora
from ser.corpora.base import Corpus, CorpusNotFoundError, how_to_get
from ser.errors import SerError
from ser.labels import EMOTIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"
WRITTEN = sorted(set(CORPORA) & set(synthetic.EMOTIONS))


def test_every_corpus_has_a_synthetic_twin():
    missing = [name for name, corpus in CORPORA.items() if name not in synthetic.EMOTIONS]
    wanting = [name for name in missing if CORPORA[name].folders]
    assert not wanting, "give them EMOTIONS, SPEAKERS and a line of _name in tests/synthetic.py"


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_has_its_row_in_the_document(name):
    document, url = DOCUMENT.read_text(encoding="utf-8"), CORPORA[name].url
    assert f"\n| `{name}` | " in document, "docs/data.md, first table"
    assert url in document or url == "docs/data.md", "the document gives another address"


@pytest.mark.parametrize("name", CORPORA)
def test_facts(name):
    corpus = CORPORA[name]
    assert corpus.name == name
    assert corpus.title and corpus.licence and corpus.url and corpus.__doc__
    assert list(corpus.emotions) == [emotion for emotion in EMOTIONS if emotion in corpus.emotions]
    if corpus.published is not None:
        assert sum(corpus.published.by_emotion.values()) == corpus.published.clips
        assert set(corpus.published.by_emotion) == set(corpus.emotions)


@pytest.mark.parametrize("suffix", [".wav", ".FLAC", ".ogg", ".mp3"])
@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_is_listed(name, suffix, tmp_path):
    paths = synthetic.write_corpus(name, tmp_path, takes=2, suffix=suffix)
    listing = CORPORA[name](tmp_path).list()
    assert len(listing.utterances) == len(paths) == len({clip.id for clip in listing.utterances})
    assert not listing.problems and not listing.copies
    assert [clip.id for clip in listing.utterances] == sorted(c.id for c in listing.utterances)
    assert all(clip.id.startswith(f"{name}/") for clip in listing.utterances)
    emotion_of = {clip.path: clip.emotion for clip in listing.utterances}
    classes = CORPORA[name].emotions or synthetic.EMOTIONS[name]
    in_order = [emotion for emotion in EMOTIONS if emotion in classes]  # as the codes there stand
    assert [emotion_of[path] for path in paths] == [e for e in in_order for _ in range(2)] * 2


@pytest.mark.parametrize("name", WRITTEN)
def test_the_root_may_be_above_the_corpus(name, tmp_path):
    if name == "folder":
        pytest.skip("its folders are its labels")
    synthetic.write_corpus(name, tmp_path / "as" / "distributed")
    above = CORPORA[name](tmp_path).list()
    below = CORPORA[name](tmp_path / "as" / "distributed").list()
    assert above.utterances == below.utterances


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "folder"])
def test_the_tree_twice_is_listed_once_with_one_note(name, tmp_path):
    paths = synthetic.write_corpus(name, tmp_path, layout="twice")
    listing = CORPORA[name](tmp_path).list()
    assert len(listing.utterances) == len(listing.copies) == len(paths) // 2
    assert len(listing.notes) == 1
    assert f"{len(paths) // 2} further copies" in listing.notes[0]
    assert all("again" not in str(clip.path) for clip in listing.utterances)


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("there", [True, False])
def test_an_absent_or_empty_folder_says_how_to_get_it(name, there, tmp_path):
    root = tmp_path / "nowhere"
    if there:
        root.mkdir()
    with pytest.raises(CorpusNotFoundError) as caught:
        CORPORA[name](root).list()
    message = str(caught.value)
    assert str(root) in message and "dataset.root=" in message and "SER_DATA" in message
    if CORPORA[name].source is not None:
        assert f"ser data download {name}" in message


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "folder"])
def test_an_unknown_name_is_a_problem(name, tmp_path):
    synthetic.write_corpus(name, tmp_path)
    stray = synthetic.write_clip(tmp_path / "my_own_voice.wav", synthetic.tone("stray"))
    (problem,) = CORPORA[name](tmp_path).list().problems
    assert problem.path == stray
    assert problem.reason.startswith("unknown name: ")


def test_an_emotion_that_the_adapter_does_not_declare_is_refused(tmp_path):
    class Codes(CORPORA["emodb"]):
        def parse(self, path):
            return replace(super().parse(path), emotion="w")

    path = min(synthetic.write_corpus("emodb", tmp_path))
    with pytest.raises(
        SerError, match=r"^Codes .*'w'.*ser/labels\.py: canonical_emotion"
    ) as caught:
        Codes(tmp_path).list()
    assert str(path) in str(caught.value) and "`emotions` (neutral, happy, " in str(caught.value)
    Codes.emotions = ()
    assert {clip.emotion for clip in Codes(tmp_path).list().utterances} == {"w"}


def changed(**facts):
    """EmoDB, but for what its clips are said to be."""

    class Changed(CORPORA["emodb"]):
        def parse(self, path):
            return replace(super().parse(path), **facts)

    return Changed


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("sex", "F", "female, male or None"),
        ("speaker", "03", "`emodb_<speaker>`"),
        ("speaker", "emodb_", "`emodb_<speaker>`"),
        ("id", "03a01Fa", "`emodb/<stem>`"),
        ("id", "emodb/", "`emodb/<stem>`"),
        ("corpus", "emo", "`emodb`"),
        ("age", "31", "whole years or None"),
        ("language", "german", "a code of ISO 639-1 such as `en`, or None"),
    ],
)
def test_a_fact_that_breaks_the_contract_is_refused_with_its_clip(key, value, rule, tmp_path):
    path = min(synthetic.write_corpus("emodb", tmp_path))
    with pytest.raises(SerError) as caught:
        changed(**{key: value})(tmp_path).list()
    told = f"gives {path} the {key} {value!r}; it must be {rule}. Mend `parse`."
    assert str(caught.value) == f"Changed ({__name__}) {told}"
    assert len(changed(sex=None, age=None, language=None)(tmp_path).list().utterances) == 14


def test_a_word_that_is_nearly_an_emotion_is_asked_about(tmp_path):
    synthetic.write_corpus("emodb", tmp_path)
    corpus = changed(emotion="hapy")
    with pytest.raises(SerError, match=r"\(neutral, .*\)\. Did you mean happy\? Let `parse`"):
        corpus(tmp_path).list()
    corpus.emotions = ("hapy",)
    note = "emodb: 'hapy' is a class of its own here. Did you mean happy?"
    assert corpus(tmp_path).list().notes == (note,)
    corpus.emotions = ("longing",)
    with pytest.raises(SerError, match=r"\(longing\)\. Did"):
        corpus(tmp_path).list()


def test_an_adapter_states_its_facts_when_it_is_defined():
    facts = {"name": "x", "title": "X", "licence": "", "citation": "", "parse": print}
    with pytest.raises(SerError, match=rf"^Mine \({__name__}\) lacks url: every corpus sets name"):
        type("Mine", (Corpus,), facts | {"__module__": __name__})
    mine = type("Mine", (Corpus,), facts | {"url": "there", "folders": ("our calls", "x")})
    assert how_to_get(mine).startswith("See there, and put its files into data/our calls/, or our")
    type("Between", (Corpus,), {})  # still abstract: those that derive from it state them


def test_a_mistake_in_parse_names_the_file(tmp_path):
    class Short(CORPORA["emodb"]):
        def parse(self, path):
            return {"03": "male"}[path.stem[:2]]

    paths = synthetic.write_corpus("emodb", tmp_path)
    with pytest.raises(SerError) as caught:
        Short(tmp_path).list()
    first = min(path for path in paths if not path.stem.startswith("03"))
    told = f"{first}: Short ({__name__}) could not read its name: KeyError: '08' (test_contract.py"
    assert str(caught.value).startswith(told)


def test_hidden_files_are_not_audio(tmp_path):
    synthetic.write_corpus("emodb", tmp_path)
    (tmp_path / "wav" / "._03a01Fa.wav").write_bytes(b"AppleDouble")
    assert not CORPORA["emodb"](tmp_path).list().problems


def test_find_corpora_by_folder_name(tmp_path):
    synthetic.write_corpus("ravdess", tmp_path / "ravdess_original")
    synthetic.write_corpus("ravdess", tmp_path / "Audio_Speech_Actors_01-24")
    synthetic.write_corpus("tess", tmp_path / "TESS Toronto emotional speech set data")
    synthetic.write_corpus("crema_d", tmp_path / "CREMA-D")
    (tmp_path / "savee").mkdir()
    assert find_corpora(tmp_path) == {
        "crema_d": tmp_path / "CREMA-D",
        "ravdess": tmp_path / "Audio_Speech_Actors_01-24",
        "tess": tmp_path / "TESS Toronto emotional speech set data",
    }
    assert find_corpora(tmp_path, ["tess"]) == {
        "tess": tmp_path / "TESS Toronto emotional speech set data"
    }


def test_find_corpora_says_which_of_two_it_took(tmp_path, caplog):
    synthetic.write_corpus("tess", tmp_path / "tess")
    synthetic.write_corpus("tess", tmp_path / "TESS Toronto emotional speech set")
    assert find_corpora(tmp_path) == {"tess": tmp_path / "tess"}
    assert "not from" in caplog.text


def test_find_corpora_insists_on_named_ones(tmp_path):
    assert find_corpora(tmp_path / "nowhere") == {}
    with pytest.raises(CorpusNotFoundError, match=r"RAVDESS speech .*`ser data download ravdess"):
        find_corpora(tmp_path, ["ravdess"])
    with pytest.raises(CorpusNotFoundError, match=r"register at"):
        find_corpora(tmp_path, ["savee"])
    with pytest.raises(SerError, match=r"no corpus 'iemocap'. Choose one of: ") as caught:
        corpus_class("iemocap")
    assert str(caught.value).endswith(f": {', '.join(sorted(CORPORA))}.")
