"""What an encoder's frozen lower part gives for a clip, computed once and kept."""

import hashlib
from collections.abc import Hashable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ser.models.pooling import masked_mean_std
from ser.models.speech_encoder import SpeechEncoder

LIMIT_BYTES = 4 * 2**30
"""Kept of all clips, 0.8 GiB for RAVDESS's 1,440 (wav2vec2-base); others are computed anew."""


Kept = tuple[Tensor, Tensor]


class FrozenPart:
    """Pools every layer of an encoder; once started, runs what is not trained once a clip.

    A clip is known by its samples, so an augmented copy is another clip. What training meets for
    the first time is not kept: with margins cut at random or clips mixed it never comes again. The
    frozen part then runs as in evaluation, without dropout, on a CPU in float32: its output is
    fixed. Where the encoder has another voice or masks, drawn anew each time, it ends before them.
    In evaluation it runs apart, started or not, so that a model read back gives the very same
    logits.
    """

    def __init__(self, encoder: SpeechEncoder) -> None:
        """Take an encoder whose trained weights ask for gradients; nothing is kept yet."""
        self._encoder = encoder
        self._first = first_trained(encoder)
        self._kept: dict[Hashable, Kept] | None = None
        self._met: set[Hashable] = set()
        self._left = 0

    def start(self) -> None:
        """Forget what was kept, and keep from now on; without effect where all is trained."""
        if self._first is not None:
            self._kept, self._met = {}, set()
            self._left = _limit(next(self._encoder.parameters()).device)

    def embed(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Mean and deviation over time of every layer: (batch, layers, 2 * width)."""
        encoder, n_blocks = self._encoder, len(self._encoder.layers)
        apart = self._first is not None and (self._kept is not None or not encoder.training)
        if not apart or waveform.requires_grad:
            features, frames = encoder.analyse(waveform, lengths)
            return self._above(features, frames)
        tops, pooled = zip(*self._known(waveform, lengths), strict=True)
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

    def _known(self, waveform: Tensor, lengths: Tensor) -> list[Kept]:
        """Of each clip the last output (frames, n) of the frozen part, and its layers pooled."""
        kept = self._kept
        if kept is None:
            return self._run(waveform, lengths)
        keys = keys_of(waveform, lengths)
        new = [row for row, key in enumerate(keys) if key not in kept]
        found = dict(zip(new, self._run(waveform[new], lengths[new]) if new else [], strict=True))
        for row, parts in found.items():
            if self._encoder.training and keys[row] not in self._met:
                self._met.add(keys[row])
                continue
            self._left -= sum(part.numel() * part.element_size() for part in parts)
            if self._left >= 0:
                kept[keys[row]] = parts
        return [found[row] if row in found else kept[key] for row, key in enumerate(keys)]

    def _run(self, waveform: Tensor, lengths: Tensor) -> list[Kept]:
        """On a CPU clip by clip, where nothing is padded; on a GPU all at once."""
        encoder = self._encoder
        training = encoder.training
        encoder.eval()
        on_cpu = waveform.device.type == "cpu"
        sizes = [1] * len(lengths) if on_cpu else [len(lengths)]
        parts: list[Kept] = []
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            pairs = zip(torch.split(waveform, sizes), torch.split(lengths, sizes), strict=True)
            for clips, own in pairs:
                parts += self._run_batch(clips[:, : int(own.max())], own)
        encoder.train(training)
        return parts

    def _run_batch(self, waveform: Tensor, lengths: Tensor) -> list[Kept]:
        encoder, first = self._encoder, self._first
        assert first is not None
        top, frames = encoder.analyse(waveform, lengths)
        pooled = top.new_empty(len(top), 0)
        if not encoder.varies:
            hidden = encoder.enter(top, frames)
            states = [hidden, *encoder.run_blocks(hidden, frames, 0, first)]
            top, pooled = states[-1], _pooled(states, frames)
        counts = frames.tolist()
        return [(clip[:n].clone(), own) for clip, n, own in zip(top, counts, pooled, strict=True)]


def _limit(device: torch.device) -> int:
    """Bytes to keep where they are computed: on a GPU at most a quarter of what is free."""
    if device.type == "cpu":
        return LIMIT_BYTES
    return min(LIMIT_BYTES, torch.cuda.mem_get_info(device)[0] // 4)


def keys_of(waveform: Tensor, lengths: Tensor) -> list[Hashable]:
    """What tells clips apart: a hash of the samples."""
    if waveform.device.type == "cpu":
        clips = zip(waveform.numpy(), lengths.tolist(), strict=True)
        return [hashlib.blake2b(clip[:n].tobytes(), digest_size=16).digest() for clip, n in clips]
    return list(map(tuple, torch.stack([*sums_of(waveform, lengths), lengths], 1).tolist()))


def sums_of(waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Two sums (batch,) of a clip's bits, modulo 2**64, each with its own factors of the places.

    On a GPU this takes the time of one pass over the samples; only the sums are fetched from it.
    """
    place = torch.arange(waveform.shape[1], device=waveform.device)
    bits = waveform.contiguous().view(torch.int32).long() * (place < lengths[:, None])
    sums = []
    for start in (0x2545F4914F6CDD1D, 0x5851F42D4C957F2D):
        factor = (place + 1) * start
        for shift, odd in ((29, 0x3F58476D1CE4E5B9), (32, 0x14D049BB133111EB)):
            factor = (factor ^ (factor >> shift)) * odd  # splitmix64, Steele et al. 2014
        sums.append((bits * (factor ^ (factor >> 31))).sum(1))
    return sums[0], sums[1]


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
