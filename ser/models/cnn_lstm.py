"""Two convolutions, a bidirectional LSTM and attentive pooling over the frames."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ser.batch import Batch
from ser.models.base import Batches, EmotionModel, check_choice, require, stream_shape
from ser.models.pooling import AttentivePooling, FrameScaler, mask_of

KERNEL = 5  # frames


class MaskedConv(nn.Module):
    """Convolution of stride 2, layer norm and ReLU; past a clip's end there are zeros."""

    def __init__(self, n_inputs: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_inputs, channels, KERNEL, stride=2, padding=KERNEL // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, frames: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, n_inputs), (batch,) -> half the time, rounded up, and its lengths."""
        frames = frames * mask_of(length, frames.shape[1])[..., None]
        frames = self.conv(frames.transpose(1, 2)).transpose(1, 2)
        return self.norm(frames).relu(), (length + 1) // 2


class CnnLstm(EmotionModel):
    """Convolution for the local pattern, LSTM for the order, attention for the moments that count.

    Args:
        n_classes: number of classes.
        streams: trailing shapes of the streams given.
        channels: of both convolutions.
        hidden: units of the LSTM in each direction.
        dropout: before the LSTM and before the classes.
        normalise: none, train, global or clip, as in TimNet.
    """

    def __init__(
        self,
        n_classes: int,
        streams: Mapping[str, tuple[int, ...]],
        channels: int,
        hidden: int,
        dropout: float,
        normalise: str,
    ) -> None:
        super().__init__(n_classes, self.reads_of({}))
        (n_features,) = stream_shape("CnnLstm", streams, "frames")
        check_choice("normalise", normalise, FrameScaler.KINDS)
        self.scaler = None if normalise == "none" else FrameScaler(n_features, normalise)
        self.convs = nn.ModuleList(
            [MaskedConv(n_features, channels), MaskedConv(channels, channels)]
        )
        self.lstm = nn.LSTM(channels, hidden, batch_first=True, bidirectional=True)
        self.pooling = AttentivePooling(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * hidden, n_classes)

    @classmethod
    def reads_of(cls, options: Mapping[str, Any]) -> frozenset[str]:
        """Frames."""
        return frozenset({"frames"})

    def fit(self, batches: Batches) -> None:
        """Take the features' statistics over the train split."""
        if self.scaler is not None:
            self.scaler.fit(
                (require(b.frames, "frames"), require(b.frames_length, "frames_length"))
                for b in batches()
            )

    def forward(self, batch: Batch) -> Tensor:
        """Logits (batch, n_classes)."""
        frames = require(batch.frames, "frames")
        length = require(batch.frames_length, "frames_length")
        if self.scaler is not None:
            frames = self.scaler(frames, length)
        for conv in self.convs:
            frames, length = conv(frames, length)
        packed = pack_padded_sequence(
            self.dropout(frames), length.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        logits: Tensor = self.head(self.dropout(self.pooling(states, length)))
        return logits
