"""Whisper's encoder behind the forward of `SpeechEncoder`."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from ser.models.pooling import mask_of
from ser.models.speech_encoder import RECEPTIVE_FIELD, SpeechEncoder, fill_up, padding_mask
from ser.onednn import use_onednn

_SAMPLE_RATE_HZ = 16_000


class WhisperEncoder(SpeechEncoder):
    """Whisper's encoder with its context cropped to the clip, in place of 30 s of mostly padding.

    The waveform is scaled to a peak of 0.9 and turned into Whisper's log-mel spectrogram, whose
    frames past the clip are dropped; the positions are sliced: on a clip of 3.6 s an eighth of the
    operations. A clip over 30 s is encoded in pieces of 30 s, whose frames are joined.
    """

    _PEAK = 0.9
    _N_FFT = 400
    _HOP = 160
    _FRAME = 320
    """Samples a frame: a hop of the mel and the second convolution's stride."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap transformers' WhisperEncoder, whose module names stay as they are."""
        super().__init__()
        self.model: Any = model
        config: Any = model.config
        self.n_layers, self.width = config.encoder_layers + 1, config.d_model
        self._max_frames: int = config.max_source_positions
        filters = melscale_fbanks(
            self._N_FFT // 2 + 1, 0.0, 8000.0, config.num_mel_bins, _SAMPLE_RATE_HZ,
            norm="slaney", mel_scale="slaney",
        ).T.float().contiguous()  # fmt: skip
        self.mel_filters: Tensor
        self.hann_window: Tensor
        self.register_buffer("mel_filters", filters, persistent=False)
        window = torch.hann_window(self._N_FFT, dtype=torch.float32)
        self.register_buffer("hann_window", window, persistent=False)
        use_onednn(self)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer's blocks."""
        layers: nn.ModuleList = self.model.layers
        return layers

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """One frame every 320 samples (20 ms), the last one begun counted."""
        return (lengths.clamp(min=RECEPTIVE_FIELD) + self._FRAME - 1) // self._FRAME

    def analyse(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The log-mel spectrogram, two of its frames side by side: (batch, frames, 2 * mels)."""
        waveform, lengths = fill_up(waveform, lengths)
        peak = waveform.abs().amax(dim=1, keepdim=True)
        waveform = waveform * (self._PEAK / peak.clamp(min=1e-8))
        frames = self.frame_lengths(lengths)
        mels = []
        for piece, of_piece in self._windows(waveform, lengths, self._max_frames * self._FRAME):
            n_frames = -(-piece.shape[1] // self._FRAME)
            mel_frames = 2 * ((of_piece + self._FRAME - 1) // self._FRAME)
            mel = self._log_mel(piece, mel_frames, 2 * n_frames).transpose(1, 2)
            mels.append(mel.reshape(len(mel), n_frames, -1))
        return torch.cat(mels, dim=1), frames

    def change_voice(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """As `SpeechEncoder.change_voice`, on single frames of the spectrogram."""
        if self.voice is None or not self.training:
            return features, frames
        batch, n_frames, n = features.shape
        mel, lengths = self.voice(features.reshape(batch, 2 * n_frames, n // 2), 2 * frames)
        frames = (lengths // 2).clamp(min=1)  # an odd one at the end is left out
        missing = max(0, 2 * int(frames.max()) - mel.shape[1])
        mel = nn.functional.pad(mel, (0, 0, 0, missing))[:, : 2 * int(frames.max())]
        return mel.reshape(batch, -1, n), frames

    def enter(self, features: Tensor, frames: Tensor) -> Tensor:
        """Masks, two convolutions and the positions, at most a window at a time."""
        pieces = []
        for piece, of_piece in self._windows(features, frames, self._max_frames):
            n_frames = piece.shape[1]
            mel = piece.reshape(len(piece), 2 * n_frames, -1)
            mel = self._masked(mel, 2 * of_piece).transpose(1, 2)
            hidden = nn.functional.gelu(self.model.conv1(mel.to(self.model.conv1.weight.dtype)))
            hidden = nn.functional.gelu(self.model.conv2(hidden)).transpose(1, 2)
            pieces.append(hidden + self.model.embed_positions.weight[:n_frames])
        return torch.cat(pieces, dim=1)

    def run_blocks(self, hidden: Tensor, frames: Tensor, first: int, last: int) -> list[Tensor]:
        """As `SpeechEncoder.run_blocks`, at most a window at a time."""
        pieces = [
            self._run_window(piece, of_piece, first, last)
            for piece, of_piece in self._windows(hidden, frames, self._max_frames)
        ]
        return (
            pieces[0] if len(pieces) == 1 else [torch.cat(p, 1) for p in zip(*pieces, strict=True)]
        )

    def _run_window(self, hidden: Tensor, frames: Tensor, first: int, last: int) -> list[Tensor]:
        # a clip that ended in an earlier window attends to a frame, so that nothing becomes NaN
        mask = padding_mask(frames.clamp(min=1), hidden.shape[1])
        if mask is not None:
            mask = mask[:, None, None].expand(-1, 1, hidden.shape[1], -1)
        states = []
        for layer in self.layers[first:last]:
            output = layer(hidden, mask)
            hidden = output[0] if isinstance(output, tuple) else output
            states.append(hidden)
        if last == len(self.layers):
            states[-1] = self.model.layer_norm(states[-1])
        return states

    @staticmethod
    def _windows(values: Tensor, lengths: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Pieces of `size` steps with the lengths there; 0 for a clip that ended before."""
        for start in range(0, values.shape[1], size):
            yield values[:, start : start + size], (lengths - start).clamp(0, size)

    def _log_mel(self, waveform: Tensor, mel_frames: Tensor, n_mel_frames: int) -> Tensor:
        """(batch, samples) to (batch, mels, n_mel_frames), zero past each clip's frames.

        WhisperFeatureExtractor's numbers: log10 of the power, at most 8 below the clip's largest.
        """
        missing = n_mel_frames * self._HOP + self._N_FFT - waveform.shape[1]
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                nn.functional.pad(waveform.float(), (0, missing)), self._N_FFT, self._HOP,
                window=self.hann_window, return_complex=True,
            )[..., :n_mel_frames]  # fmt: skip
            power = torch.view_as_real(spectrum).square().sum(-1)
            log_mel = (self.mel_filters @ power).clamp(min=1e-10).log10()
            mask = mask_of(mel_frames, n_mel_frames)[:, None]
            largest = log_mel.masked_fill(~mask, -10.0).amax(dim=(1, 2), keepdim=True)
            return ((torch.maximum(log_mel, largest - 8.0) + 4.0) / 4.0) * mask
