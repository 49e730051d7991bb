"""Which clips a run works on: corpora located, labels mapped, counts told."""

import logging
from pathlib import Path

import pandas as pd
import pytest
import synthetic

from ser.corpora.base import CorpusNotFoundError
from ser.errors import SerError
from ser.speech import DEMO_NOTICE, Speech, label_clips, log_counts, open_speech


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RAVDESS (two speakers, eight emotions) and EmoDB (one speaker, seven emotions)."""
    root = tmp_path_factory.mktemp("data")
    synthetic.write_corpus("ravdess", root / "ravdess")
    synthetic.write_corpus("emodb", root / "emodb", speakers=1)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def opened(data, cache, caplog):
    caplog.set_level(logging.INFO, logger="ser")

    def open_it(**changes: object) -> Speech:
        options = {
            "source": "auto", "root": data, "corpora": None, "labels": "seven", "strict": False,
            "cache_root": cache, "progress": False,
        }  # fmt: skip
        return open_speech(**(options | changes))  # type: ignore[arg-type]

    return open_it


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """What espeak-ng would render, as tones; counts how often it is asked."""
    asked = []

    def render(folder: Path, *, seed: int) -> Path:
        asked.append((folder, seed))
        synthetic.write_corpus("tess", folder / "tess", seed=seed)
        synthetic.write_corpus("savee", folder / "savee", seed=seed)
        return folder

    monkeypatch.setattr("ser.corpora.demo.render_demo", render)
    return asked


def clips_of(*pairs: tuple[str, str]) -> pd.DataFrame:
    rows = [(f"{corpus}/{n}", corpus, emotion) for n, (corpus, emotion) in enumerate(pairs)]
    return pd.DataFrame(rows[::-1], columns=["id", "corpus", "emotion"])


def test_everything_found_is_read_on_the_common_classes(opened):
    speech = opened()
    assert speech.corpora == ("emodb", "ravdess") and not speech.synthetic
    assert speech.classes == (
        "neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised",
    )  # fmt: skip
    table = speech.table
    assert table.index.tolist() == list(range(len(table)))
    assert table["id"].tolist() == sorted(table["id"])
    counts = table.groupby("corpus")["label"].value_counts()
    assert counts["ravdess"].to_dict() == {
        "neutral": 4, "happy": 2, "sad": 2, "angry": 2, "fearful": 2, "disgust": 2, "surprised": 2,
    }  # fmt: skip
    assert set(counts["emodb"].index) == {"neutral", "happy", "sad", "angry", "fearful", "disgust"}


def test_combined_and_a_list_of_corpora(opened):
    assert opened(source="combined").corpora == ("emodb", "ravdess")
    assert opened(source="combined", corpora=["emodb"]).corpora == ("emodb",)


def test_one_corpus_in_its_own_folder(opened, data):
    speech = opened(source="corpus", corpora=["emodb"], root=data / "emodb", labels="native")
    assert speech.corpora == ("emodb",) and "boredom" in speech.classes
    assert speech.table["label"].equals(speech.table["emotion"])


def test_the_fingerprint_follows_labels_and_not_folders(opened, data, tmp_path):
    synthetic.write_corpus("ravdess", tmp_path / "elsewhere")
    options = {"source": "corpus", "corpora": ["ravdess"], "labels": "four"}
    here = opened(root=data / "ravdess", **options)
    assert opened(root=tmp_path / "elsewhere", **options).fingerprint == here.fingerprint
    sets = ("four", "six", "seven", "eight")  # seven and eight hold the same clips of RAVDESS
    prints = {opened(root=data / "ravdess", **options | {"labels": s}).fingerprint for s in sets}
    assert len(prints) == 4 and here.fingerprint in prints


def test_auto_takes_the_demo_where_there_is_no_corpus(opened, demo, tmp_path, caplog):
    speech = opened(root=tmp_path / "nothing", cache_root=tmp_path / "cache")
    assert speech.synthetic and speech.corpora == ("savee", "tess")
    assert demo == [(tmp_path / "cache" / "demo", 0)]
    assert DEMO_NOTICE in caplog.text and DEMO_NOTICE.startswith("SYNTHETIC SPEECH")
    assert f"no corpus under {tmp_path / 'nothing'}" in caplog.text


def test_demo_is_taken_though_corpora_lie_there(opened, demo, data, tmp_path, caplog):
    speech = opened(source="demo", corpora=["tess"], cache_root=tmp_path)
    assert speech.synthetic and speech.corpora == ("tess",)
    assert "SYNTHETIC" in caplog.text and "dataset=auto" not in caplog.text


def test_real_speech_renders_no_demo(opened, demo):
    assert not opened().synthetic and demo == []


def test_combined_without_a_corpus_says_where_it_looked(opened, demo, tmp_path):
    with pytest.raises(CorpusNotFoundError) as caught:
        opened(source="combined", root=tmp_path / "nothing")
    for part in (str(tmp_path / "nothing"), "ser data download", "SER_DATA", "dataset=demo"):
        assert part in str(caught.value)
    assert demo == []


def test_a_corpus_that_was_asked_for_and_is_not_there(opened, demo, data):
    with pytest.raises(CorpusNotFoundError, match=r"TESS.*ser data download tess"):
        opened(corpora=["ravdess", "tess"])
    with pytest.raises(CorpusNotFoundError, match="RAVDESS"):
        opened(corpora=["ravdess"], root=data / "nowhere")
    assert demo == []


def test_one_corpus_of_no_name(opened):
    with pytest.raises(SerError, match=r"dataset.corpora=null .* dataset.corpora=\[ravdess\]"):
        opened(source="corpus")


def test_a_corpus_that_nobody_knows(opened):
    with pytest.raises(SerError, match=r"dataset.corpora names iemocap, .* known are crema_d, "):
        opened(corpora=["iemocap"])


def test_no_usable_clip(opened, tmp_path):
    for path in synthetic.write_corpus("tess", tmp_path / "tess", speakers=1):
        synthetic.write_pointer(path)
    with pytest.raises(SerError, match=r"No clip of tess is usable: .*git-lfs pointer"):
        opened(root=tmp_path, cache_root=tmp_path / "cache")


def test_labels_are_mapped_and_dropped():
    clips = clips_of(
        ("r", "calm"), ("r", "calm"), ("r", "sad"), ("r", "fearful"), ("s", "boredom"), ("s", "sad")
    )
    table, classes = label_clips(clips, "four")
    assert classes == ("neutral", "happy", "sad", "angry")
    assert table["id"].tolist() == ["r/0", "r/1", "r/2", "s/5"]
    assert table["label"].tolist() == ["neutral", "neutral", "sad", "sad"]
    assert table["emotion"].tolist() == ["calm", "calm", "sad", "sad"]
    assert table.index.tolist() == [0, 1, 2, 3]
    assert "label" not in clips


def test_what_a_label_set_leaves_out_and_merges_is_told(opened, tmp_path, caplog):
    synthetic.write_corpus("ravdess", tmp_path / "ravdess", speakers=2)
    speech = opened(root=tmp_path, cache_root=tmp_path / "cache", labels="four")
    merged = [told for told in speech.mapped if told.endswith(" of calm count as neutral on four")]
    dropped = [told for told in speech.mapped if "of fearful are left out: four lacks it" in told]
    assert len(merged) == len(dropped) == 1 and merged[0].startswith("ravdess: ")
    assert set(speech.mapped) <= set(caplog.messages)


def test_native_labels_are_one_corpus_own():
    table, classes = label_clips(clips_of(("r", "calm"), ("r", "zeal"), ("r", "angry")), "native")
    assert classes == ("calm", "angry", "zeal")
    assert table["label"].tolist() == ["calm", "zeal", "angry"]
    with pytest.raises(SerError, match=r"native keeps one corpus's own classes, but r, s are read"):
        label_clips(clips_of(("r", "calm"), ("s", "calm")), "native")


def test_a_label_set_that_leaves_nothing_or_does_not_exist():
    with pytest.raises(SerError, match=r"labels=four leaves no clip: .* boredom, zeal"):
        label_clips(clips_of(("r", "zeal"), ("r", "boredom")), "four")
    with pytest.raises(SerError, match="no label set 'nine'"):
        label_clips(clips_of(("r", "sad")), "nine")


def test_counts_by_corpus_and_class(caplog):
    caplog.set_level(logging.INFO, logger="ser")
    clips = clips_of(("r", "sad"), ("r", "sad"), ("s", "happy"))
    log_counts(clips.assign(label=clips["emotion"]), ("neutral", "happy", "sad"))
    rows = [line.split() for line in caplog.messages[0].splitlines()[1:]]
    assert ["label", "neutral", "happy", "sad", "all"] in rows
    assert ["r", "0", "0", "2", "2"] in rows and ["s", "0", "1", "0", "1"] in rows
    assert rows[-1] == ["all", "0", "1", "2", "3"]
