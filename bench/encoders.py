"""Encoders of published shapes with random weights: for speed, weights do not matter."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ser.models.wav2vec2_encoder import Wav2Vec2Encoder
from ser.models.whisper_encoder import WhisperEncoder


@dataclass
class Shape:
    """An encoder as features ask for it (`ser.features.frozen.EncoderSource`)."""

    name: str
    n_layers: int
    width: int
    build: Callable[[], nn.Module]
    """Makes transformers' own model."""
    wrap: Callable[[Any], nn.Module]
    """Makes ours of it."""
    frame_rate_hz: float = 50.0
    precision: str = "float32"

    def identity(self) -> Mapping[str, str | int]:
        """Random weights of seed 0; how they are wrapped matters, too."""
        return {"random": self.name, "seed": 0, "precision": self.precision, "by": id(self.wrap)}

    def load(self) -> nn.Module:
        """Ours, ready for inference."""
        return self.wrap(self.theirs()).eval()

    def theirs(self) -> Any:
        """transformers' model, ready for inference; a copy with the same weights at each call."""
        return copy.deepcopy(self._first)

    @cached_property
    def _first(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build().eval()


def whisper_base() -> Shape:
    """Whisper-base's encoder: 6 layers of 512, 20.6 M parameters."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Theirs

    config = WhisperConfig(
        d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048
    )
    return Shape("Whisper-base", 7, 512, lambda: Theirs(config), WhisperEncoder)


def wav2vec2_base() -> Shape:
    """wav2vec2-base: 12 layers of 768, 94.4 M parameters."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    return Shape(
        "wav2vec2-base", 13, 768, lambda: Wav2Vec2Model(Wav2Vec2Config()),
        lambda model: Wav2Vec2Encoder(model, do_normalize=True),
    )  # fmt: skip
