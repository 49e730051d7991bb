"""Dropout whose masks cost little on a processor."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

RATE_STEPS = 256
"""Rates are multiples of 1/256: a byte of randomness a value."""


def nearest_rate(rate: float) -> float:
    """The rate that `zeroed` meets exactly; 0.5 stays 0.5."""
    return round(rate * RATE_STEPS) / RATE_STEPS


def zeroed(values: Tensor, rate: float) -> Tensor:
    """The values, each set to zero with this probability; the others are not scaled.

    On a processor torch's own dropout spends 10 ms on the mask of a million values (64 clips of 11
    wav2vec2-base layers, one core), random bytes compared with a threshold .3 ms. The bytes are
    SFC64's, seeded by torch's generator: they repeat where torch's numbers do.
    """
    if values.device.type != "cpu":
        return values * torch.empty_like(values).bernoulli_(1 - rate)
    seed = int(torch.randint(2**63 - 1, ()))
    words = np.random.SFC64(seed).random_raw(-(-values.numel() // 8))
    kept = words.view(np.uint8)[: values.numel()] >= round(rate * RATE_STEPS)
    mask = torch.from_numpy(kept.view(np.uint8)).view(values.shape)  # a bool tensor: 2.5 × slower
    return values * mask


class Dropout(nn.Dropout):
    """torch's dropout layer; on a CPU its masks are by `zeroed`, its rate the nearest 1/256."""

    def forward(self, input: Tensor) -> Tensor:
        """Of any shape."""
        return dropped(input, self.p) if self.training else input


def dropped(values: Tensor, rate: float) -> Tensor:
    """Dropout as in training: zeroed at this rate, the others scaled up to the same mean."""
    rounded = nearest_rate(rate)
    if values.device.type != "cpu" or rounded in (0, 1):
        return nn.functional.dropout(values, rate)
    return zeroed(values, rounded).mul_(1 / (1 - rounded))


def use_byte_masks(module: nn.Module) -> None:
    """Turn every plain dropout layer of a module into `Dropout`, in place."""
    for part in module.modules():
        if type(part) is nn.Dropout:
            part.__class__ = Dropout


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention as transformers calls it, with dropout on a CPU by `dropped`.

    Args:
        module: whose attention it is.
        query, key, value: (batch, heads, frames, features).
        attention_mask: True where there is something to attend to, broadcast to the weights.
        dropout: of the weights.
        scaling: of the products; by default one over the root of the features.
        extra: for transformers' own function, which does all that is without dropout.

    Returns:
        (batch, frames, heads, features), and no weights.
    """
    if not dropout or query.device.type != "cpu":
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **extra
        )
        return plain
    weights = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, torch.finfo(weights.dtype).min)
    return (dropped(weights.softmax(-1), dropout) @ value).transpose(1, 2), None
