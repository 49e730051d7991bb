"""What holds for every option under conf/feature, found by listing the folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from ser.errors import SerError
from ser.features import EncoderFrames, Feature
from ser.models.encoder import RandomEncoder

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIONS = sorted(path.stem for path in (CONF / "feature").glob("*.yaml"))
LENGTHS = (9000, 16_000, 12_345, 1)
STREAM_AXES = {"frames": 1, "embedding": 0, "embedding_whole": 0, "waveform": 1}


def _features(option: str) -> dict[str, Feature]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+feature={option}", "+encoder=tiny"])
    return {name: instantiate(config.feature[name], _convert_="all") for name in config.feature}


def _clips() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.uniform(-0.3, 0.3, length).astype(np.float32) for length in LENGTHS]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_gives_distinct_streams(option: str) -> None:
    features = _features(option)
    streams = [feature.stream for feature in features.values()]
    assert features and len(set(streams)) == len(streams)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_default_type_of_float64_changes_nothing(
    option: str, take_float64: Callable[[], None]
) -> None:
    clips, keys = _clips(), list("abcd")
    expected = {name: each.extract(clips, keys) for name, each in _features(option).items()}
    take_float64()
    for name, feature in _features(option).items():
        for ours, theirs in zip(feature.extract(clips, keys), expected[name], strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("option", [option for option in OPTIONS if len(_features(option)) == 1])
def test_shapes_types_and_independence_of_neighbours(option: str) -> None:
    (feature,) = _features(option).values()
    clips, keys = _clips(), [str(i) for i in range(len(LENGTHS))]
    together = feature.extract(clips, keys)
    assert len(together) == len(clips)
    for clip, key, values in zip(clips, keys, together, strict=True):
        assert values.dtype == feature.dtype and np.isfinite(values).all()
        assert values.shape[STREAM_AXES[feature.stream] :] == feature.shape()
        (alone,) = feature.extract([clip], [key])
        np.testing.assert_allclose(values, alone, atol=2e-3)


@pytest.mark.parametrize("option", OPTIONS)
def test_settings_are_json_and_the_same_in_a_new_instance(option: str) -> None:
    for name, feature in _features(option).items():
        settings = feature.settings()
        assert {"class", "version"} <= settings.keys()
        again = _features(option)[name].settings()
        assert json.dumps(settings, sort_keys=True) == json.dumps(again, sort_keys=True)


def test_encoder_frames_layer_is_counted_from_either_end() -> None:
    encoder = RandomEncoder("tiny", n_blocks=2, width=32, seed=0, precision="float32")
    assert EncoderFrames(encoder, -1).settings() == EncoderFrames(encoder, 2).settings()
    with pytest.raises(SerError, match="layer=3, but tiny has layers 0 to 2"):
        EncoderFrames(encoder, 3).settings()
