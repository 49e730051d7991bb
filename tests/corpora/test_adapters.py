"""Each corpus's own names and quirks."""

import pytest
import synthetic

from ser.corpora import CORPORA
from ser.corpora.base import Problem
from ser.errors import SerError


def parse(name, path, root):
    return CORPORA[name](root).parse(root / path)


@pytest.mark.parametrize(
    ("name", "path", "facts"),
    [
        (
            "ravdess",
            "Actor_12/03-01-06-02-02-01-12.wav",
            ("03-01-06-02-02-01-12", "ravdess_12", "fearful", "female", None, "en", "strong"),
        ),
        (
            "ravdess_song",
            "Actor_07/03-02-01-01-01-01-07.wav",
            ("03-02-01-01-01-01-07", "ravdess_07", "neutral", "male", None, "en", "normal"),
        ),
        (
            "tess",
            "OAF_Pleasant_surprise/OAF_back_ps.wav",
            ("OAF_back_ps", "tess_OAF", "surprised", "female", 64, "en", None),
        ),
        (
            "tess",
            "OAF_neutral/OA_bite_neutral.wav",
            ("OAF_bite_neutral", "tess_OAF", "neutral", "female", 64, "en", None),
        ),
        (
            "tess",
            "YAF_fear/YAF_goal_Fear.WAV",
            ("YAF_goal_fear", "tess_YAF", "fearful", "female", 26, "en", None),
        ),
        (
            "crema_d",
            "1091_IEO_ANG_HI.wav",
            ("1091_IEO_ANG_HI", "crema_d_1091", "angry", None, None, "en", "high"),
        ),
        (
            "crema_d",
            "1040_ITH_SAD_X.wav",
            ("1040_ITH_SAD_XX", "crema_d_1040", "sad", None, None, "en", None),
        ),
        ("savee", "DC/sa01.wav", ("DC_sa01", "savee_DC", "sad", "male", None, "en", None)),
        (
            "savee",
            "ALL/KL_su15.wav",
            ("KL_su15", "savee_KL", "surprised", "male", None, "en", None),
        ),
        ("emodb", "16b10Lb.wav", ("16b10Lb", "emodb_16", "boredom", "female", 31, "de", None)),
    ],
)
def test_names(name, path, facts, tmp_path):
    clip = parse(name, path, tmp_path)
    found = (clip.speaker, clip.emotion, clip.sex, clip.age, clip.language, clip.intensity)
    assert (clip.id, *found) == (f"{name}/{facts[0]}", *facts[1:])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ravdess", "03-01-01-02-01-01-01.wav"),  # neutral is never strong
        ("ravdess", "03-01-09-01-01-01-01.wav"),
        ("ravdess", "03-01-02-01-01-01-27.wav"),  # 24 actors, not 27
        ("ravdess", "01-01-02-01-01-01-01.wav"),  # video
        ("ravdess_song", "03-02-08-01-01-01-01.wav"),  # nobody sings surprise
        ("tess", "OAF_back_calm.wav"),
        ("crema_d", "1092_DFA_ANG_XX.wav"),
        ("crema_d", "1001_DFA_ANG_HI.wav"),  # levels for IEO only
        ("crema_d", "1001_XYZ_ANG_XX.wav"),
        ("savee", "a01.wav"),  # no speaker anywhere
        ("savee", "XX_a01.wav"),
        ("emodb", "04a01Fa.wav"),
        ("emodb", "03a03Fa.wav"),
    ],
)
def test_impossible_names_are_problems(name, path, tmp_path):
    assert isinstance(parse(name, path, tmp_path), Problem)


def test_texts(tmp_path):
    texts = {
        ("ravdess", "03-01-06-02-02-01-12.wav"): "Dogs are sitting by the door",
        ("tess", "OAF_back_ps.wav"): "Say the word back",
        ("crema_d", "1001_IEO_ANG_LO.wav"): "It's eleven o'clock",
        ("emodb", "03a01Fa.wav"): "Der Lappen liegt auf dem Eisschrank.",
    }
    assert {key: parse(*key, tmp_path).text for key in texts} == texts


def test_ravdess_leaves_the_other_channel_aside(tmp_path):
    speech = synthetic.write_corpus("ravdess", tmp_path)
    song = synthetic.write_corpus("ravdess_song", tmp_path)
    for name, own, other in (("ravdess", speech, song), ("ravdess_song", song, speech)):
        listing = CORPORA[name](tmp_path).list()
        assert len(listing.utterances) == len(own) and not listing.problems
        assert f"{len(other)} files of another part" in listing.notes[0]


def test_savee_layouts_give_the_same_ids(tmp_path):
    synthetic.write_corpus("savee", tmp_path / "plain")
    synthetic.write_corpus("savee", tmp_path / "kaggle", layout="flat")
    ids = [
        [clip.id for clip in CORPORA["savee"](tmp_path / layout).list().utterances]
        for layout in ("plain", "kaggle")
    ]
    assert ids[0] == ids[1] and "savee/DC_a01" in ids[0]


@pytest.mark.parametrize("root", ["repository", "repository/AudioWAV"])
def test_crema_d_demographics(root, tmp_path):
    synthetic.write_corpus("crema_d", tmp_path / "repository")
    listing = CORPORA["crema_d"](tmp_path / root).list()
    assert {(c.speaker, c.sex, c.age) for c in listing.utterances} == {
        ("crema_d_1001", "male", 20),
        ("crema_d_1002", "female", 21),
    }
    assert not listing.notes


def test_crema_d_without_demographics_says_so(tmp_path):
    synthetic.write_corpus("crema_d", tmp_path)
    (tmp_path / "VideoDemographics.csv").unlink()
    listing = CORPORA["crema_d"](tmp_path).list()
    assert {clip.sex for clip in listing.utterances} == {None}
    assert "age and sex are unknown" in listing.notes[0]


def test_crema_d_broken_demographics(tmp_path):
    synthetic.write_corpus("crema_d", tmp_path)
    (tmp_path / "VideoDemographics.csv").write_text("Actor,Years\n1001,51\n")
    with pytest.raises(SerError, match="ActorID, Age and Sex"):
        CORPORA["crema_d"](tmp_path).list()


def test_real_corpora_are_whole(shared):
    data = shared / "data"
    counts = {"ravdess": 1440, "emodb": 535, "tess": 587, "crema_d": 39}
    for name, count in counts.items():
        listing = CORPORA[name](data / name).list()
        assert (len(listing.utterances), listing.problems, listing.notes) == (count, (), ())
    originals = CORPORA["ravdess"](data / "ravdess_original").list().utterances
    copies = {clip.id for clip in CORPORA["ravdess"](data / "ravdess").list().utterances}
    assert len(originals) == 22 and copies.issuperset(clip.id for clip in originals)
