"""Self-supervised and Whisper encoders behind one forward: waveforms in, every layer's frames out.

All are exact when padded: a clip's frames do not depend on the clips beside it in the batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ser.models.pooling import mask_of

RECEPTIVE_FIELD = 400
"""Samples under one frame of either family; shorter clips are filled up with zeros."""


class SpeechEncoder(nn.Module, ABC):
    """A speech encoder that can be frozen or fine-tuned, in parts that can run alone.

    `analyse`, `change_voice`, `enter` and `run_blocks` one after the other are `forward`.

    Attributes:
        n_layers: hidden states given: the transformer's input and each layer's output; the last
            one is after the final layer norm where the architecture has one.
        width: features of a frame.
        exact_when_padded: whether a clip's frames are the same alone and in a padded batch.
        lora_targets: names of the linear modules that LoRA may wrap with effect.
        voice: in training, what gives a clip another voice and tempo: features and lengths as they
            enter the transformer (Whisper: mel spectra) -> the same, of other lengths.
        masks: in training, what hides parts of the features that enter the transformer (Whisper:
            its convolutions): (batch, frames, features), (batch,) lengths -> the same shape.
    """

    n_layers: int
    width: int
    exact_when_padded: bool = True
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    voice: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None
    masks: Callable[[Tensor, Tensor], Tensor] | None

    def __init__(self) -> None:
        super().__init__()
        self.voice = self.masks = None

    @property
    def varies(self) -> bool:
        """Whether training hears a clip differently each time."""
        return self.voice is not None or self.masks is not None

    def change_voice(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What `analyse` gave, in training in another voice; lengths in frames."""
        if self.voice is None or not self.training:
            return features, frames
        return self.voice(features, frames)

    def _masked(self, features: Tensor, lengths: Tensor) -> Tensor:
        if self.masks is None or not self.training:
            return features
        return self.masks(features, lengths)

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks, first to last: what `last_n` unfreezes from the end."""

    @abstractmethod
    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Frames that clips of these numbers of samples give, (batch,)."""

    @abstractmethod
    def analyse(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms, as `forward` takes them, to features (batch, frames, n) and frame lengths.

        wav2vec 2.0's convolutions, Whisper's spectrogram: what `masks` do not touch.
        """

    @abstractmethod
    def enter(self, features: Tensor, frames: Tensor) -> Tensor:
        """Features, masked in training, to what the first block reads: (batch, frames, width)."""

    @abstractmethod
    def run_blocks(self, hidden: Tensor, frames: Tensor, first: int, last: int) -> list[Tensor]:
        """The outputs of blocks first to last - 1 of what the first of them reads.

        The last block's output is normalised where the architecture does so.
        """

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            waveform: (batch, samples) at 16 kHz; what lies past a clip's length is ignored.
            lengths: (batch,) samples of each clip. A clip shorter than the receptive field (400
                samples, 25 ms) is filled up with zeros to it.

        Returns:
            Hidden states (n_layers, batch, frames, width) and frame lengths (batch,). What lies
            past a clip's frames is arbitrary.
        """
        features, frames = self.change_voice(*self.analyse(waveform, lengths))
        hidden = self.enter(features, frames)
        blocks = self.run_blocks(hidden, frames, 0, len(self.layers))
        return torch.stack([hidden, *blocks]), frames


def fill_up(waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Silence past each clip, and no clip under the receptive field."""
    short = RECEPTIVE_FIELD - waveform.shape[1]
    if short > 0:
        waveform = nn.functional.pad(waveform, (0, short))
    waveform = waveform * mask_of(lengths, waveform.shape[1])
    return waveform, lengths.clamp(min=RECEPTIVE_FIELD)


def padding_mask(frames: Tensor, size: int) -> Tensor | None:
    """The mask where something is padded; without one attention is a fifth faster."""
    mask = mask_of(frames, size)
    return mask if mask.is_cuda or not bool(mask.all()) else None  # a GPU would be waited for
