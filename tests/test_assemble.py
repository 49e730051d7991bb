"""Copies by an augmentation of one's own, which has what its protocol asks for and no more."""

from pathlib import Path

import numpy as np
import pandas as pd
import synthetic
from omegaconf import OmegaConf

from ser.assemble import compute_copies
from ser.features import RawWaveform


class Halved:
    """Half as loud; as an option file would name it."""

    def settings(self) -> dict[str, int]:
        return {"version": 1}

    def __call__(
        self, waveform: np.ndarray, sample_rate_hz: int, seed: int, key: str
    ) -> np.ndarray:
        return waveform / 2


def test_an_augmentation_that_mixes_no_voices_in_needs_no_method_for_them(tmp_path: Path) -> None:
    path = synthetic.write_clip(tmp_path / "a.wav", tone := synthetic.tone("a"))
    row = {"id": "x/a", "path": str(path), "sha256": "a", "duration_s": 0.3, "speaker": "x_a"}
    waveform = {"_target_": f"{__name__}.Halved"}
    options = {"streams": ["waveform"], "copies": 2, "waveform": waveform}
    cfg = OmegaConf.create({"augment": options, "cache_root": str(tmp_path / "cache")})
    stores = compute_copies(cfg, [RawWaveform()], pd.DataFrame([row]))["waveform"]
    assert len(stores) == 2
    for store in stores:
        np.testing.assert_allclose(store["a"], tone / 2, atol=1 / 32768)
