"""TIM-Net as one writes it down with PyTorch's own layers: what ours is compared with."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Half(nn.Module):
    """Causal convolution, normalisation, ReLU, dropout of channels: (batch, channels, time)."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv1d(width, width, 2, dilation=dilation)
        self.norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)
        self.dropout = nn.Dropout1d(0.1)

    def forward(self, sequence: Tensor) -> Tensor:
        """As long as it came."""
        return self.dropout(self.norm(self.conv(F.pad(sequence, (self.dilation, 0)))).relu())


class Branch(nn.Module):
    """One direction: every block's output."""

    def __init__(self, width: int, n_blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(width, width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(Half(width, 2**j), Half(width, 2**j), nn.Sigmoid())
            for j in range(n_blocks)
        )

    def forward(self, sequence: Tensor) -> list[Tensor]:
        """(batch, channels, time) -> n_blocks of the same shape."""
        outputs = [self.stem(sequence)]
        for block in self.blocks:
            outputs.append(outputs[-1] * block(outputs[-1]))
        return outputs[1:]


class StraightTimNet(nn.Module):
    """Both directions, the blocks' means, their weighted sum and the classes."""

    def __init__(self, width: int, n_blocks: int, n_classes: int) -> None:
        super().__init__()
        self.ahead, self.back = Branch(width, n_blocks), Branch(width, n_blocks)
        self.fusion = nn.Parameter(torch.full((n_blocks,), 1.0 / n_blocks))
        self.head = nn.Linear(width, n_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, time, width) -> logits (batch, n_classes)."""
        sequence = frames.transpose(1, 2)
        both = zip(self.ahead(sequence), self.back(sequence.flip(2)), strict=True)
        scales = torch.stack([(one + other).mean(2) for one, other in both], 2)
        return self.head(scales @ self.fusion)
