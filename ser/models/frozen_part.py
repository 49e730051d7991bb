"""What an encoder's frozen lower part gives for a clip, computed once and kept."""

import hashlib

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ser.models.pooling import masked_mean_std
from ser.models.speech_encoder import SpeechEncoder

LIMIT_BYTES = 4 * 2**30
"""Kept of all clips, 0.8 GiB for RAVDESS's 1,440 (wav2vec2-base); others are computed anew."""


class FrozenPart:
    """Pools every layer of an encoder; once started, runs what is not trained once a clip.

    A clip is known by its samples, so an augmented copy is another clip. The frozen part then runs
    as in evaluation, without dropout, in float32: its output is fixed. Where the encoder has
    another voice or masks, drawn anew each time, it ends before them. In evaluation it runs apart,
    started or not, so that a model read back gives the very same logits.
    """

    def __init__(self, encoder: SpeechEncoder) -> None:
        """Take an encoder whose trained weights ask for gradients; nothing is kept yet."""
        self._encoder = encoder
        self._first = first_trained(encoder)
        self._kept: dict[bytes, tuple[Tensor, Tensor]] | None = None
        self._left = 0

    def start(self) -> None:
        """Forget what was kept, and keep from now on; without effect where all is trained."""
        if self._first is not None:
            self._kept, self._left = {}, LIMIT_BYTES

    def embed(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Mean and deviation over time of every layer: (batch, layers, 2 * width)."""
        encoder, n_blocks = self._encoder, len(self._encoder.layers)
        apart = self._first is not None and (self._kept is not None or not encoder.training)
        if not apart or waveform.requires_grad:
            features, frames = encoder.analyse(waveform, lengths)
            return self._above(features, frames)
        clips = [clip[None, :n] for clip, n in zip(waveform, lengths.tolist(), strict=True)]
        tops, pooled = zip(*map(self._once, clips), strict=True)
        frames = torch.tensor([len(top) for top in tops], device=waveform.device)
        top = pad_sequence(list(tops), batch_first=True).to(waveform.device)
        if encoder.varies:
            return self._above(top, frames)
        assert self._first is not None
        above = encoder.run_blocks(top, frames, self._first, n_blocks)
        return torch.cat([torch.stack(pooled).to(top.device), _pooled(above, frames)], 1)

    def _above(self, features: Tensor, frames: Tensor) -> Tensor:
        features, frames = self._encoder.change_voice(features, frames)
        hidden = self._encoder.enter(features, frames)
        blocks = self._encoder.run_blocks(hidden, frames, 0, len(self._encoder.layers))
        return _pooled([hidden, *blocks], frames)

    def _once(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """The last output (frames, n) of the frozen part, and its layers pooled."""
        if self._kept is None:
            return self._run(clip)
        key = hashlib.blake2b(clip.cpu().numpy().tobytes(), digest_size=16).digest()
        found = self._kept.get(key)
        if found is None:
            found = self._run(clip)
            self._left -= sum(part.numel() * part.element_size() for part in found)
            if self._left >= 0:
                self._kept[key] = found
        return found

    def _run(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        encoder, first = self._encoder, self._first
        assert first is not None
        training = encoder.training
        encoder.eval()
        lengths = torch.tensor([clip.shape[1]], device=clip.device)
        with torch.no_grad(), torch.autocast(clip.device.type, enabled=False):
            top, frames = encoder.analyse(clip, lengths)
            pooled = top.new_empty(1, 0)
            if not encoder.varies:
                hidden = encoder.enter(top, frames)
                states = [hidden, *encoder.run_blocks(hidden, frames, 0, first)]
                top, pooled = states[-1], _pooled(states, frames)
        encoder.train(training)
        return top[0].cpu(), pooled[0].cpu()


def first_trained(encoder: SpeechEncoder) -> int | None:
    """The first block that is trained; None where something below the blocks is, or nothing."""
    in_blocks = {id(weight) for weight in encoder.layers.parameters()}
    if any(p.requires_grad and id(p) not in in_blocks for p in encoder.parameters()):
        return None
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in encoder.layers]
    return trained.index(True) if any(trained) else None


def _pooled(states: list[Tensor], frames: Tensor) -> Tensor:
    """Layers of (batch, frames, width) -> (batch, layers, 2 * width)."""
    return torch.stack([masked_mean_std(state.float(), frames) for state in states], 1)
