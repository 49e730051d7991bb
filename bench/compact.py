"""The same encoder in int8 and in ONNX Runtime, for the latency table; not offered by ser."""

import io
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ser.features.frozen import EncoderSource
from ser.models.whisper_encoder import WhisperEncoder
from ser.onednn import use_blas


@dataclass
class Compact:
    """An encoder source whose module is another form of the same weights.

    Attributes:
        source: where the weights come from.
        kind: `int8` (torch, dynamic), `onnx` or `onnx_int8` (ONNX Runtime).
    """

    source: EncoderSource
    kind: str
    frame_rate_hz: float = 50.0
    precision: str = "float32"
    size_mb: float = float("nan")
    """Of the weights as stored; known after load()."""

    @property
    def name(self) -> str:
        """With the kind."""
        return f"{self.source.name} {self.kind}"

    @property
    def n_layers(self) -> int:
        """As the source."""
        return self.source.n_layers

    @property
    def width(self) -> int:
        """As the source."""
        return self.source.width

    def identity(self) -> Mapping[str, str | int]:
        """As the source, and the kind."""
        return {**self.source.identity(), "kind": self.kind}

    def load(self) -> nn.Module:
        """Convert; takes seconds."""
        module = self.source.load()
        use_blas(module)  # the converters know plain layers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.kind == "int8":
                quantised: nn.Module = torch.ao.quantization.quantize_dynamic(
                    module, {nn.Linear}, dtype=torch.qint8
                )
                self.size_mb = stored_mb(quantised)
                return quantised
            path = _export(module)
        if self.kind == "onnx_int8":
            path = _quantised(path)
        self.size_mb = path.stat().st_size / 1e6
        return OnnxEncoder(module, path)


def stored_mb(module: nn.Module) -> float:
    """Size of the state dict as torch saves it."""
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    return buffer.tell() / 1e6


class _Core(nn.Module):
    """What is exported: one clip's (1, …) input to hidden states (layers, 1, frames, width)."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.model, self.whisper = module.model, isinstance(module, WhisperEncoder)

    def forward(self, values: Tensor) -> Tensor:
        if not self.whisper:
            return torch.stack(self.model(values, output_hidden_states=True).hidden_states)
        hidden = nn.functional.gelu(self.model.conv1(values))
        hidden = nn.functional.gelu(self.model.conv2(hidden)).transpose(1, 2)
        hidden = hidden + self.model.embed_positions.weight[: hidden.shape[1]]
        states = [hidden]
        for layer in self.model.layers:
            output = layer(states[-1], None)
            states.append(output[0] if isinstance(output, tuple) else output)
        states[-1] = self.model.layer_norm(states[-1])
        return torch.stack(states)


def _export(module: Any) -> Path:
    core = _Core(module).eval()
    sample = torch.randn(1, 80, 300) if core.whisper else torch.randn(1, 48_000)
    path = Path(tempfile.mkdtemp()) / "encoder.onnx"
    with torch.no_grad():
        torch.onnx.export(
            core, (sample,), str(path), dynamo=False, opset_version=17,
            input_names=["values"], output_names=["states"],
            dynamic_axes={"values": {sample.ndim - 1: "time"}, "states": {2: "frames"}},
        )  # fmt: skip
    return path


def _quantised(path: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_name("encoder_int8.onnx")
    quantize_dynamic(path, target, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul"])
    return target


class OnnxEncoder(nn.Module):
    """ONNX Runtime behind the forward of a SpeechEncoder, one clip at a time."""

    exact_when_padded = False

    def __init__(self, module: Any, path: Path) -> None:
        import onnxruntime

        super().__init__()
        self.module = module
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `SpeechEncoder.forward`, for a batch of one."""
        frames = self.module.frame_lengths(lengths)
        values = self._input(waveform, frames)
        (states,) = self.session.run(None, {"values": values.numpy()})
        return torch.from_numpy(states), frames

    def _input(self, waveform: Tensor, frames: Tensor) -> Tensor:
        if not isinstance(self.module, WhisperEncoder):
            return (waveform - waveform.mean()) / torch.sqrt(waveform.var(correction=0) + 1e-7)
        peak = waveform.abs().max().clamp(min=1e-8)
        scaled = waveform * (self.module._PEAK / peak)
        return self.module._log_mel(scaled, frames * 2, 2 * int(frames[0]))
