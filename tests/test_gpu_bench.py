"""The bench of a GPU, as far as a CPU can tell."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import gpu
from bench.mfcc import ours


def test_batched_mfcc_equals_the_front_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    waveforms = [
        (scale * draw.standard_normal(n)).astype(np.float32)
        for scale, n in ((1.0, 16_000), (1e-3, 5_120), (0.1, 2_047), (1.0, 300))
    ]
    waveforms[1][2_000:] = 0.0  # silence, clipped below the clip's own peak
    monkeypatch.setattr(gpu, "BLOCK", 7)
    found = gpu.BatchedMfcc(torch.device("cpu"))(waveforms)
    for mine, expected in zip(found, ours(waveforms), strict=True):
        np.testing.assert_allclose(mine, expected, atol=2e-3)


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    given = argparse.Namespace(cpu=False, root=tmp_path, clips=None, batch=1, repeats=1)
    assert gpu._parts(given) == [gpu.NOT_RUN]
