"""A model from its checkpoint: what the card says of confidence, and cards from before it."""

import pickle
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from ser.assemble import build_features, check_front_end
from ser.checkpoint import SafeCheckpointIO
from ser.config import CONF
from ser.errors import SerError
from ser.predict import Recognizer
from ser.recognizer import load_recognizer

FEATURE = OmegaConf.to_container(OmegaConf.load(CONF / "feature" / "mfcc.yaml"))


def written(path: Path, classes: int = 3, **entries: object) -> Path:
    card = {
        "classes": ["happy", "sad", "angry"][:classes],
        "feature": FEATURE,
        "model": {"name": "chance", "_target_": "ser.models.chance.Chance"},
    }
    weights = {"model.log_share": torch.tensor([0.2, 0.7, 0.1]).log()}
    SafeCheckpointIO().save_checkpoint({"ser": card | entries, "state_dict": weights}, path)
    return path


def test_a_card_without_confidence_leaves_probabilities_as_they_are(tmp_path):
    recognizer = load_recognizer(written(tmp_path / "old.ckpt"))
    assert recognizer.temperature == 1.0 and recognizer.abstain_below is None
    assert recognizer.classes == ("happy", "sad", "angry")


def test_its_weights_are_float32_whatever_is_torchs_default(tmp_path, take_float64):
    take_float64()
    weights = load_recognizer(written(tmp_path / "old.ckpt")).model.state_dict()
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_temperature_and_threshold_come_from_the_card(tmp_path):
    path = written(tmp_path / "new.ckpt", temperature=0.7253753424394149, abstain_below=0.65)
    recognizer = load_recognizer(path)
    assert recognizer.temperature == 0.7253753424394149  # to the last bit
    assert recognizer.abstain_below == 0.65


def test_weights_that_do_not_fit_the_card_are_refused(tmp_path):
    with pytest.raises(SerError, match=r"odd\.ckpt: its weights do not fit"):
        load_recognizer(written(tmp_path / "odd.ckpt", classes=2))


@pytest.mark.parametrize(
    "target", ["os.system", "ser.tracking.os.system", "ser.run.train", "ser.nowhere.Thing", 3]
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_card_that_names_something_else_is_refused_unrun(tmp_path, target, nested):
    made = tmp_path / "made"
    node = {"_target_": target, "command": f"touch {made}"}
    model = {"name": "x", "_target_": "ser.models.chance.Chance", "part": [node]}
    path = written(tmp_path / "bad.ckpt", model=model if nested else {"name": "x", **node})
    with pytest.raises(SerError, match=r"bad\.ckpt: its card asks for"):
        load_recognizer(path)
    assert not made.exists()


@pytest.mark.parametrize("nested", [False, True])
def test_a_card_whose_values_are_put_together_when_read_is_refused_unrun(tmp_path, nested):
    made = tmp_path / "made"
    value = f"${{oc.create:{{_target_: pathlib.Path.touch, _args_: [{made}]}}}}"
    model = {"name": "chance", "_target_": "ser.models.chance.Chance"}
    model |= {"part": ({"x": value},)} if nested else {"part": value}
    with pytest.raises(SerError, match=r"bad\.ckpt: its card holds '\$"):
        load_recognizer(written(tmp_path / "bad.ckpt", model=model))
    feature = {"x": value} if nested else value
    with pytest.raises(SerError, match=r"bad\.ckpt: its card holds '\$"):
        load_recognizer(written(tmp_path / "bad.ckpt", feature=FEATURE | {"x": feature}))
    assert not made.exists()


def test_features_that_have_changed_since_training_are_refused(tmp_path):
    (feature,) = build_features(OmegaConf.create({"feature": FEATURE}))
    load_recognizer(written(tmp_path / "same.ckpt", front_end=[feature.settings()]))
    path = written(tmp_path / "old.ckpt", front_end=[feature.settings() | {"version": 1}])
    with pytest.raises(SerError, match=r"trained on SpeechOnly with version=1, here it is 2"):
        load_recognizer(path)


def test_another_encoder_is_refused_but_not_a_copy_of_the_hubs(tmp_path):
    def check(then: dict[str, str], now: dict[str, str]) -> None:
        old, new = ({"class": "Embedding", "encoder": encoder} for encoder in (then, now))
        check_front_end(tmp_path, {"front_end": [old]}, [SimpleNamespace(settings=lambda: new)])

    check({"repo": "a/b", "commit": "1"}, {"config": "c", "weights": "w"})
    for old, new in ((("commit", "1"), ("commit", "2")), (("weights", "v"), ("weights", "w"))):
        with pytest.raises(
            SerError, match=rf"with encoder\.{old[0]}={old[1]}, here it is {new[1]}"
        ):
            check(dict([old]), dict([new]))


def test_a_card_that_lacks_an_option_of_today_says_so(tmp_path):
    feature = deepcopy(FEATURE)
    del feature["mfcc"]["feature"]["scale"]
    with pytest.raises(SerError, match=r"another version of this code: .*'scale'"):
        load_recognizer(written(tmp_path / "old.ckpt", feature=feature))


def test_an_encoders_path_is_refused_for_a_model_that_takes_none_from_a_folder(tmp_path):
    encoder = OmegaConf.to_container(OmegaConf.load(CONF / "encoder" / "tiny.yaml"))
    embedding = {"_target_": "ser.features.Embedding", "encoder": encoder}
    written(tmp_path / "tiny.ckpt", feature={**FEATURE, "embedding": embedding})
    assert len(load_recognizer(tmp_path / "tiny.ckpt").features) == 2
    written(tmp_path / "none.ckpt")
    for name in ("tiny", "none"):
        with pytest.raises(SerError, match=rf"nowhere: .*{name}\.ckpt \(chance\) takes no enc"):
            load_recognizer(tmp_path / f"{name}.ckpt", encoder_path="/nowhere")


def test_it_travels_by_pickle_with_its_threshold_and_is_loaded_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.ckpt", temperature=0.5)
    recognizer = load_recognizer("a.ckpt").abstaining(0.7)
    packed = pickle.dumps(recognizer)
    monkeypatch.chdir("/")
    again = pickle.loads(packed)
    assert (again.temperature, again.abstain_below, again.classes) == (0.5, 0.7, recognizer.classes)
    assert torch.equal(again.model.log_share, recognizer.model.log_share)
    (tmp_path / "a.ckpt").unlink()
    with pytest.raises(SerError, match=r"a\.ckpt: no such checkpoint"):
        pickle.loads(packed)
    with pytest.raises(SerError, match=r"put together by hand .* load_recognizer"):
        pickle.dumps(Recognizer(recognizer.model, (), recognizer.classes))
