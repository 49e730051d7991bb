"""`ser data plot`: whose clips are shown, and that what is drawn are those clips."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import synthetic

from ser import gallery
from ser.audio import load_waveform
from ser.errors import SerError
from ser.gallery import choose_clips, draw_gallery
from ser.speech_plots import SpeechPicture


def clips_of(*rows: tuple[str, str | None, str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["speaker", "text", "emotion"])
    return table.assign(id=[f"clip{n}" for n in range(len(table))])


def test_the_sentence_with_the_most_emotions_is_shown():
    chosen = choose_clips(
        clips_of(
            ("a", "one", "sad"), ("a", "one", "happy"), ("a", "two", "angry"),
            ("b", "one", "sad"), ("b", "two", "sad"), ("b", "two", "happy"), ("b", "two", "angry"),
            ("b", "two", "angry"),
        )
    )  # fmt: skip
    assert set(chosen["speaker"]) == {"b"} and set(chosen["text"]) == {"two"}
    assert sorted(chosen["id"]) == ["clip4", "clip5", "clip6"]


def test_emotions_that_lack_the_sentence_come_from_the_speakers_others():
    chosen = choose_clips(
        clips_of(
            ("a", "one", "sad"), ("a", "one", "happy"), ("a", "two", "angry"), ("a", "two", "sad"),
            ("b", "one", "fearful"),
        )
    )  # fmt: skip
    assert dict(zip(chosen["emotion"], chosen["id"], strict=True)) == {
        "sad": "clip0", "happy": "clip1", "angry": "clip2",
    }  # fmt: skip


def test_clips_without_a_sentence():
    chosen = choose_clips(clips_of(("a", None, "sad"), ("b", None, "sad"), ("b", None, "happy")))
    assert chosen["id"].tolist() == ["clip1", "clip2"]


def test_a_known_sentence_goes_before_clips_that_share_none():
    chosen = choose_clips(
        clips_of(
            ("a", None, "sad"), ("a", None, "happy"), ("a", None, "angry"),
            ("b", "one", "sad"), ("b", "one", "happy"),
        )
    )  # fmt: skip
    assert chosen["id"].tolist() == ["clip3", "clip4"]


@pytest.mark.parametrize(
    ("texts", "speaker", "title"),
    [
        (("one", "one"), "ann", "one sentence by folder_ann, emotion by emotion"),
        (("one", "two"), "ann", "clips (several sentences) by folder_ann, "),
        (("", ""), "ann", "clips (sentences not known) by folder_ann, "),
        (("one", ""), "ann", "clips (sentences not known) by folder_ann, "),
        (("one", "one"), "", "one sentence, emotion by emotion"),
    ],
)
def test_the_title_says_no_more_of_the_clips_than_is_known(
    texts, speaker, title, tmp_path, monkeypatch
):
    rows = []
    for emotion, text in zip(("sad", "happy"), texts, strict=True):
        synthetic.write_clip(tmp_path / f"{emotion}.wav", synthetic.tone(emotion))
        rows.append(f"{emotion}.wav,{emotion},{speaker},{text}\n")
    manifest = tmp_path / "mine.csv"
    manifest.write_text("path,emotion,speaker,text\n" + "".join(rows))
    titles = []
    draw = gallery.speech_figure
    monkeypatch.setattr(
        gallery,
        "speech_figure",
        lambda clips, said, hz: titles.append(said) or draw(clips, said, hz),
    )
    draw_gallery(manifest, tmp_path / "out", tmp_path / "cache")
    assert len(titles) == 1 and titles[0].startswith(f"Folder of speech mine.csv: {title}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    synthetic.write_corpus("savee", tmp_path / "data" / "savee", speakers=1)
    synthetic.write_corpus("emodb", tmp_path / "data" / "emodb", speakers=2)
    return tmp_path / "data"


def test_figures_of_a_data_folder_show_each_corpus_clips(data, tmp_path, monkeypatch):
    drawn: dict[str, dict[str, SpeechPicture]] = {}
    draw = gallery.speech_figure

    def kept(clips: dict[str, SpeechPicture], title: str, mel_hz: list[float]) -> Any:
        drawn[title] = clips
        assert len(mel_hz) == 64 and mel_hz[-1] == pytest.approx(8000)
        return draw(clips, title, mel_hz)

    monkeypatch.setattr(gallery, "speech_figure", kept)
    overviews = [Mock(wraps=gallery.balance_figure), Mock(wraps=gallery.durations_figure)]
    monkeypatch.setattr(gallery, "balance_figure", overviews[0])
    monkeypatch.setattr(gallery, "durations_figure", overviews[1])
    paths = draw_gallery(data, tmp_path / "out", tmp_path / "cache")
    assert [path.name for path in paths] == [
        "class_balance.png", "durations.png", "emodb_by_emotion.png", "savee_by_emotion.png",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)

    assert [title.split("\n")[1:] for title in drawn] == [
        ["(no clips: surprised)"], ["(no clips: boredom)"],
    ]  # fmt: skip
    for overview in overviews:  # corpora by the names that titles have
        assert set(overview.call_args.args[0]["corpus"]) == {"EmoDB", "SAVEE"}
    emodb, savee = drawn.values()
    assert list(emodb) == ["neutral", "happy", "sad", "angry", "fearful", "disgust", "boredom"]
    assert list(savee) == ["neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
    samples = load_waveform(data / "savee" / "AudioData" / "DC" / "sa01.wav", 16_000)
    picture = savee["sad"]
    np.testing.assert_array_equal(picture.waveform, samples)
    n_frames = 1 + len(samples) // 256
    assert picture.logmel_db.shape == (n_frames, 64) and picture.mfcc.shape == (n_frames, 20)
    assert picture.hop_ms == 16 and picture.sample_rate_hz == 16_000


def test_a_corpus_without_a_usable_clip_is_left_out(data, tmp_path, caplog):
    for path in (data / "savee").rglob("*.wav"):
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    paths = draw_gallery(data, tmp_path / "out", tmp_path / "cache")
    assert [path.stem for path in paths] == ["class_balance", "durations", "emodb_by_emotion"]
    assert "problem files left out" in caplog.text and "git-lfs pointer" in caplog.text


def test_a_folder_without_a_corpus(tmp_path):
    with pytest.raises(SerError, match="No corpus was recognised"):
        draw_gallery(tmp_path, tmp_path / "out", tmp_path / "cache")
    assert not (tmp_path / "out").exists()
