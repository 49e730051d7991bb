"""Published rows: beside which protocols they stand, and that each is a share with a source."""

import pytest

from ser.labels import LABEL_SETS
from ser.published import PUBLISHED, published_for

EIGHT, SEVEN, SIX = (LABEL_SETS[name] for name in ("eight", "seven", "six"))


def names(corpora, split, classes) -> list[str]:
    return [figure.name for figure in published_for(corpora, split, classes)]


def test_every_row_is_a_share_with_a_source():
    for figure in PUBLISHED:
        assert figure.war is not None and 0 < figure.war < 1 and len(figure.source) > 20
        assert figure.uar is None or 0 < figure.uar < 1
        # what is printed in place of the figure is about the figure
        assert not figure.printed or f"{figure.war:.2f}"[:3] in figure.printed


def test_ravdess_has_listeners_on_any_split_and_the_paper_on_its_own():
    assert names(["ravdess"], "speaker", EIGHT) == ["listeners"]
    assert names(["ravdess"], "luna5", EIGHT) == [
        "listeners", "fine-tuned xlsr-wav2vec2-large", "frozen xlsr-wav2vec2 + MLP",
    ]  # fmt: skip
    assert "Whisper-large-v3" in names(["ravdess"], "emobox_r6", EIGHT)


def test_other_corpora_and_classes_have_other_rows():
    assert names(["ravdess", "tess"], "speaker", EIGHT) == []
    assert names(["ravdess"], "luna5", SEVEN) == []
    (listeners,) = published_for(["crema_d"], "tfds_c", SIX)
    assert (listeners.uar, listeners.war) == (0.407, 0.4)


def test_emobox_rows_hold_the_best_encoder_of_each_corpus():
    for corpus, split, classes, best in (
        ("ravdess", "emobox_r6", EIGHT, ("Whisper-large-v3", 0.7532, 0.7587)),
        ("savee", "emobox_s4", SEVEN, ("data2vec2-large", 0.7575, 0.7859)),
    ):
        rows = [row for row in published_for([corpus], split, classes) if row.uar is not None]
        assert len(rows) == 7
        top = max(rows, key=lambda row: row.uar)
        assert (top.name, round(top.uar, 4), round(top.war, 4)) == best


@pytest.mark.parametrize("classes", [EIGHT, SEVEN])
def test_the_slides_stand_beside_deck_random_with_and_without_calm(classes):
    rows = published_for(["ravdess", "tess", "emodb"], "deck_random", classes)
    assert [row.war for row in rows] == [0.51, 0.705]
    assert all("Not the same clips" in row.source for row in rows)


def test_the_slides_do_not_stand_beside_one_corpus_or_fewer_emotions():
    assert names(["tess"], "deck_random", SEVEN) == []
    assert names(["ravdess", "tess"], "deck_random", SIX) == []
