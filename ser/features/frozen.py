"""A frozen speech encoder as features use it: loaded late, batched by length."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ser.audio import SAMPLE_RATE_HZ, Waveform

_loading = threading.Lock()
_loaded: WeakValueDictionary[str, nn.Module] = WeakValueDictionary()
"""Encoders in memory: features that read the same one share its weights."""
_kept: list[nn.Module] | None = None

_BATCH_S, _BYTES_A_SECOND = 480, 2**26
"""Padded seconds at a time on a GPU, and what they take of its memory: wav2vec2's first
convolution gives 6.6 MB a second, and its norm holds some copies."""


@contextmanager
def encoders_kept() -> Iterator[None]:
    """Within, the weights that a feature lets go stay in memory for the next one."""
    global _kept
    _kept = []
    try:
        yield
    finally:
        _kept = None


class EncoderSource(Protocol):
    """What a feature needs to know of an encoder before, and in order to, load it.

    ser.models.encoder.EncoderWeights is one.
    """

    name: str
    frame_rate_hz: float
    precision: str
    """float32 or bfloat16."""

    @property
    def n_layers(self) -> int:
        """Hidden states given."""

    @property
    def width(self) -> int:
        """Features of a frame."""

    def identity(self) -> Mapping[str, str | int]:
        """What tells its numbers from others."""

    def load(self) -> nn.Module:
        """Module: (batch, samples), (batch,) -> (layers, batch, frames, width), (batch,)."""


class FrozenEncoder:
    """Runs a frozen encoder over clips, on the GPU when there is one."""

    def __init__(self, source: EncoderSource) -> None:
        """Wrap a source; nothing is loaded before the first clip."""
        self.source = source
        self._module: nn.Module | None = None
        self._halved = source.precision == "bfloat16"

    def release(self) -> None:
        """Drop the weights; the next use loads them again."""
        self._module = None

    def encode(self, waveforms: Sequence[Waveform]) -> Iterator[tuple[int, Tensor]]:
        """Each clip's position with its hidden states (layers, frames, width), in any order.

        To be run under torch.inference_mode().
        """
        module = self._encoder()
        device = next(module.parameters()).device
        for batch in _batches(waveforms, _batch_samples(device), bool(module.exact_when_padded)):
            lengths = torch.tensor([len(waveforms[i]) for i in batch], device=device)
            padded = np.zeros((len(batch), int(lengths.max())), dtype=np.float32)
            for row, i in enumerate(batch):
                padded[row, : len(waveforms[i])] = waveforms[i]
            on_cpu = device.type == "cpu"
            with torch.autocast(device.type, torch.bfloat16, enabled=self._halved and on_cpu):
                states, frames = module(torch.from_numpy(padded).to(device), lengths)
            for row, (i, n_frames) in enumerate(zip(batch, frames.tolist(), strict=True)):
                yield i, states[:, row, :n_frames]

    def _encoder(self) -> nn.Module:
        with _loading:
            if self._module is None:
                device = "cuda" if torch.cuda.is_available() else "cpu"
                key = json.dumps([dict(self.source.identity()), device], sort_keys=True)
                self._module = _loaded.get(key)
                if self._module is None:
                    self._module = _loaded[key] = self._load(device)
                if _kept is not None:
                    _kept.append(self._module)
            return self._module

    def _load(self, device: str) -> nn.Module:
        module = self.source.load().requires_grad_(False).to(device)
        for part in list(module.modules()):
            if parametrize.is_parametrized(part, "weight"):
                _compute_weight(part)
            if self._halved and device == "cpu" and isinstance(part, nn.Linear | nn.Conv1d):
                part.to(torch.bfloat16)  # once, not by autocast at each clip
        if self._halved and device != "cpu":
            halve(module)
        return module


def halve(module: nn.Module) -> None:
    """Every weight as bfloat16, so that what lies between the products moves half the bytes, too.

    A GPU waits for those; autocast would keep them in float32.
    """
    for weight in module.parameters():
        weight.data = weight.data.to(torch.bfloat16)


def _compute_weight(part: nn.Module) -> None:
    """Of a weight computed from others at each use make a plain one."""
    shared = type(part)  # by the module's copies too, which would lose their weight with it
    part.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))
    parametrize.remove_parametrizations(part, "weight")


def _batch_samples(device: torch.device) -> int:
    """Padded samples at a time; a batch has one clip at least.

    On a CPU one clip alone is fastest: Whisper-base took 9.3 s of processor time for 295 s of
    speech, and 9.9 s in batches of 30 s.
    """
    if device.type == "cpu":
        return 0
    seconds = min(_BATCH_S, torch.cuda.mem_get_info(device)[0] // _BYTES_A_SECOND)
    return int(seconds) * SAMPLE_RATE_HZ


def _batches(waveforms: Sequence[Waveform], limit: int, mixed: bool) -> Iterator[list[int]]:
    """Positions, longest first, in batches; of one length only unless mixed."""
    order = sorted(range(len(waveforms)), key=lambda i: -len(waveforms[i]))
    batch: list[int] = []
    for i in order:
        longest = len(waveforms[batch[0]]) if batch else 0
        full = longest * (len(batch) + 1) > limit
        if batch and (full or not (mixed or len(waveforms[i]) == longest)):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
