import pytest

from ser.errors import SerError
from ser.labels import EMOTIONS, LABEL_SETS, canonical_emotion, classes_of, map_emotion


@pytest.mark.parametrize(
    ("word", "emotion"),
    [
        ("fear", "fearful"),
        ("Anger", "angry"),
        ("happiness", "happy"),
        ("ps", "surprised"),
        ("Pleasant_Surprised", "surprised"),
        ("pleasant surprise", "surprised"),
        ("surprise", "surprised"),
        ("bored", "boredom"),
        (" SAD ", "sad"),
        ("Mildly Amused", "mildly_amused"),
        ("pleasant-surprise", "surprised"),
        ("-1", "-1"),
        ("1", "1"),
        *((emotion, emotion) for emotion in EMOTIONS),
    ],
)
def test_canonical_emotion(word, emotion):
    assert canonical_emotion(word) == emotion


def test_label_sets_are_in_canonical_order():
    for classes in LABEL_SETS.values():
        assert list(classes) == [emotion for emotion in EMOTIONS if emotion in classes]
    assert {name: len(classes) for name, classes in LABEL_SETS.items()} == {
        "eight": 8,
        "seven": 7,
        "six": 6,
        "four": 4,
    }


@pytest.mark.parametrize(
    ("emotion", "label_set", "expected"),
    [
        ("calm", "eight", "calm"),
        ("calm", "seven", "neutral"),
        ("calm", "six", "neutral"),
        ("calm", "four", "neutral"),
        ("calm", "native", "calm"),
        ("surprised", "seven", "surprised"),
        ("surprised", "six", None),
        ("fearful", "four", None),
        ("boredom", "eight", None),
        ("boredom", "native", "boredom"),
        ("amused", "eight", None),
        ("amused", "native", "amused"),
    ],
)
def test_map_emotion(emotion, label_set, expected):
    assert map_emotion(emotion, label_set) == expected


def test_classes_of_fixed_set_are_all_of_it():
    assert classes_of("four", ["angry"]) == ("neutral", "happy", "sad", "angry")


def test_native_classes_are_those_present_canonical_first():
    present = ["zeal", "boredom", "angry", "awe", "neutral", "angry"]
    assert classes_of("native", present) == ("neutral", "angry", "boredom", "awe", "zeal")


@pytest.mark.parametrize("call", [lambda: map_emotion("sad", "five"), lambda: classes_of("5", [])])
def test_an_unknown_label_set_names_the_choices(call):
    with pytest.raises(SerError, match="native, eight, seven, six, four"):
        call()
