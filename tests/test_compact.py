"""The encoder's other forms in the latency table have the encoder's numbers."""

import pytest
import torch

from ser.models.encoder import RandomEncoder

pytest.importorskip("onnx", reason="pip install -e .[bench]")
pytest.importorskip("onnxruntime", reason="pip install -e .[bench]")

TOLERANCE = {"onnx": 1e-3, "onnx_int8": 0.2, "int8": 0.2}
"""Of the standardised frames; int8 has 256 steps for each weight and input."""


@pytest.mark.parametrize("kind", list(TOLERANCE))
@pytest.mark.parametrize("n_samples", [9000, 16_000])
def test_states_equal_the_encoders(kind: str, n_samples: int) -> None:
    from bench.compact import Compact

    source = RandomEncoder("tiny", n_blocks=2, width=32, seed=0, precision="float32")
    torch.manual_seed(0)
    waveform, lengths = torch.randn(1, n_samples) * 0.1, torch.tensor([n_samples])
    compact = Compact(source, kind)
    with torch.inference_mode():
        expected, frames = source.load()(waveform, lengths)
        states, same = compact.load()(waveform, lengths)
    assert same.tolist() == frames.tolist()
    assert (states - expected).abs().max() <= TOLERANCE[kind]
    assert 0 < compact.size_mb < 1
