"""What a feature gives is held against what it says, before it is cached."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cache_clips import Doubled, samples, write_clips

from ser.audio import Waveform
from ser.cache import Clip, FeatureCache
from ser.errors import SerError
from ser.features.base import JSON, Array


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    return write_clips(tmp_path)


class Wrong(Doubled):
    """Gives what the test makes of the right arrays."""

    def __init__(self, log: Path, change: Callable[[list[Array]], list[Array]]) -> None:
        super().__init__(log)
        self.change = change

    def settings(self) -> dict[str, JSON]:
        return {"class": "Wrong", "version": 1}

    def extract(self, waveforms: Sequence[Waveform], keys: Sequence[str]) -> list[Array]:
        return self.change(super().extract(waveforms, keys))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda array: array.T, r"shape \(1, 543\)"),
        (lambda array: array[:, 0], r"shape \(543,\)"),
        (lambda array: array[None], r"shape \(1, 543, 1\)"),
        (lambda array: array[:0], r"shape \(0, 1\)"),
        (lambda array: array * 1j, "type complex64"),
        (torch.from_numpy, "a Tensor of shape"),
        (lambda array: array.tolist(), "a list of shape unknown"),
    ],
)
def test_an_array_that_is_not_as_its_feature_says_is_never_stored(
    tmp_path: Path, clips: list[Clip], change: Callable[[Array], Any], told: str
) -> None:
    wrong = Wrong(tmp_path / "log", lambda arrays: [change(array) for array in arrays])
    cache = FeatureCache(tmp_path / "cache")
    with pytest.raises(SerError) as caught:
        cache.ensure(wrong, clips, workers=1, progress=False)
    assert re.search(rf"^Wrong\.extract gave {clips[-1].path} .*{told}", str(caught.value))
    assert r"ask for a NumPy array (time, 1) of float32" in str(caught.value)
    assert not list(cache.folder_of(wrong).glob("*.bin"))


def test_a_feature_gives_one_array_a_clip_and_settings_that_are_json(
    tmp_path: Path, clips: list[Clip]
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    with pytest.raises(SerError, match=r"^Wrong\.extract gave 11 arrays for 12 clips"):
        wrong = Wrong(tmp_path / "log", lambda arrays: arrays[1:])
        cache.ensure(wrong, clips, workers=1, progress=False)
    doubled = Doubled(tmp_path / "log", gain=np.int64(2))  # type: ignore[arg-type]
    with pytest.raises(SerError, match=r"^Doubled\.settings\(\) = .*is no JSON \(.*int64"):
        cache.ensure(doubled, clips, workers=1, progress=False)


def test_a_feature_without_time_has_the_very_shape_that_it_says(
    tmp_path: Path, clips: list[Clip]
) -> None:
    class Mean(Wrong):
        stream = "embedding"

    cache = FeatureCache(tmp_path / "cache")
    mean = Mean(tmp_path / "log", lambda arrays: [array.mean(0) for array in arrays])
    store = cache.ensure(mean, clips, workers=1, progress=False)
    np.testing.assert_allclose(store[clips[0].sha256], [2 * samples(0).mean()], rtol=1e-5)
    mean.change, mean.settings = lambda arrays: arrays, lambda: {"class": "Mean", "version": 2}
    with pytest.raises(SerError, match=r"stream embedding and its shape\(\) ask for .* \(1\) of"):
        cache.ensure(mean, clips, workers=1, progress=False)
